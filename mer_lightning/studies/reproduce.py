"""`mer-lightning reproduce`: every experiment by every seed, and a report.

Resumable: a run that ended is not made again, and one that was killed goes on where it was. Corpora that are not there
are replaced by their synthetic twins, and every such row says so.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mer_lightning.errors import Refusal
from mer_lightning.studies.jobs import Job, run_silently
from mer_lightning.studies.pool import run_all
from mer_lightning.studies.progress import Progress
from mer_lightning.studies.report.files import write_report
from mer_lightning.yaml_text import from_yaml

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console


@dataclass(frozen=True)
class Budget:
    """The same for all compared methods (rule 8)."""

    epochs: int
    seeds: int
    samples: int | None  # of a synthetic twin
    seconds: float  # what a run takes on one core, measured; for the announcement only


BUDGETS = {
    "quick": Budget(epochs=4, seeds=3, samples=600, seconds=20),
    "paper": Budget(epochs=40, seeds=5, samples=None, seconds=160),
}


_NOT_QUICK = ("_unaligned", "_iemocap", "_mosei_emotions")


@dataclass(frozen=True)
class Planned:
    """One run of the reproduction."""

    experiment: Path
    seed: int
    synthetic: bool
    budget: str
    runs: Path

    @property
    def group(self) -> str:
        return f"{self.experiment.stem}{'-synthetic' if self.synthetic else ''}"

    @property
    def job(self) -> Job:
        budget = BUDGETS[self.budget]
        given = ["--config", str(self.experiment), "--seed_everything", str(self.seed)]
        given += ["--trainer.max_epochs", str(budget.epochs)]
        if self.synthetic:
            given += ["--data.synthetic", "true"]
            given += ["--data.samples", str(budget.samples)] if budget.samples else []
        return Job(self.runs / self.budget / self.group / f"seed-{self.seed}", tuple(given), (self.experiment,))


def main(args: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="mer-lightning reproduce", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="experiments, as files or by their names (default: all)")
    parser.add_argument("--budget", choices=BUDGETS, default="quick")
    parser.add_argument("--experiments", type=Path, default=Path("experiments"), help="folder of the experiments")
    parser.add_argument("--runs", type=Path, default=Path("runs/reproduce"), help="where runs are kept")
    given = parser.parse_args(args)

    from rich.console import Console

    console = Console()
    planned = _planned(given.names, given.experiments, given.budget, given.runs)
    _announce(console, planned, given.budget)
    failed = _run(console, planned)
    done = [run for run in planned if run.job.done]
    _report(console, done)
    if done:
        output = given.runs / given.budget / "report"
        write_report([run.job.folder for run in done], "supervised", output)
        console.print(f"\nreport: {output / 'report.html'}", highlight=False)
    return 1 if failed else 0


def _planned(names: list[str], folder: Path, budget: str, runs: Path) -> list[Planned]:
    files = [_file(name, folder) for name in names] or _all(folder, budget)
    if not files:
        raise Refusal(folder, "experiments (*.yaml)", "none", "run from the project's folder or name one")
    there = {file: _is_there(file) for file in files}
    seeds = range(1111, 1111 + BUDGETS[budget].seeds)
    return [Planned(file, seed, not there[file], budget, runs) for seed in seeds for file in files]


def _all(folder: Path, budget: str) -> list[Path]:
    """Every experiment; the quick budget leaves out unaligned features and second views of a corpus."""
    files = sorted(folder.glob("*.yaml"))
    if budget == "quick":
        files = [file for file in files if not file.stem.endswith(_NOT_QUICK)]
    return files


def _file(name: str, folder: Path) -> Path:
    for path in (Path(name), folder / f"{name}.yaml"):
        if path.is_file():
            return path
    known = ", ".join(path.stem for path in sorted(folder.glob("*.yaml")))
    raise Refusal(name, f"an experiment among {known}", "nothing of that name", f"see {folder}/")


def _is_there(experiment: Path) -> bool:
    from mer_lightning.data.places import find_corpus

    data = from_yaml(experiment.read_text())["data"]
    try:
        find_corpus(data["corpus"], data.get("alignment", "aligned"))
    except Refusal:
        return False
    return True


def _announce(console: Console, planned: list[Planned], budget: str) -> None:
    waiting = sum(not run.job.done for run in planned)
    twins = sorted({run.experiment.stem for run in planned if run.synthetic})
    minutes = waiting * BUDGETS[budget].seconds / 60 / (os.cpu_count() or 1)
    console.print(
        f"{len(planned)} runs, {len(planned) - waiting} done, about {minutes:.0f} min for the others on this machine"
    )
    if twins:
        console.print(
            f"[yellow]synthetic twins[/] stand in for the data of {', '.join(twins)}: their corpora are not here"
        )


def _run(console: Console, planned: list[Planned]) -> int:
    """Run what is not done, one run per core at a time; how many failed."""
    failed, workers = 0, os.cpu_count() or 1
    by_folder = {run.job.folder: run for run in planned}
    with Progress(console, [run.group for run in planned]) as progress:
        for run in planned:
            if run.job.done:
                progress.skipped(run.group, run.job.run_folder)
        jobs = iter([run.job for run in planned if not run.job.done])
        for outcome in run_all(jobs, run_silently, workers, lambda job: progress.started(by_folder[job.folder].group)):
            run = by_folder[outcome.item.folder]
            label = f"{run.group}/{run.job.folder.name}"
            if outcome.error is None:
                progress.ended(run.group, label, outcome.result, run.job.run_folder)
            else:
                failed += 1
                progress.failed(run.group, label, outcome.error)
    return failed


def _report(console: Console, planned: list[Planned]) -> None:
    from mer_lightning.data.corpus import CorpusCard
    from mer_lightning.evaluation.results import table
    from mer_lightning.tasks import task_from_card
    from mer_lightning.training.run_folder import CORPUS

    groups: dict[str, list[Job]] = {}
    for run in planned:
        groups.setdefault(run.group, []).append(run.job)
    for group, jobs in groups.items():
        card = CorpusCard(**from_yaml((jobs[0].run_folder / CORPUS).read_text()))
        title = f"{card.label}: {group}, {len(jobs)} seeds, mean ± deviation"
        console.print()
        console.print(table(_rows(jobs), task_from_card(card.task), title))


def _rows(jobs: list[Job]) -> pd.DataFrame:
    import pandas as pd

    return pd.concat([pd.read_csv(job.results) for job in jobs], ignore_index=True)

"""`mer-lightning reproduce`: every experiment by every seed, and one table for each corpus.

Resumable: a run is known by the arguments that made it, and one that ended with the same arguments is not made again.
Corpora that are not there are replaced by their synthetic twins, and every such row says so.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from mer_lightning.errors import Refusal

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

_JOB = "job.json"


@dataclass(frozen=True)
class Budget:
    """The same for all compared methods (rule 8)."""

    epochs: int
    seeds: int
    seconds: float  # what a run takes on two cores, measured; for the announcement only


BUDGETS = {
    "quick": Budget(epochs=6, seeds=3, seconds=25),
    "paper": Budget(epochs=40, seeds=5, seconds=160),
}


@dataclass(frozen=True)
class Job:
    experiment: Path
    seed: int
    synthetic: bool
    budget: str
    runs: Path

    @property
    def folder(self) -> Path:
        twin = "-synthetic" if self.synthetic else ""
        return self.runs / self.budget / f"{self.experiment.stem}{twin}" / f"seed-{self.seed}"

    @property
    def label(self) -> str:
        return str(self.folder.relative_to(self.runs))

    @property
    def arguments(self) -> list[str]:
        given = ["fit", "--config", str(self.experiment), "--seed_everything", str(self.seed)]
        given += ["--trainer.max_epochs", str(BUDGETS[self.budget].epochs), "--trainer.enable_progress_bar", "false"]
        given += ["--trainer.enable_model_summary", "false", "--run_dir", str(self.folder)]
        if self.synthetic:
            given += ["--data.synthetic", "true"]
        return given

    @property
    def done(self) -> bool:
        from mer_lightning.training.run_folder import RESULTS

        job = self.folder / _JOB
        same = job.is_file() and json.loads(job.read_text()) == self._identity()
        return same and (self.folder / RESULTS).is_file()

    def run(self) -> None:
        from mer_lightning.training.lightning_cli import run
        from mer_lightning.training.run_folder import RESULTS, write_whole

        (self.folder / RESULTS).unlink(missing_ok=True)
        run(self.arguments)
        write_whole(self.folder / _JOB, json.dumps(self._identity()))

    def _identity(self) -> list[str]:
        """The arguments, and what the experiment says: editing the file makes its runs stale."""
        from mer_lightning import __version__

        return [__version__, *self.arguments, self.experiment.read_text()]


def main(args: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="mer-lightning reproduce", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="experiments, as files or by their names (default: all)")
    parser.add_argument("--budget", choices=BUDGETS, default="quick")
    parser.add_argument("--experiments", type=Path, default=Path("experiments"), help="folder of the experiments")
    parser.add_argument("--runs", type=Path, default=Path("runs/reproduce"), help="where runs are kept")
    given = parser.parse_args(args)

    from rich.console import Console

    console = Console()
    jobs = _jobs(given.names, given.experiments, given.budget, given.runs)
    _announce(console, jobs, given.budget)
    _run_all(console, [job for job in jobs if not job.done])
    _report(console, jobs)
    return 0


def _jobs(names: list[str], folder: Path, budget: str, runs: Path) -> list[Job]:
    files = [_file(name, folder) for name in names] or sorted(folder.glob("*.yaml"))
    if not files:
        raise Refusal(folder, "experiments (*.yaml)", "none", "run from the project's folder or name one")
    return [
        Job(file, seed, synthetic=not _is_there(file), budget=budget, runs=runs)
        for file in files
        for seed in range(1111, 1111 + BUDGETS[budget].seeds)
    ]


def _file(name: str, folder: Path) -> Path:
    for path in (Path(name), folder / f"{name}.yaml"):
        if path.is_file():
            return path
    known = ", ".join(path.stem for path in sorted(folder.glob("*.yaml")))
    raise Refusal(name, f"an experiment among {known}", "nothing of that name", f"see {folder}/")


def _is_there(experiment: Path) -> bool:
    from mer_lightning.data.places import find_corpus

    data = yaml.safe_load(experiment.read_text())["data"]
    try:
        find_corpus(data["corpus"], data.get("alignment", "aligned"))
    except Refusal:
        return False
    return True


def _announce(console: Console, jobs: list[Job], budget: str) -> None:
    waiting = [job for job in jobs if not job.done]
    twins = sorted({job.experiment.stem for job in jobs if job.synthetic})
    minutes = len(waiting) * BUDGETS[budget].seconds / 60
    console.print(
        f"{len(jobs)} runs, {len(jobs) - len(waiting)} done, about {minutes:.0f} min for the others on 2 cores"
    )
    if twins:
        console.print(
            f"[yellow]synthetic twins[/] stand in for the data of {', '.join(twins)}: their corpora are not here"
        )


def _run_all(console: Console, jobs: list[Job]) -> None:
    """One run per core at a time, each on one thread: faster than one run on all cores."""
    workers = min(os.cpu_count() or 1, len(jobs))
    if not jobs:
        return
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mer_lightning.training.lightning_cli"])
    with (
        ProcessPoolExecutor(workers, mp_context=context, initializer=_one_thread) as pool,
        console.status(f"0 of {len(jobs)} runs done") as status,
    ):
        futures = {pool.submit(_run_silently, job): job for job in jobs}
        for number, future in enumerate(as_completed(futures), start=1):
            console.print(f"[{number}/{len(jobs)}] {futures[future].label}: {future.result():.0f} s", highlight=False)
            status.update(f"{number} of {len(jobs)} runs done")


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def _run_silently(job: Job) -> float:
    """Seconds that a run took. What Lightning says is for one run at a time; what matters of many is in the tables."""
    started = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        job.run()
    return time.perf_counter() - started


def _report(console: Console, jobs: list[Job]) -> None:
    from mer_lightning.data.corpus import CorpusCard
    from mer_lightning.evaluation.results import table
    from mer_lightning.tasks import task_from_card
    from mer_lightning.training.run_folder import CORPUS

    groups: dict[Path, list[Job]] = {}
    for job in jobs:
        groups.setdefault(job.folder.parent, []).append(job)
    for folder, members in groups.items():
        card = CorpusCard(**yaml.safe_load((members[0].folder / CORPUS).read_text()))
        rows = _rows(members)
        title = f"{card.label}: {folder.name}, {len(members)} seeds, mean ± deviation"
        console.print()
        console.print(table(rows, task_from_card(card.task), title))


def _rows(jobs: list[Job]) -> pd.DataFrame:
    import pandas as pd

    from mer_lightning.training.run_folder import RESULTS

    return pd.concat([pd.read_csv(job.folder / RESULTS) for job in jobs], ignore_index=True)

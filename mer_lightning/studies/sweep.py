"""`mer-lightning sweep FILE`: many trials of one sweep file, here or on a Ray cluster, chosen by validation only.

The same file runs under `wandb sweep` and `wandb agent`. A sweep that was killed goes on: no trial is lost or doubled.
"""

from __future__ import annotations

import argparse
import os
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mer_lightning.errors import Refusal
from mer_lightning.studies.jobs import Job, run_silently
from mer_lightning.studies.pool import run_all
from mer_lightning.studies.search import Search, Trial
from mer_lightning.studies.sweep_file import canonical, read_sweep
from mer_lightning.training.run_folder import metrics_over_time

if TYPE_CHECKING:
    from rich.console import Console

_SCORE = "valid/score"


@dataclass(frozen=True)
class Work:
    """What a worker needs of a trial: one job for each repetition, and where a better and a worse epoch can be read."""

    trial: Trial
    jobs: tuple[Job, ...]
    metric: str
    maximize: bool


def main(args: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="mer-lightning sweep", description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="a sweep file in W&B's grammar, see docs/how-to/sweeps.md")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="runs at a time (default: one per core)"
    )
    parser.add_argument("--max_runs", type=int, default=None, help="trials, where the file has no run_cap")
    parser.add_argument("--runs", type=Path, default=Path("runs/sweeps"), help="where sweeps are kept")
    parser.add_argument("--executor", choices=("local", "ray"), default="local")
    parser.add_argument("--address", default=None, help="of a Ray cluster; default: one on this machine")
    parser.add_argument("--gpus", type=float, default=0.0, help="GPUs for each trial under Ray; may be a fraction")
    given = parser.parse_args(args)

    from rich.console import Console

    console = Console()
    sweep = read_sweep(given.file)
    trials = given.max_runs or sweep.trials
    if trials is None:
        raise Refusal(given.file, "run_cap", f"none, and {sweep.method} does not end", "add it, or --max_runs")
    folder = given.runs / sweep.name
    search = Search(sweep, folder, trials)
    works = (_work(trial, search, folder) for trial in search.waiting())
    over = sum(state not in ("running", "waiting") for _, state, _ in search.finished())
    console.print(f"{sweep.name}: {trials} trials by {sweep.method}, {over} over, {given.workers} at a time; {folder}")
    if given.executor == "ray":
        from mer_lightning.studies.ray_executor import run_all_on_ray

        outcomes = run_all_on_ray(works, run_trial, given.workers, given.address, given.gpus)
    else:
        outcomes = run_all(works, run_trial, given.workers)
    for outcome in outcomes:
        trial = outcome.item.trial
        value = None if outcome.error else outcome.result
        pruned = _pruned(search, trial)
        search.tell(trial, value, pruned)
        over += 1
        said = "failed: " + outcome.error.strip().splitlines()[-1] if outcome.error else f"{sweep.metric} {value:.4f}"
        console.print(f"[{over}/{trials}] trial {trial.number}: {said}{', pruned' if pruned else ''}", highlight=False)
    _show(console, search, folder)
    return 0


def run_trial(work: Work) -> float:
    """The mean over repetitions of the best validation score."""
    for job in work.jobs:
        run_silently(job)
    return statistics.fmean(_best(job.run_folder, work.metric, work.maximize) for job in work.jobs)


def _work(trial: Trial, search: Search, folder: Path) -> Work:
    sweep, jobs = search.sweep, []
    for number, repetition in enumerate(sweep.repeat):
        name = f"trial-{trial.number:04d}" + (f"-{number}" if len(sweep.repeat) > 1 else "")
        file = folder / f"{name}.json"
        text = canonical(trial.overrides | repetition)
        if not file.is_file() or file.read_text() != text:
            file.write_text(text)
        given = sweep.arguments(trial.overrides | repetition, file)
        if sweep.early_terminate and len(sweep.repeat) == 1:
            given += ["--trainer.callbacks+=mer_lightning.studies.pruning.Pruning"]
            for option, value in (("storage", search.storage), ("study", sweep.name), ("trial", trial.id)):
                given += [f"--trainer.callbacks.{option}={value}"]
        configs = tuple(
            path for token in given if (path := Path(token)).suffix in (".yaml", ".json") and path.is_file()
        )
        jobs.append(Job(folder / name, tuple(given), configs))
    return Work(trial, tuple(jobs), sweep.metric, sweep.maximize)


def _best(run: Path, metric: str, maximize: bool) -> float:
    """The best epoch's value."""
    values = metrics_over_time(run).get(metric)
    if values is None or values.dropna().empty:
        raise Refusal(f"{run}/logs", f"the metric {metric}", "none", "name one that training logs, e.g. valid/score")
    return float(values.max() if maximize else values.min())


def _pruned(search: Search, trial: Trial) -> bool:
    from mer_lightning.studies.pruning import PRUNED

    return PRUNED in search.study.trials[trial.number].user_attrs


def _show(console: Console, search: Search, folder: Path) -> None:
    """All trials as a table on disk, the best ones on the screen."""
    import pandas as pd
    from rich import box
    from rich.table import Table

    rows: list[dict[str, Any]] = [
        {"trial": trial.number, "state": state, search.sweep.metric: value, **trial.overrides}
        for trial, state, value in search.finished()
    ]
    table = pd.DataFrame(rows).sort_values(search.sweep.metric, ascending=not search.sweep.maximize)
    table.to_csv(folder / "trials.csv", index=False)
    shown = Table(box=box.SIMPLE, title=f"best by {search.sweep.metric}", title_justify="left")
    for column in table.columns:
        shown.add_column(str(column).removeprefix("model.init_args.").removeprefix("model."))
    for _, row in table.head(5).iterrows():
        shown.add_row(*[f"{value:.4g}" if isinstance(value, float) else str(value) for value in row])
    console.print(shown)
    console.print("[dim]chosen on validation, test scores played no part[/]")
    console.print(f"[dim]{folder}/trials.csv has all of them[/]", highlight=False)

"""`mer-lightning sweep FILE`: many trials of one sweep file, here or on a Ray cluster, chosen by validation only.

The same file runs under `wandb sweep` and `wandb agent`. A sweep that was killed is resumed by the same command.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from mer_lightning import output
from mer_lightning.commands.studies import add_workers_option, study_folder
from mer_lightning.errors import Refusal
from mer_lightning.shipped import experiment_file
from mer_lightning.studies.runner import run_stream
from mer_lightning.studies.search import Search
from mer_lightning.studies.sweep_file import read_sweep
from mer_lightning.studies.sweep_storage import sweep_storage
from mer_lightning.studies.sweep_trials import SweepTrials, TrialResult, trials_table
from mer_lightning.whole_files import write_whole

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from mer_lightning.studies.executor import Executor
    from mer_lightning.studies.jobs import Job
    from mer_lightning.studies.sweep_file import Sweep


def main(args: list[str]) -> int:
    given = make_parser().parse_args(args)

    from rich.console import Console

    console = Console()
    sweep = read_sweep(experiment_file(given.file, ("sweeps",)))
    trials = given.max_runs or sweep.trials
    if trials is None:
        raise Refusal(given.file, "run_cap", f"none, and {sweep.method} does not end", "add it, or --max_runs")
    folder = given.runs / sweep.name
    # With a storage of their own, commands share the trials, and a trial is one command's.
    with nullcontext() if given.storage else study_folder(folder):
        table = _run(console, sweep, folder, trials, given)
    path = folder / "trials.csv"
    write_whole(path, table.to_csv(index=False))

    def show() -> None:
        _print_best(Console(), table, sweep.metric)
        Console().print(f"[dim]{path} has all of them[/]", highlight=False)

    output.give({"file": path, "metric": sweep.metric, "trials": table}, show)
    return 0 if (table["state"] != "fail").any() else 1


def _run(console: Console, sweep: Sweep, folder: Path, trials: int, given: argparse.Namespace) -> pd.DataFrame:
    """Runs the trials that are not over, and gives the table of all."""
    search = Search(sweep, sweep_storage(given.storage, sweep.name, folder), trials)
    over = sum(state not in ("running", "waiting") for _, state, _ in search.all_trials())
    console.print(f"{sweep.name}: {trials} trials by {sweep.method}, {over} over, {given.workers} at a time; {folder}")

    def report(result: TrialResult) -> None:
        nonlocal over
        over += 1
        console.print(f"[{over}/{trials}] {_line(result, sweep.metric)}", markup=False, highlight=False)

    stream = SweepTrials(search, folder, report)
    run_stream(_first_checked(stream.jobs()), _executor(given), stream)
    while search.wait_for_others():
        run_stream(stream.jobs(), _executor(given), stream)
    return trials_table(search)


def _first_checked(jobs: Iterator[Job]) -> Iterator[Job]:
    """A mistake in the file is refused before the first trial; what is wrong with a later one is that trial's own."""
    for job in itertools.islice(jobs, 1):
        job.refuse_early()
        yield job
    yield from jobs


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mer-lightning sweep", description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="a sweep file in W&B's grammar, see mer-lightning docs sweeps")
    add_workers_option(parser)
    parser.add_argument("--max_runs", type=int, default=None, help="trials, where the file has no run_cap")
    parser.add_argument("--runs", type=Path, default=Path("runs/sweeps"), help="where sweeps are kept")
    parser.add_argument(
        "--storage",
        help="postgresql://USER@HOST/DATABASE: this command shares the trials with others; default: a file in --runs",
    )
    parser.add_argument("--executor", choices=("local", "ray"), default="local")
    parser.add_argument("--address", default=None, help="of a Ray cluster; default: one on this machine")
    parser.add_argument("--gpus", type=float, default=0.0, help="GPUs for each run under Ray; may be a fraction")
    return parser


def _executor(given: argparse.Namespace) -> Executor:
    if given.executor == "ray":
        from mer_lightning.studies.ray_executor import RayCluster

        return RayCluster(given.workers, given.address, given.gpus)
    from mer_lightning.studies.pool import ProcessPool

    return ProcessPool(given.workers)


def _line(result: TrialResult, metric: str) -> str:
    outcome = f"failed: {result.failure}" if result.failure else f"{metric} {result.score:.4f}"
    return f"trial {result.trial.number}: {outcome}{', pruned' if result.pruned else ''}"


def _print_best(console: Console, trials: pd.DataFrame, metric: str) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE, title=f"best by {metric}", title_justify="left")
    for column in trials.columns:
        table.add_column(str(column).removeprefix("model.init_args.").removeprefix("model."))
    for _, row in trials.head(5).iterrows():
        table.add_row(*[f"{value:.4g}" if isinstance(value, float) else str(value) for value in row])
    console.print(table)
    console.print("[dim]chosen on validation, test scores played no part[/]")

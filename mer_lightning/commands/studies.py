"""What the commands of studies share: the option for workers, and the display of progress."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from mer_lightning.locks import locked
from mer_lightning.studies.folds import Folds, parts_of
from mer_lightning.studies.jobs import Job, by_group
from mer_lightning.studies.runner import Observer, run_study

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

CORES = os.cpu_count() or 1


@contextmanager
def study_folder(folder: Path) -> Iterator[None]:
    """The folder is there, and this command alone runs jobs in it: a second one would take up what is running."""
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        yield


def run_in_folder(studies: Sequence[Folds], folder: Path, workers: int, console: Console) -> bool:
    """Run what is not done, with its progress shown, and pool the folds; whether nothing failed."""
    parts = parts_of(studies)
    for same in by_group(part for part in parts if not part.done).values():
        same[0].refuse_early()  # the others of its group differ by their seeds and folds

    from mer_lightning.studies.pool import ProcessPool
    from mer_lightning.studies.pooled_folds import pool_done

    with study_folder(folder), StudyProgress(console, parts) as progress:
        failed = run_study(parts, ProcessPool(workers), progress)
        pool_done(studies)
    return not failed


def add_workers_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workers", type=_positive, default=CORES, help="runs at a time (default: one per core)")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"expected 1 or more; found {text}")
    return int(text)


@dataclass
class _Counts:
    """Jobs of one group by their state, and the best validation score of those that are done."""

    waiting: int = 0
    running: int = 0
    done: int = 0
    failed: int = 0
    best: float | None = None


class StudyProgress(Observer):
    """A table that is updated in place on a terminal; everywhere, a line for each run that ended or failed."""

    def __init__(self, console: Console, jobs: Iterable[Job]) -> None:
        from rich.live import Live

        self._console = console
        self._began = time.monotonic()
        self._groups = {group: _Counts(waiting=len(same)) for group, same in by_group(jobs).items()}
        self._live = Live(self._table(), console=console, transient=True, refresh_per_second=4)

    def __enter__(self) -> Self:
        if self._console.file.isatty():  # rich takes a pipe for a terminal where colours are asked for
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def skipped(self, job: Job) -> None:
        self._groups[job.group].waiting -= 1
        self._count_done(job)

    def started(self, job: Job) -> None:
        self._groups[job.group].waiting -= 1
        self._groups[job.group].running += 1
        self._live.update(self._table())

    def ended(self, job: Job, seconds: float) -> None:
        self._groups[job.group].running -= 1
        self._count_done(job)
        self._print(f"{job.label}: {seconds:.0f} s")

    def failed(self, job: Job, reason: str) -> None:
        from rich.markup import escape

        self._groups[job.group].running -= 1
        self._groups[job.group].failed += 1
        self._print(f"[red]{job.label} failed[/]: {escape(reason)}")

    def _count_done(self, job: Job) -> None:
        counts, score = self._groups[job.group], _validation_score(job.run_folder)
        counts.done += 1
        if score is not None:
            counts.best = score if counts.best is None else max(counts.best, score)
        self._live.update(self._table())

    def _print(self, line: str) -> None:
        over = sum(counts.done + counts.failed for counts in self._groups.values())
        jobs = over + sum(counts.waiting + counts.running for counts in self._groups.values())
        self._console.print(f"[{over}/{jobs}] {line}", highlight=False)
        self._live.update(self._table())

    def _table(self) -> Table:
        from rich import box
        from rich.table import Table

        minutes = (time.monotonic() - self._began) / 60
        table = Table(box=box.SIMPLE, padding=(0, 1), title=f"{minutes:.0f} min", title_justify="left")
        for column in ("", "done", "running", "waiting", "best on validation"):
            table.add_column(column, justify="left" if column == "" else "right")
        for group, counts in self._groups.items():
            done = f"{counts.done}" + (f" [red]({counts.failed} failed)[/]" if counts.failed else "")
            best = "" if counts.best is None else f"{counts.best:.4f}"
            table.add_row(group, done, str(counts.running or ""), str(counts.waiting or ""), best)
        return table


def _validation_score(run: Path) -> float | None:
    """Of the last phase; higher is better."""
    import json

    from mer_lightning.training.run_folder import PHASES

    path = run / PHASES
    score: float | None = list(json.loads(path.read_text()).values())[-1]["score"] if path.is_file() else None
    return score

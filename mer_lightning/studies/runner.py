"""The one way in which a study runs: jobs go to an executor, and an observer hears what becomes of each.

`reproduce` and `ablate` know all their jobs when they start; a sweep plans a job while others run. A study that was
killed is started again by the same command: jobs that are done are skipped, and those that were begun are resumed.
"""

from __future__ import annotations

import contextlib
import time
import traceback
import warnings
from collections.abc import Iterable

from mer_lightning.studies.corpora import verified
from mer_lightning.studies.executor import Executor
from mer_lightning.studies.jobs import Job


class Observer:
    """What is called while a study runs, in the study's own process. Nothing happens unless a subclass says so."""

    def skipped(self, job: Job) -> None:
        """The job was done before."""

    def started(self, job: Job) -> None:
        """A worker has the job now."""

    def ended(self, job: Job, seconds: float) -> None:
        """The job has results."""

    def failed(self, job: Job, reason: str) -> None:
        """The job has no results; ``reason`` is one line."""


def run_study(jobs: Iterable[Job], executor: Executor, observer: Observer) -> list[Job]:
    """Run every job that is not done, in this order, and return those that failed."""
    waiting = []
    for job in jobs:
        if job.done:
            observer.skipped(job)
        else:
            waiting.append(job)
    return run_stream(waiting, executor, observer)


def run_stream(jobs: Iterable[Job], executor: Executor, observer: Observer) -> list[Job]:
    """Run jobs that may be planned one by one, when a worker is free, and return those that failed."""
    failed = []
    with contextlib.closing(executor.run(verified(jobs), run_quietly, observer.started)) as results:
        for result in results:
            if result.error is None:
                observer.ended(result.item, result.value)
            else:
                failed.append(result.item)
                observer.failed(result.item, result.error.strip().splitlines()[-1])
    return failed


def run_quietly(job: Job) -> float:
    """The work of a worker: seconds that the job took. What it prints, and the traceback of an error, go to its log."""
    started = time.perf_counter()
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with (
        job.log.open("w") as file,
        contextlib.redirect_stdout(file),
        contextlib.redirect_stderr(file),
        warnings.catch_warnings(),
    ):
        try:
            job.run()
        except Exception:
            traceback.print_exc()
            raise
    return time.perf_counter() - started

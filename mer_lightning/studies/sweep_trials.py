"""The trials of a sweep as a stream of jobs, one for each repetition, and their scores as the jobs end."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mer_lightning.errors import Refusal
from mer_lightning.studies.jobs import Job, write_overrides
from mer_lightning.studies.marks import Study, mark
from mer_lightning.studies.runner import Observer
from mer_lightning.studies.search import Search, Trial

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class TrialResult:
    """A trial that is over: its score, or why it has none."""

    trial: Trial
    score: float | None
    failure: str | None
    pruned: bool


@dataclass
class _OpenTrial:
    """A trial with jobs that have not ended."""

    trial: Trial
    jobs: list[Job]
    given: int = 0  # jobs that were given to a worker
    ended: int = 0
    failure: str | None = None

    @property
    def over(self) -> bool:
        """After a failure no more jobs are given, and the trial is over when those at work have ended."""
        return self.ended == self.given and (self.failure is not None or self.given == len(self.jobs))


class SweepTrials(Observer):
    """The trials of one sweep, in ``folder``; ``report`` is called with each that is over."""

    def __init__(self, search: Search, folder: Path, report: Callable[[TrialResult], None]) -> None:
        self.search, self.folder, self.report = search, folder, report
        self._open: dict[str, _OpenTrial] = {}

    def jobs(self) -> Iterator[Job]:
        """A trial is drawn only when a worker is free and every job of the last one was given out, so that the search
        knows as many scores as there can be."""
        sweep = self.search.sweep
        mark(self.folder, Study("sweep", sweep.name, sweep.metric, sweep.maximize))
        for trial in self.search.trials_to_run():
            name = f"trial-{trial.number:04d}"
            opened = self._open[name] = _OpenTrial(trial, self._jobs_of(trial, name))
            for job in opened.jobs:
                if opened.failure is None:
                    opened.given += 1
                    yield job

    def ended(self, job: Job, seconds: float) -> None:
        self._count(job, None)

    def failed(self, job: Job, reason: str) -> None:
        self._count(job, reason)

    def _count(self, job: Job, failure: str | None) -> None:
        opened = self._open[job.group]
        opened.ended += 1
        opened.failure = opened.failure or failure
        if opened.over:
            self._close(self._open.pop(job.group))

    def _close(self, ended: _OpenTrial) -> None:
        score, failure, sweep = None, ended.failure, self.search.sweep
        if failure is None:
            try:
                runs = [job.run_folder for job in ended.jobs]
                score = statistics.fmean(best_value(run, sweep.metric, sweep.maximize) for run in runs)
            except (Refusal, OSError, ValueError) as error:  # no such metric, or a log that cannot be read
                failure = str(error)
        pruned = self.search.was_pruned(ended.trial)
        self.search.record(ended.trial, score, pruned)
        self.report(TrialResult(ended.trial, score, failure, pruned))

    def _jobs_of(self, trial: Trial, name: str) -> list[Job]:
        sweep = self.search.sweep
        jobs = []
        for number, repetition in enumerate(sweep.repeat):
            folder = self.folder / (f"{name}-{number}" if len(sweep.repeat) > 1 else name)
            overrides = trial.overrides | repetition
            file = write_overrides(folder.with_suffix(".json"), overrides)
            arguments = sweep.arguments(overrides, file)
            if sweep.early_terminate and len(sweep.repeat) == 1:
                arguments += self.search.pruning_arguments(trial)
            paths = [Path(argument) for argument in arguments]
            configs = [path for path in paths if path.suffix in (".yaml", ".json") and path.is_file()]
            jobs.append(Job(folder, tuple(arguments), tuple(configs), name))
        return jobs


def best_value(run: Path, metric: str, maximize: bool) -> float:
    """Of a metric that training logs, in the run's best epoch."""
    from mer_lightning.training.run_folder import metrics_over_time

    values = metrics_over_time(run).get(metric)
    if values is None or values.dropna().empty:
        remedy = "name one that training logs, e.g. valid/score"
        raise Refusal(f"{run}/logs", f"the metric {metric}", "none", remedy)
    return float(values.max() if maximize else values.min())


def trials_table(search: Search) -> pd.DataFrame:
    """One row per trial, the best one first."""
    import pandas as pd

    metric = search.sweep.metric
    rows: list[dict[str, Any]] = [
        {"trial": trial.number, "state": state, metric: score, **trial.overrides}
        for trial, state, score in search.all_trials()
    ]
    return pd.DataFrame(rows).sort_values(metric, ascending=not search.sweep.maximize)

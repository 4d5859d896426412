"""What a report makes of studies: of a sweep its winner, of an ablation the names of its parts."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mer_lightning.errors import Refusal
from mer_lightning.studies.ablation import FULL
from mer_lightning.studies.comparing import Contender
from mer_lightning.studies.finished import Run
from mer_lightning.studies.marks import Place, Study
from mer_lightning.studies.sweep_trials import best_value
from mer_lightning.studies.variants import Options, differing_options, short_name, variant_labels

_CURVE = "valid/score"  # the metric whose values are known of every run that was read


@dataclass(frozen=True)
class Trials:
    """The trials of one sweep that have results, the best on validation first."""

    study: Study
    trials: dict[str, Contender]  # by what differs between them
    scores: dict[str, list[float]]  # {label: the metric that chooses, in the best epoch of each run}

    @property
    def label(self) -> str:
        return next(iter(self.trials))

    @property
    def winner(self) -> Contender:
        return next(iter(self.trials.values()))

    def mean(self, label: str) -> float:
        return statistics.fmean(self.scores[label])

    @cached_property
    def options(self) -> dict[str, Options]:
        """{label: {option: value}} of the options that differ between trials, by their short names."""
        of = {label: trial.runs[0].options for label, trial in self.trials.items()}
        differing = differing_options(list(of.values()))
        return {label: {short_name(key): options.get(key) for key in differing} for label, options in of.items()}


def sweeps_of(runs: Iterable[Run], studies: Mapping[Path, Place]) -> tuple[Trials, ...]:
    """The sweeps among some runs of one setting."""
    of_folder: dict[Path, list[Run]] = {}
    for run in runs:
        place = studies.get(run.folder)
        if place and place.study.kind == "sweep":
            of_folder.setdefault(place.folder, []).append(run)
    return tuple(_trials(studies[mine[0].folder].study, mine) for mine in of_folder.values())


def _trials(study: Study, runs: list[Run]) -> Trials:
    labels = variant_labels({run.variant: run.options for run in runs})
    of_label: dict[str, list[Run]] = {}
    for run in runs:
        of_label.setdefault(labels[run.variant], []).append(run)
    scores = {label: [_chosen_by(run, study) for run in mine] for label, mine in of_label.items()}
    sign = 1.0 if study.maximize else -1.0

    def goodness(label: str) -> float:
        mean = sign * statistics.fmean(scores[label])
        return -math.inf if math.isnan(mean) else mean

    ranked = sorted(of_label, key=goodness, reverse=True)
    trials = {label: Contender(tuple(of_label[label])) for label in ranked}
    return Trials(study, trials, {label: scores[label] for label in ranked})


def _chosen_by(run: Run, study: Study) -> float:
    """NaN where the run has not logged the metric: it cannot win."""
    if study.metric == _CURVE and run.facts.curve:
        return (max if study.maximize else min)(run.facts.curve)
    try:
        return best_value(run.folder, study.metric, study.maximize)
    except Refusal:
        return math.nan


def without_losers(runs: Iterable[Run], sweeps: Iterable[Trials]) -> list[Run]:
    """All runs but those of trials that did not win their sweep."""
    losers = {
        run.folder
        for sweep in sweeps
        for label, each in sweep.trials.items()
        if label != sweep.label
        for run in each.runs
    }
    return [run for run in runs if run.folder not in losers]


def labels_of_parts(runs: Iterable[Run], studies: Mapping[Path, Place]) -> tuple[dict[str, str], str | None]:
    """({variant: label} of the runs of ablations, the label of the full method where there is one)."""
    named: dict[str, str] = {}
    for run in runs:
        place = studies.get(run.folder)
        if place and place.study.kind == "ablation":
            named[run.variant] = f"{place.study.name}, {FULL}" if place.group == FULL else f"without {place.group}"
    counts = Counter(named.values())
    labels = {variant: label if counts[label] == 1 else f"{label} {variant}" for variant, label in named.items()}
    full = [labels[variant] for variant, label in named.items() if label.endswith(f", {FULL}")]
    return labels, full[0] if len(full) == 1 else None

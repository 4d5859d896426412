"""Metrics of ratings: t is the truth and p the prediction of each target, in the units of the labels.

A label that is missing (NaN) is left out of the metrics of its target.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from mer_lightning.evaluation.metric_info import MetricInfo, MetricInput
from mer_lightning.evaluation.metrics_regression import concordance, mean_absolute_error, pearson
from mer_lightning.tasks import Ratings

_Measure = Callable[[Tensor, Tensor], Tensor]
# {column: (title, definition, function of (t, p), direction)}
_MEASURES: dict[str, tuple[str, str, _Measure, Literal["min", "max"]]] = {
    "ccc": (
        "CCC",
        "concordance 2 cov(t, p) / (var t + var p + (mean t - mean p)^2)",
        concordance,
        "max",
    ),
    "corr": ("Corr", "Pearson correlation of p and t", pearson, "max"),
    "mae": ("MAE", "mean |p - t|", mean_absolute_error, "min"),
}


def columns(task: Ratings) -> dict[str, MetricInfo]:
    """``ccc``, ``corr`` and ``mae``: of the one target, or means over several and ``<target>_ccc`` of each."""
    several = len(task.targets) > 1
    made: dict[str, MetricInfo] = {}
    for column, (title, definition, function, direction) in _MEASURES.items():
        over = "mean over targets of the " if several else ""
        made[column] = MetricInfo(
            title, f"{over}{definition}", "AVEC", _mean_over_targets(function), direction, headline=True
        )
    for number, target in enumerate(task.targets if several else ()):
        for column, (title, definition, function, direction) in _MEASURES.items():
            info = MetricInfo(f"{target} {title}", definition, "AVEC", _of_target(function, number), direction)
            made[f"{target}_{column}"] = info
    return made


def _of_target(function: _Measure, number: int) -> Callable[[MetricInput], Tensor]:
    def measure(x: MetricInput) -> Tensor:
        t, p = (values.view(len(values), -1)[:, number] for values in (x.truth, x.decision))
        known = ~t.isnan()
        return function(t[known], p[known])

    return measure


def _mean_over_targets(function: _Measure) -> Callable[[MetricInput], Tensor]:
    """Over those where it is defined; NaN where it is defined for none."""

    def measure(x: MetricInput) -> Tensor:
        targets = x.logits.shape[1]
        return torch.stack([_of_target(function, number)(x) for number in range(targets)]).nanmean()

    return measure

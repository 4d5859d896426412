"""Metrics of a whole split: ``evaluate`` computes them, ``describe`` defines them, ``score`` selects checkpoints.

Metrics are computed on the concatenated split and never averaged over batches: F1 and correlation are not means over
samples, and the last batch is smaller than the others. ``docs/reference/metrics.md`` defines every column.
:mod:`mer_lightning.metrics` offers each of them as a ``torchmetrics.Metric``.

Shapes: N samples of the split, O outputs of the model, C classes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mer_lightning.evaluation import metrics_multi_label, metrics_ratings, metrics_regression, metrics_single_label
from mer_lightning.evaluation.metric_info import MetricInfo, MetricInput
from mer_lightning.tasks import MultiLabel, Ratings, Regression, SingleLabel, Task

METRICS_VERSION = 1  # stored in results; raise it when a column changes its meaning


def describe(task: Task) -> dict[str, MetricInfo]:
    """Every column that :func:`evaluate` fills for ``task``, in the order of a table."""
    match task:
        case Regression():
            return metrics_regression.columns(task)
        case SingleLabel():
            return metrics_single_label.columns(task)
        case MultiLabel():
            return metrics_multi_label.columns(task)
        case Ratings():
            return metrics_ratings.columns(task)
    raise TypeError(f"no metrics are known for {type(task).__name__}; write its columns in mer_lightning/evaluation")


def metric_input(task: Task, logits: Tensor, target: Tensor) -> MetricInput:
    """The logits (N, O) and target (N,) or (N, C) of a split, in the types that metrics expect.

    Logits become float32 before any threshold: half precision rounds small values to 0.
    """
    logits = logits.detach().cpu().float()
    exact = {"single_label": torch.int64, "multi_label": torch.bool}.get(task.kind, torch.float64)
    return MetricInput(target.detach().cpu().to(exact), task.decide(logits).to(exact), logits.double())


def headline_metrics(task: Task) -> dict[str, MetricInfo]:
    """Those that matter most; the others are variants for comparison with papers."""
    return {name: info for name, info in describe(task).items() if info.headline}


def evaluate(task: Task, logits: Tensor, target: Tensor) -> dict[str, float]:
    """All metrics of one split from its logits (N, O) and target (N,) or (N, C); NaN where one is undefined.

    Every metric is NaN if a logit is NaN.
    """
    given = metric_input(task, logits, target)
    return {name: info.value(given) for name, info in describe(task).items()}


def score(task: Task, values: dict[str, float]) -> float:
    """What selects checkpoints: the task's metric, turned so that higher is better; NaN is worse than anything."""
    metric, direction = task.score
    value = values[metric]
    if math.isnan(value):
        return -math.inf
    return value if direction == "max" else -value

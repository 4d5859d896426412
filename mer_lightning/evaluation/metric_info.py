"""One column of a table of results: what it is called, what it means and how it is measured.

Shapes: N samples of a split, C classes, O outputs of the model.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from mer_lightning.evaluation.classification import Counts, count


@dataclass(frozen=True)
class MetricInput:
    """What a metric is computed from: the truth of a whole split and the predictions of a model, on the CPU."""

    truth: Tensor  # (N,) float64, (N,) int64 or (N, C) bool, by the kind of task
    decision: Tensor  # the predictions, with the shape and type of the truth
    logits: Tensor  # (N, O) float64, for metrics that rank

    @functools.cached_property
    def has_nan(self) -> bool:
        """True for a model that diverged: it has no score, although its decisions could be counted."""
        return bool(self.logits.isnan().any())

    @functools.cached_property
    def counts(self) -> Counts:
        """Of each class, for the tasks that have classes."""
        if self.truth.dim() == 2:
            return count(self.truth, self.decision)
        classes = self.logits.shape[1]
        return count(F.one_hot(self.truth, classes).bool(), F.one_hot(self.decision, classes).bool())


@dataclass(frozen=True)
class MetricInfo:
    """A column: its definition and its computation, which are written side by side and nowhere else."""

    title: str
    definition: str
    variant: str  # whose convention it is
    measure: Callable[[MetricInput], Tensor] = field(repr=False, compare=False)
    direction: Literal["min", "max"] = "max"
    headline: bool = False  # shown in a table by default

    def value(self, given: MetricInput) -> float:
        """The metric; NaN where it is undefined, and for a model with a NaN among its logits."""
        return math.nan if given.has_nan else float(self.measure(given))

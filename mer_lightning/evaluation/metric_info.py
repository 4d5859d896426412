"""One column of a table of results: what it is called, what it means and how it is measured.

Shapes: N samples of a split, C classes, O outputs of the model.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from mer_lightning.evaluation.classification import Counts, count


@dataclass(frozen=True)
class Outcome:
    """What is true of a whole split and what a model said about it, on the CPU."""

    truth: Tensor  # (N,) float64, (N,) int64 or (N, C) bool, by the kind of task
    decision: Tensor  # of the same shape and type: the prediction in the space of the targets
    logits: Tensor  # (N, O) float64, for metrics that rank

    @functools.cached_property
    def counts(self) -> Counts:
        """Of each class, for the tasks that have classes."""
        if self.truth.dim() == 2:
            return count(self.truth, self.decision)
        classes = self.logits.shape[1]
        return count(F.one_hot(self.truth, classes).bool(), F.one_hot(self.decision, classes).bool())


@dataclass(frozen=True)
class MetricInfo:
    """A column: its meaning and its computation stand side by side, and nowhere else."""

    title: str
    definition: str
    variant: str  # whose convention it is
    measure: Callable[[Outcome], Tensor] = field(repr=False, compare=False)
    direction: Literal["min", "max"] = "max"
    headline: bool = False  # shown in a table by default

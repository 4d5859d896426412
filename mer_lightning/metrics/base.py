"""The base class that makes a ``torchmetrics.Metric`` of a column of ``mer_lightning.evaluation.metrics``.

Shapes: B batch, N samples of the split, O outputs of the model, C classes.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

from mer_lightning.errors import Refusal
from mer_lightning.evaluation.metric_info import MetricInput
from mer_lightning.evaluation.metrics import describe, metric_input
from mer_lightning.evaluation.predictions import rows_once
from mer_lightning.tasks import Task


class SplitMetric(Metric, ABC):
    """A metric of all samples together: the states collect what was given, and the pure function is called once.

    Args:
        options: those of ``torchmetrics.Metric``, e.g. ``sync_on_compute``.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    column: ClassVar[str]  # of `mer_lightning.evaluation.metrics.describe`

    logits: list[Tensor]
    target: list[Tensor]
    index: list[Tensor]

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"dist_sync_fn": gather_tensors} | options)
        for state in ("logits", "target", "index"):
            self.add_state(state, default=[], dist_reduce_fx="cat")

    @abstractmethod
    def task(self, outputs: int) -> Task:
        """The task of a model with so many outputs."""

    @property
    def column_name(self) -> str:
        """The name of the column among those of :meth:`task`."""
        return self.column

    def measure(self, given: MetricInput, task: Task) -> float:
        """The metric of a whole split."""
        return describe(task)[self.column_name].value(given)

    def update(self, logits: Tensor, target: Tensor, index: Tensor | None = None) -> None:
        """Add the samples of one batch.

        Args:
            logits: (B, O), the outputs of the model; for a regression also (B,).
            target: (B,) numbers or class numbers, or (B, C) of 0 and 1.
            index: (B,) the rows of the samples in their split. With it, a sample that comes twice counts once:
                samplers of several processes repeat samples to give all processes equally many.
        """
        logits = logits.detach().float()
        if logits.dim() == 1 and self.task(1).kind == "regression":
            logits = logits.unsqueeze(1)
        self._refuse_other_shapes(tuple(logits.shape), tuple(target.shape))
        if self.target and (index is None) != (not self.index):
            raise Refusal(type(self).__name__, "index in every update or in none", "both", "give it always or never")
        self.logits.append(logits)
        self.target.append(target.detach())
        if index is not None:
            self.index.append(index.detach())

    def compute(self) -> Tensor:
        """The metric of all samples so far as a float64 number on the CPU; NaN where it is undefined."""
        logits, target, index = (_joined(state) for state in (self.logits, self.target, self.index))
        if len(target) == 0:
            return torch.tensor(math.nan, dtype=torch.float64)
        if len(index):
            each_once = rows_once(index)
            logits, target = logits[each_once], target[each_once]
        task = self.task(logits.shape[1])
        return torch.tensor(self.measure(metric_input(task, logits, target), task), dtype=torch.float64)

    def _refuse_other_shapes(self, logits: tuple[int, ...], target: tuple[int, ...]) -> None:
        task = self.task(logits[-1])
        expected = logits if task.kind == "multi_label" else logits[:1]
        if len(logits) != 2 or logits[1] != task.outputs or target != expected:
            needed = {
                "regression": "logits (B, 1) or (B,) and target (B,)",
                "single_label": "logits (B, C) and target (B,)",
                "multi_label": "logits (B, C) and target (B, C)",
            }[task.kind]
            remedy = "give the outputs of the model, not its decisions"
            raise Refusal(type(self).__name__, needed, f"logits {logits} and target {target}", remedy)


class OneClassMetric(SplitMetric):
    """A metric of one class, as a question of yes or no.

    Args:
        number: of the class, from 0.
        options: the others of this metric, and those of ``torchmetrics.Metric``.
    """

    def __init__(self, number: int, **options: Any) -> None:
        super().__init__(**options)
        self.number = number

    @property
    def column_name(self) -> str:
        return f"{self.number}_{self.column}"

    def _refuse_other_shapes(self, logits: tuple[int, ...], target: tuple[int, ...]) -> None:
        super()._refuse_other_shapes(logits, target)
        if not 0 <= self.number < logits[1]:
            expected = f"a class number from 0 to {logits[1] - 1}"
            raise Refusal(type(self).__name__, expected, str(self.number), "classes are counted from 0")


def numbered_classes(outputs: int) -> tuple[str, ...]:
    """Names for classes of which only the number is known: "0", "1", ..."""
    return tuple(str(number) for number in range(outputs))


def gather_tensors(tensor: Tensor, group: Any = None) -> list[Tensor]:
    """The tensor of every process, of any length, also of a process that has seen no batch.

    torchmetrics' own function needs the same type and number of dimensions on all processes, and a process without a
    batch knows neither. Its empty tensor is left out, so that it cannot change the type of the others.
    """
    gathered: list[Any] = [None] * torch.distributed.get_world_size(group)
    torch.distributed.all_gather_object(gathered, tensor.cpu(), group)
    return [each.to(tensor.device) for each in gathered if len(each)] or [tensor]


def _joined(state: list[Tensor] | Tensor) -> Tensor:
    """A state as one tensor; torchmetrics has joined it already where it came from several processes."""
    return dim_zero_cat(state) if len(state) else torch.zeros(0)

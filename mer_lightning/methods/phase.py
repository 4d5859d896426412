"""A phase: a stretch of one fit with its own losses, trainable parts, budget, optimiser and stopping rule.

Shapes: B batch.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, nn

from mer_lightning.batch import Batch

if TYPE_CHECKING:
    from lightning.pytorch.cli import OptimizerCallable

Losses = dict[str, tuple[Tensor, float]]  # {name: (value, weight)}


@dataclass(frozen=True)
class Phase:
    """It starts from the best weights of the phase before it. What is not trained stands still, in evaluation mode.

    The phases of a method divide the epochs of the run (--trainer.max_epochs) among themselves, so that methods with
    one phase and methods with several have the same budget (rule 8).
    """

    name: str
    losses: Callable[[Batch], Losses]
    trained: tuple[nn.Module, ...] | None = None  # None: everything
    epochs: float = 1.0  # how long it is, relative to the other phases
    patience: float = 1.0  # times --patience
    optimizer: OptimizerCallable | None = None  # None: the method's
    # (B,) what is smallest on the best weights; None: the task's own validation score decides.
    validation_losses: Callable[[Batch], Tensor] | None = None


def epochs_of(phases: Sequence[Phase], max_epochs: int) -> dict[str, int]:
    """{phase: its epochs}: together as many as the run has, at least one each; -1 is without limit for all of them."""
    if max_epochs < 0:
        return {phase.name: max_epochs for phase in phases}
    whole = sum(phase.epochs for phase in phases)
    ends = [round(max_epochs * end / whole) for end in itertools.accumulate(phase.epochs for phase in phases)]
    lengths = [max(end - start, 1) for start, end in itertools.pairwise([0, *ends])]
    return {phase.name: length for phase, length in zip(phases, lengths, strict=True)}

"""A phase: a stretch of one fit with its own losses, trainable parts, budget, optimiser and stopping rule.

Shapes: B batch.
"""

from __future__ import annotations

from collections.abc import Callable
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

    Budgets are shares of the run's, so that one option (--trainer.max_epochs) makes a run longer or shorter, whatever
    the method.
    """

    name: str
    losses: Callable[[Batch], Losses]
    trained: tuple[nn.Module, ...] | None = None  # None: everything
    epochs: float = 1.0  # times --trainer.max_epochs
    patience: float = 1.0  # times --patience
    optimizer: OptimizerCallable | None = None  # None: the method's
    # (B,) what is smallest on the best weights; None: the task's own validation score decides.
    validation_losses: Callable[[Batch], Tensor] | None = None

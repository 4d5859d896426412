"""What the figures of a method are drawn from: runs that are over, with their predictions and logs.

The report hands these in (:class:`mer_lightning.studies.comparing.Contender`); methods must not import it.

Shapes: S seeds, K conditions, N samples, O outputs, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mer_lightning.tasks import Task

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor


class FinishedRun(Protocol):
    """One run that has results."""

    @property
    def folder(self) -> Path: ...

    @property
    def config(self) -> dict[str, Any]:
        """The resolved configuration, as `config.yaml` has it."""

    @property
    def checkpoint(self) -> Path:
        """The best checkpoint; the file may be gone."""

    def metrics_over_time(self) -> pd.DataFrame:
        """One row per logged step or epoch, one column per logged name; empty where nothing was logged."""


class FinishedRuns(Protocol):
    """Runs of one configuration that differ in their seed only."""

    @property
    def runs(self) -> Sequence[FinishedRun]:
        """One per seed."""

    @property
    def task(self) -> Task: ...

    @property
    def conditions(self) -> list[str]:
        """All that the runs were tested under."""

    @property
    def tables(self) -> list[pd.DataFrame]:
        """The predictions of each run: one row per sample and condition; `extras` of the method are columns."""

    @property
    def target(self) -> Tensor:
        """(N,) or (N, C), in the order of the split."""

    def logits(self, conditions: list[str]) -> Tensor:
        """(S, K, N, O) under some of the conditions."""

"""Everything a model said about a split, under every condition, gathered from all processes.

Shapes: B batch, N samples of the split, K conditions, O outputs of the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torchmetrics import Metric

from mer_lightning.tasks import Task

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Predictions:
    """In the order of the split, each sample once."""

    logits: Tensor  # (N, K, O) float32
    target: Tensor | None  # (N,) or (N, C)
    index: Tensor  # (N,)

    def under(self, condition: int) -> Tensor:
        return self.logits[:, condition]


class PredictionStore(Metric):
    """Collects logits batch by batch; ``compute`` concatenates, joins the processes and drops doubles.

    A metric only in that torchmetrics knows how to move and to gather its states.
    """

    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        for name in ("logits", "target", "index"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, logits: Tensor, target: Tensor | None, index: Tensor) -> None:
        self.logits.append(logits.detach().float())
        self.index.append(index)
        if target is not None:
            self.target.append(target)

    def compute(self) -> Predictions:
        index = _joined(self.index).cpu()
        order = index.argsort(stable=True)
        first = torch.ones_like(index, dtype=torch.bool)
        first[1:] = index[order][1:] != index[order][:-1]
        chosen = order[first]
        target = _joined(self.target)
        return Predictions(
            logits=_joined(self.logits).cpu()[chosen],
            target=target.cpu()[chosen] if len(target) else None,
            index=index[chosen],
        )


def _joined(parts: list[Tensor] | Tensor) -> Tensor:
    """A list of batches before synchronisation, one tensor after it."""
    if isinstance(parts, Tensor):
        return parts
    return torch.cat(parts) if parts else torch.zeros(0)


def prediction_table(predictions: Predictions, task: Task, conditions: list[str], ids: list[str]) -> pd.DataFrame:
    """One row per sample and condition: id, target, prediction, and every probability (or the raw output)."""
    import pandas as pd

    frames = []
    for number, condition in enumerate(conditions):
        logits = predictions.under(number)
        columns: dict[str, Any] = {"id": ids, "condition": condition}
        probabilities = task.probabilities(logits)
        decision = task.decide(logits)
        if probabilities is None:
            columns["prediction"] = decision.numpy()
            if predictions.target is not None:
                columns["target"] = predictions.target.numpy()
        else:
            classes = task.classes  # type: ignore[attr-defined]
            columns |= _named(classes, decision, "prediction")
            if predictions.target is not None:
                columns |= _named(classes, predictions.target, "target")
            columns |= {f"probability {name}": probabilities[:, i].numpy() for i, name in enumerate(classes)}
        columns |= {f"logit {i}": logits[:, i].numpy() for i in range(logits.shape[1])}
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)


def _named(classes: tuple[str, ...], values: Tensor, column: str) -> dict[str, Any]:
    """Class names for people: one name, or the names of a label set joined by '+'."""
    if values.dim() == 1:
        return {column: [classes[i] for i in values.tolist()]}
    rows = [[classes[i] for i, on in enumerate(row) if on] for row in values.bool().tolist()]
    return {column: ["+".join(row) or "none" for row in rows]}

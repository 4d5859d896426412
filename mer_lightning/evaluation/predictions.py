"""Everything a model said about a split, under every condition, gathered from all processes.

Shapes: B batch, N samples of the split, K conditions, O outputs of the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

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


class PredictionStore:
    """Collects logits batch by batch and joins them across processes.

    Not a torchmetrics object: those gather tensors, which needs every process to hold at least one batch, and a small
    split on several processes does not give them one.
    """

    def __init__(self) -> None:
        self._parts: list[tuple[Tensor, Tensor | None, Tensor]] = []

    def reset(self) -> None:
        self._parts = []

    def update(self, logits: Tensor, target: Tensor | None, index: Tensor) -> None:
        """Logits (B, K, O), target (B, ...) and the rows (B,) that they belong to."""
        self._parts.append((logits.detach().float(), target, index))

    def gather(self) -> Predictions:
        """All samples in the order of the split, each once, the same on every process."""
        parts = _from_all_processes([_on_host(part) for part in self._parts])
        index = torch.cat([part[2] for part in parts])
        order = index.argsort(stable=True)
        first = torch.ones_like(index, dtype=torch.bool)
        first[1:] = index[order][1:] != index[order][:-1]
        chosen = order[first]
        targets = [part[1] for part in parts if part[1] is not None]
        return Predictions(
            logits=torch.cat([part[0] for part in parts])[chosen],
            target=torch.cat(targets)[chosen] if targets else None,
            index=index[chosen],
        )


def _on_host(part: tuple[Tensor, Tensor | None, Tensor]) -> tuple[Tensor, Tensor | None, Tensor]:
    logits, target, index = part
    return logits.cpu(), None if target is None else target.cpu(), index.cpu()


def _from_all_processes(parts: list[Any]) -> list[Any]:
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return parts
    gathered: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(gathered, parts)
    return [part for each in gathered for part in each]


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

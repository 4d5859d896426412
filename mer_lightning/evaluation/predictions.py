"""The predictions of a model for a split under all conditions, gathered from all processes.

Shapes: B batch, N samples of the split, K conditions, O outputs of the model.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from mer_lightning.tasks import Ratings, Task

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Predictions:
    """Predictions in the order of the split, with each sample once."""

    logits: Tensor  # (N, K, O) float32
    target: Tensor | None  # (N,) or (N, C)
    index: Tensor  # (N,)
    extras: dict[str, Tensor] = field(default_factory=dict)  # {name: (N, K)}: more outputs of a method, e.g. confidence

    def under(self, condition: int) -> Tensor:
        return self.logits[:, condition]

    def in_label_units(self, task: Task) -> Predictions:
        """What a model that learns ``task`` has said, as the task of the corpus reads it."""
        return replace(self, logits=task.in_label_units(self.logits))


class PredictionStore:
    """Collects logits batch by batch and joins them across processes.

    It is not a ``torchmetrics.Metric``, because it gathers all tensors of a batch together, and extras are not known
    beforehand. :mod:`mer_lightning.metrics` has such metrics.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._parts: list[dict[str, Tensor]] = []
        self._gathered: Predictions | None = None

    def update(
        self, logits: Tensor, target: Tensor | None, index: Tensor, extras: dict[str, Tensor] | None = None
    ) -> None:
        """Add logits (B, K, O) and target (B, ...) of the rows ``index`` (B,) of the split, and extras (B, K)."""
        part = {"logits": logits.float(), "index": index} | {f"extra {k}": v.float() for k, v in (extras or {}).items()}
        if target is not None:
            part["target"] = target
        self._parts.append({name: tensor.detach() for name, tensor in part.items()})

    def gather(self) -> Predictions:
        """All samples in the order of the split, each once, the same on every process."""
        if self._gathered is None:
            self._gathered = self._joined()
        return self._gathered

    def _joined(self) -> Predictions:
        parts = _from_all_processes([{k: v.cpu() for k, v in part.items()} for part in self._parts])
        joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        each_once = rows_once(joined["index"])
        chosen = {name: tensor[each_once] for name, tensor in joined.items()}
        return Predictions(
            logits=chosen["logits"],
            target=chosen.get("target"),
            index=chosen["index"],
            extras={k.removeprefix("extra "): v for k, v in chosen.items() if k.startswith("extra ")},
        )


def rows_once(index: Tensor) -> Tensor:
    """Positions in ``index`` (n,) that list each of its values once, in ascending order: the first of equal ones."""
    order = index.argsort(stable=True)
    first = torch.ones_like(index, dtype=torch.bool)
    first[1:] = index[order][1:] != index[order][:-1]
    return order[first]


def _from_all_processes(parts: list[Any]) -> list[Any]:
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return parts
    gathered: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(gathered, parts)
    return [part for each in gathered for part in each]


def prediction_table(predictions: Predictions, task: Task, conditions: list[str], ids: list[str]) -> pd.DataFrame:
    """One row per sample and condition: id, target, prediction, and every probability (or the raw output).

    ``ids`` are those of the whole split; ``predictions.index`` says which of them the predictions are of.
    """
    import pandas as pd

    own_ids = np.array(ids, dtype=object)[predictions.index.numpy()]
    frames = []
    for number, condition in enumerate(conditions):
        logits = predictions.under(number)
        columns: dict[str, Any] = {"id": own_ids, "condition": condition}
        probabilities = task.probabilities(logits)
        decision = task.decide(logits)
        if probabilities is None:
            columns |= _numbers(task, decision, "prediction")
            if predictions.target is not None:
                columns |= _numbers(task, predictions.target, "target")
        else:
            classes = task.classes  # type: ignore[attr-defined]
            columns |= _named(classes, decision, "prediction")
            if predictions.target is not None:
                columns |= _named(classes, predictions.target, "target")
            columns |= {f"probability {name}": probabilities[:, i].numpy() for i, name in enumerate(classes)}
        columns |= {f"logit {i}": logits[:, i].numpy() for i in range(logits.shape[1])}
        columns |= {name: values[:, number].numpy() for name, values in predictions.extras.items()}
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)


def _numbers(task: Task, values: Tensor, column: str) -> dict[str, Any]:
    """One column, or one for each of several targets."""
    if values.dim() == 1:
        return {column: values.numpy()}
    return {name: values[:, number].numpy() for number, name in enumerate(columns_of(task, column))}


def columns_of(task: Task, column: str) -> list[str]:
    """The columns of a table that hold a prediction or a target of this task: one, or one for each of several."""
    several = isinstance(task, Ratings) and len(task.targets) > 1
    return [f"{column} {name}" for name in task.targets] if several else [column]  # type: ignore[attr-defined]


def _named(classes: tuple[str, ...], values: Tensor, column: str) -> dict[str, Any]:
    """The name of each sample's class, or the names of its label set joined by '+'.

    Names are made once for each label set that occurs, and not for each sample.
    """
    if values.dim() == 1:
        return {column: np.array(classes, dtype=object)[values.numpy()]}
    sets, number = values.bool().unique(dim=0, return_inverse=True)
    names = ["+".join(itertools.compress(classes, row)) or "none" for row in sets.tolist()]
    return {column: np.array(names, dtype=object)[number.numpy()]}

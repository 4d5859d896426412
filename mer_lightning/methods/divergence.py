"""Numbers that are NaN or infinite: noticed without waiting for the accelerator, and traced to where they come from.

Shapes: B batch, N samples of a split, K conditions, O outputs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mer_lightning.backbones.base import Backbone
from mer_lightning.batch import Batch
from mer_lightning.errors import Diverged, first_names
from mer_lightning.methods.inputs import Inputs
from mer_lightning.modalities import MODALITIES

EVERY = 50  # steps between two looks, where looking at each would wait for an accelerator or for other processes
TOTAL = "loss"  # the name of the weighted sum of a step's losses


@dataclass(frozen=True)
class WatchedStep:
    """What has to be known of a training step to say later where it went wrong."""

    step: int
    epoch: int
    losses: Mapping[str, Tensor]  # {name: value}, with TOTAL among them
    batch: Batch | None  # None: let go, as many batches would fill the memory
    index: Tensor  # (B,) its rows

    def reason(self) -> str:
        """`loss task is nan`; the sum is named only where each of its parts is finite."""
        values = {name: float(value) for name, value in self.losses.items()}
        bad = {name: value for name, value in values.items() if not math.isfinite(value)}
        parts = {name: value for name, value in bad.items() if name != TOTAL} or bad
        return " and ".join(f"loss {name} is {value}" for name, value in parts.items())


def first_bad(steps: Sequence[WatchedStep]) -> WatchedStep | None:
    """The first one whose losses are not finite; one wait for the accelerator, however many steps there are."""
    bad = ~torch.stack([step.losses[TOTAL] for step in steps]).isfinite()
    return steps[int(bad.nonzero()[0])] if bool(bad.any()) else None


@torch.no_grad()
def origin(batch: Batch, ids: Sequence[str], inputs: Inputs, backbone: Backbone) -> dict[str, list[str]]:
    """{modality: ids of samples} whose features or vectors are not finite; {`target`: ids} whose label is not.

    No ids: all samples of the batch. Nothing at all where everything is finite, or where nothing is: then the weights
    are at fault, and no sample.
    """
    prepared = inputs(batch)
    vectors = backbone.encode(prepared).vectors
    found = {}
    for modality, vector in vectors.items():
        bad = _bad_rows(vector)
        if modality in batch.features:
            bad = bad | _bad_rows(batch.features[modality])
        found[modality] = bad & prepared.present[:, MODALITIES.index(modality)]
    if batch.target is not None:
        found["target"] = _bad_rows(batch.target)
    found = {name: bad for name, bad in found.items() if bool(bad.any())}
    if all(name in found and bool((found[name] | ~bad).all()) for name, bad in _present(prepared, vectors).items()):
        return {}
    return {name: [] if bool(bad.all()) else _named(ids, batch.index[bad]) for name, bad in found.items()}


def refuse_bad_predictions(
    logits: Tensor, index: Tensor, ids: Sequence[str], conditions: Sequence[str], split: str, phase: str
) -> None:
    """Raise Diverged unless logits (N, K, O) of rows (N,) under K conditions are finite."""
    bad = ~logits.isfinite().flatten(2).all(2)  # (N, K)
    if not bool(bad.any()):
        return
    under = [name for name, column in zip(conditions, bad.T, strict=True) if bool(column.any())]
    rows = bad.any(1)
    samples = "all samples" if bool(rows.all()) else first_names(_named(ids, index[rows]))
    what = f"predictions of the {split} split are not finite under {', '.join(under)}: {samples}"
    raise Diverged(phase=phase, what=what)


def _bad_rows(values: Tensor) -> Tensor:
    return ~values.isfinite().flatten(1).all(1) if values.dim() > 1 else ~values.isfinite()


def _present(batch: Batch, modalities: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """{modality: (B,) which samples have it}, of those that some sample has."""
    found = {name: batch.present[:, MODALITIES.index(name)] for name in modalities}
    return {name: present for name, present in found.items() if bool(present.any())}


def _named(ids: Sequence[str], rows: Tensor) -> list[str]:
    return [ids[row] for row in rows.tolist()]

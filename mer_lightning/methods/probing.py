"""What a trained method makes of the samples of a split, and how much of modality and label can be read from it.

Shapes: B batch, N samples, M modalities of the corpus, d width.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mer_lightning.backbones.base import Encoded
from mer_lightning.batch import Batch
from mer_lightning.evaluation.probes import Representation, probe
from mer_lightning.modalities import MODALITIES

if TYPE_CHECKING:
    from mer_lightning.methods.base import MERMethod

_BATCH = 256
_MOST = 5000  # training samples for the probes


@torch.no_grad()
def encoded_split(method: MERMethod, split: Any, most: int, batch_size: int) -> Iterator[tuple[Batch, Encoded]]:
    """The samples of a split, prepared and encoded; evenly spaced ones if there are more than ``most``."""
    every = -(-len(split) // most)
    for index in torch.arange(0, len(split), every).split(batch_size):
        batch = method.inputs(split.batch(index).to(method.device))
        yield batch, method.backbone.encode(batch)


@torch.no_grad()
def probes_of(method: MERMethod, train: Any, test: Any) -> dict[str, dict[str, float]]:
    """{representation: {measure: value}}: probes are fitted on one split and tested on another one."""
    method.eval()
    fitted, tested = (_representations(method, split) for split in (train, test))
    return {name: probe(fitted[name], tested[name]) for name in fitted}


def _representations(method: MERMethod, split: Any) -> dict[str, Representation]:
    parts: dict[str, list[dict[str, Tensor]]] = {}
    present, targets = [], []
    for batch, encoded in encoded_split(method, split, _MOST, _BATCH):
        assert batch.target is not None
        for name, codes in method.representations(encoded, batch.available).items():
            parts.setdefault(name, []).append(codes)
        present.append(batch.available)
        targets.append(batch.target)
    target = torch.cat(targets).cpu()
    if method.task.kind == "single_label":
        target = F.one_hot(target, method.task.outputs)
    here = dict(zip(MODALITIES, torch.cat(present).cpu().unbind(1), strict=True))
    return {
        name: Representation(
            {m: torch.cat([codes[m] for codes in batches]).float().cpu() for m in batches[0] if here[m].any()},
            {m: here[m] for m in batches[0] if here[m].any()},
            target.float().view(len(target), -1),
        )
        for name, batches in parts.items()
    }

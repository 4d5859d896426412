"""The last projections of earlier batches, as further keys of a contrastive loss.

Shapes: A rows of a batch, R rows remembered, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mer_lightning.losses.contrast import Keys


class ContrastMemory(nn.Module):
    """First in, first out. Buffers, so that a fit that was killed goes on with them.

    A place that is still empty has combination 0, which contrastive losses leave out.
    """

    vectors: Tensor  # (R, D)
    categories: Tensor  # (R,)
    combinations: Tensor  # (R,)
    samples: Tensor  # (R,)
    written: Tensor  # () how many rows have ever come in

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.register_buffer("vectors", torch.zeros(size, width))
        self.register_buffer("categories", torch.zeros(size, dtype=torch.int64))
        self.register_buffer("combinations", torch.zeros(size, dtype=torch.int64))
        self.register_buffer("samples", torch.zeros(size, dtype=torch.int64))
        self.register_buffer("written", torch.zeros((), dtype=torch.int64))
        self.register_load_state_dict_pre_hook(_without_samples)

    @property
    def keys(self) -> Keys:
        return Keys(self.vectors, self.categories, self.combinations, self.samples)

    @torch.no_grad()
    def push(self, new: Keys) -> None:
        """Of more rows than there are places the last ones stay."""
        size = len(self.vectors)
        last = Keys(*(values[-size:] for values in new))
        places = (self.written + torch.arange(len(last.vectors), device=self.vectors.device)) % size
        for kept, values in zip(self.keys, last, strict=True):
            kept[places] = values.to(kept.dtype)
        self.written += len(last.vectors)


def _without_samples(module: nn.Module, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Checkpoints of version 0.1.0 do not say whose the rows are."""
    if f"{prefix}written" in state:
        state.setdefault(f"{prefix}samples", torch.full_like(state[f"{prefix}categories"], -1))

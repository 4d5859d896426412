"""One vector from a sequence. Shapes: B batch, T time, d width."""

from __future__ import annotations

import torch
from torch import Tensor


def masked_mean(values: Tensor, key_mask: Tensor) -> Tensor:
    """(B, d) mean of (B, T, d) over the real steps; zero where a sample has none."""
    total = torch.bmm(key_mask.unsqueeze(1).to(values.dtype), values).squeeze(1)
    return total / key_mask.sum(1, keepdim=True).clamp(min=1)


def last_step(outputs: Tensor, lengths: Tensor) -> Tensor:
    """(B, d) of (B, T, d): the output at each sample's last real step, at the first where there is none.

    A recurrence that runs forwards over right-padded input has read no padding by then, so nothing is packed.
    """
    last = (lengths - 1).clamp(min=0)[:, None, None].expand(-1, 1, outputs.shape[2])
    return outputs.gather(1, last).squeeze(1)

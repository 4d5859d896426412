"""Dropout with cheap random numbers.

On a CPU torch draws one number per element, one after the other, which took a third of a step of TFN and of MulT.
Sixteen bits per element are enough to compare with a rate, so that one 64-bit draw is enough for four elements.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_LEVELS = 1 << 16


def dropout(values: Tensor, rate: float) -> Tensor:
    """Zeroes each element with probability ``rate`` and scales the others up, so that the expectation stays.

    On a CPU the rate is rounded to a multiple of 2^-16, and the scale is that of the rounded rate.
    """
    below = round(rate * _LEVELS)
    if values.device.type != "cpu" or not 0 < below < _LEVELS:
        return F.dropout(values, rate)
    draws = torch.empty(math.ceil(values.numel() / 4), dtype=torch.int64).random_(-(2**63), None)
    levels = draws.view(torch.int16)[: values.numel()].view(values.shape)
    # Straight into the type of the values: a comparison that yields booleans takes six times as long.
    kept = torch.ge(levels, below - _LEVELS // 2, out=torch.empty_like(values, memory_format=torch.contiguous_format))
    return values * kept.mul_(_LEVELS / (_LEVELS - below))


class Dropout(nn.Module):
    """:func:`dropout` in training, nothing otherwise."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0 <= rate <= 1:
            raise ValueError(f"a dropout rate is between 0 and 1, not {rate}")
        self.rate = rate

    def forward(self, values: Tensor) -> Tensor:
        return dropout(values, self.rate) if self.training and self.rate else values

    def extra_repr(self) -> str:
        return f"rate={self.rate}"

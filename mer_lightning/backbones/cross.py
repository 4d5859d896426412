"""Layers in which one sequence looks at another. Shapes: B batch, T query steps, S memory steps, d width."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mer_lightning.backbones.layers import Attention


class CrossLayer(nn.Module):
    """A pre-norm layer: x + attention(norm x, norm memory), then x + feed-forward(norm x)."""

    def __init__(self, width: int, heads: int, dropout: float, expansion: int = 4) -> None:
        super().__init__()
        self.norm_query, self.norm_memory = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm_feed = nn.LayerNorm(width)
        self.feed = nn.Sequential(
            nn.Linear(width, expansion * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(expansion * width, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, query: Tensor, memory: Tensor, valid: Tensor) -> Tensor:
        """(B, T, d) from query (B, T, d), memory (B, S, d) and its valid steps (B, S), one of which must be."""
        looked = self.attention(self.norm_query(query), self.norm_memory(memory), valid)
        query = query + self.dropout(looked)
        return query + self.dropout(self.feed(self.norm_feed(query)))


def selected(sequence: Tensor, here: Tensor) -> Tensor:
    """(B, T, d) with zeros for samples that lack the modality (B,): masked keys must still be finite."""
    return sequence.where(here[:, None, None], sequence.new_zeros(()))


def never_empty(valid: Tensor) -> Tensor:
    """The same mask, with the first step valid where none is: an empty softmax would be NaN."""
    first = torch.arange(valid.shape[1], device=valid.device) == 0
    return valid | (first & ~valid.any(1, keepdim=True))

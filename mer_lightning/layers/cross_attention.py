"""Layers in which one sequence looks at another. Shapes: B batch, T query steps, S memory steps, d width."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mer_lightning.layers.attention import Attention
from mer_lightning.layers.dropout import Dropout


class CrossLayer(nn.Module):
    """A pre-norm layer: x + attention(norm x, norm memory), then x + feed-forward(norm x)."""

    def __init__(self, width: int, attention: Attention, dropout: float, expansion: int = 4) -> None:
        super().__init__()
        self.norm_query, self.norm_memory = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = attention
        self.norm_feed = nn.LayerNorm(width)
        self.feed = nn.Sequential(
            nn.Linear(width, expansion * width), nn.GELU(), Dropout(dropout), nn.Linear(expansion * width, width)
        )
        self.dropout = Dropout(dropout)

    def forward(self, query: Tensor, memory: Tensor, key_mask: Tensor) -> Tensor:
        """(B, T, d) from query (B, T, d), memory (B, S, d) and its real steps (B, S), one of which must be."""
        return self.think(query + self.look(query, memory, key_mask))

    def look(self, query: Tensor, memory: Tensor, key_mask: Tensor) -> Tensor:
        """What the query finds in the memory, before anything is added."""
        return self.dropout(self.attention(self.norm_query(query), self.norm_memory(memory), key_mask))

    def think(self, tokens: Tensor) -> Tensor:
        return tokens + self.dropout(self.feed(self.norm_feed(tokens)))


def never_empty(key_mask: Tensor) -> Tensor:
    """The same mask, with the first step valid where none is: an empty softmax would be NaN."""
    first = torch.arange(key_mask.shape[1], device=key_mask.device) == 0
    return key_mask | (first & ~key_mask.any(1, keepdim=True))

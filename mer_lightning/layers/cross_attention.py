"""Layers in which one sequence attends to another. Shapes: B batch, T query steps, S memory steps, d width."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from mer_lightning.layers.attention import Attention
from mer_lightning.layers.dropout import Dropout


class CrossLayer(nn.Module):
    """A pre-norm layer: x + attention(norm x, norm memory), then x + feed-forward(norm x).

    Args:
        width: d.
        attention: of the queries to the memory.
        dropout: of both halves, and within the feed-forward part.
        expansion: how many times as wide as d the feed-forward part is.
        norms: 1: queries and memory share a norm; 2: each has its own; 3: of the memory, keys and values do, too.
        activation: of the feed-forward part.
    """

    def __init__(
        self,
        width: int,
        attention: Attention,
        dropout: float,
        expansion: int = 4,
        norms: Literal[1, 2, 3] = 2,
        activation: type[nn.Module] = nn.GELU,
    ) -> None:
        super().__init__()
        self.norm_query = nn.LayerNorm(width)
        self.norm_memory = self.norm_query if norms == 1 else nn.LayerNorm(width)
        self.norm_values = nn.LayerNorm(width) if norms == 3 else None
        self.attention = attention
        self.norm_feed = nn.LayerNorm(width)
        self.feed = nn.Sequential(
            nn.Linear(width, expansion * width), activation(), Dropout(dropout), nn.Linear(expansion * width, width)
        )
        self.dropout = Dropout(dropout)

    def forward(self, query: Tensor, memory: Tensor, key_mask: Tensor) -> Tensor:
        """(B, T, d) from query (B, T, d), memory (B, S, d) and its real steps (B, S), one of which must be."""
        return self.feed_forward(query + self.attend(query, memory, key_mask))

    def attend(self, query: Tensor, memory: Tensor, key_mask: Tensor) -> Tensor:
        """(B, T, d) what attention adds to the query."""
        values = None if self.norm_values is None else self.norm_values(memory)
        return self.dropout(self.attention(self.norm_query(query), self.norm_memory(memory), key_mask, values))

    def feed_forward(self, tokens: Tensor) -> Tensor:
        """(B, T, d) of (B, T, d): the second half of the layer, which treats every step alone."""
        return tokens + self.dropout(self.feed(self.norm_feed(tokens)))


def never_empty(key_mask: Tensor) -> Tensor:
    """The same mask, with the first step valid where none is: an empty softmax would be NaN."""
    first = torch.arange(key_mask.shape[1], device=key_mask.device) == 0
    return key_mask | (first & ~key_mask.any(1, keepdim=True))

"""Layers that several backbones share. Shapes: B batch, T time, d width."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mer_lightning.backbones.attention import Attention
from mer_lightning.backbones.dropout import Dropout


def masked_mean(values: Tensor, valid: Tensor) -> Tensor:
    """(B, d) mean of (B, T, d) over the valid steps; zero where a sample has none."""
    total = torch.bmm(valid.unsqueeze(1).to(values.dtype), values).squeeze(1)
    return total / valid.sum(1, keepdim=True).clamp(min=1)


@torch.no_grad()
def sinusoidal_positions(steps: int, width: int, like: Tensor) -> Tensor:
    """(T, d): sin(t / 10000^(2i/d)) in the first half of the columns and the cosines in the second."""
    half = (width + 1) // 2
    rates = torch.exp(torch.arange(half, device=like.device) * (-math.log(10000.0) / half))
    angles = torch.arange(steps, device=like.device).unsqueeze(1) * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)[:, :width].to(like.dtype)


class TransformerLayer(nn.Module):
    """A pre-norm layer: x + attention(norm x), then x + feed-forward(norm x)."""

    def __init__(self, width: int, heads: int, dropout: float, expansion: int = 4) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm_feed = nn.LayerNorm(width)
        self.feed = nn.Sequential(
            nn.Linear(width, expansion * width), nn.GELU(), Dropout(dropout), nn.Linear(expansion * width, width)
        )
        self.dropout = Dropout(dropout)

    def forward(self, tokens: Tensor, valid: Tensor, first: int | None = None) -> Tensor:
        """(B, T, d) of tokens (B, T, d), of which some are valid (B, T): of the ``first`` tokens, or of all.

        Of a last layer often one token is read. The others would take most of its time.
        """
        normed = self.norm_attention(tokens)
        tokens = tokens[:, :first] + self.dropout(self.attention(normed[:, :first], normed, valid))
        return tokens + self.dropout(self.feed(self.norm_feed(tokens)))

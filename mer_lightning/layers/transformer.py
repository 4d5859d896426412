"""Layers that several backbones share. Shapes: B batch, T time, d width."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mer_lightning.errors import Refusal
from mer_lightning.layers.attention import Attention
from mer_lightning.layers.dropout import Dropout


@torch.no_grad()
def sinusoidal_positions(steps: int, width: int, like: Tensor) -> Tensor:
    """(T, d): sin(t / 10000^(2i/d)) in the first half of the columns and the cosines in the second."""
    half = (width + 1) // 2
    rates = torch.exp(torch.arange(half, device=like.device) * (-math.log(10000.0) / half))
    angles = torch.arange(steps, device=like.device).unsqueeze(1) * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)[:, :width].to(like.dtype)


class LearnedPositions(nn.Module):
    """One learned vector for each of the first ``limit`` positions. Called with T, it gives T of them (T, d)."""

    def __init__(self, limit: int, width: int, deviation: float) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(limit, width) * deviation)

    def forward(self, steps: int) -> Tensor:
        if steps > len(self.table):
            remedy = "raise `steps` of the backbone to the longest sequence of the corpus"
            raise Refusal("learned positions", f"at most {len(self.table)} positions", f"{steps}", remedy)
        return self.table[:steps]


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

    def forward(self, tokens: Tensor, key_mask: Tensor, first: int | None = None) -> Tensor:
        """(B, T, d) of tokens (B, T, d), of which only those in key_mask (B, T) are attended to.

        With ``first``, only so many tokens are computed, (B, first, d). Often one token is all that is read of a last
        layer, and the others would take most of its time.
        """
        normed = self.norm_attention(tokens)
        tokens = tokens[:, :first] + self.dropout(self.attention(normed[:, :first], normed, key_mask))
        return tokens + self.dropout(self.feed(self.norm_feed(tokens)))


class SequenceEncoder(nn.Module):
    """(B, T, D) and key_mask (B, T) -> (B, 1 + T, d): a summary token, then the steps, through pre-norm layers."""

    def __init__(self, dim: int, width: int, depth: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.project = nn.Linear(dim, width)
        self.summary = nn.Parameter(torch.randn(width) * 0.02)
        self.dropout = Dropout(dropout)
        self.layers = nn.ModuleList(TransformerLayer(width, heads, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, features: Tensor, key_mask: Tensor, first: int | None = None) -> Tensor:
        # Padding is zeroed before the first layer: a masked key has no effect on attention only if it is finite.
        tokens = self.project(features).where(key_mask.unsqueeze(2), 0.0)
        tokens = tokens + sinusoidal_positions(tokens.shape[1], tokens.shape[2], tokens)
        tokens = torch.cat([self.summary.to(tokens.dtype).expand(tokens.shape[0], 1, -1), tokens], dim=1)
        key_mask = torch.cat([key_mask.new_ones(key_mask.shape[0], 1), key_mask], dim=1)
        tokens = self.dropout(tokens)
        for number, layer in enumerate(self.layers, start=1):
            tokens = layer(tokens, key_mask, first if number == len(self.layers) else None)
        return self.norm(tokens)

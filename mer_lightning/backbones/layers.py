"""Layers that several backbones share. Shapes: B batch, T time of the query, S time of the memory, d width, h heads."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mer_lightning.backbones.dropout import Dropout, dropout


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


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, rate: float) -> Tensor:
    """softmax(query key' / sqrt d) value, with dropout of the weights; True in ``mask`` lets a query see a key.

    No fused kernel of a CPU knows dropout, and what torch falls back to looks for empty rows and draws slowly.
    """
    if rate == 0 or query.device.type != "cpu":
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=rate)
    hidden = torch.zeros(mask.shape, dtype=query.dtype).masked_fill_(~mask, -math.inf)
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
    return dropout(scores.add_(hidden).softmax(dim=-1), rate) @ value


class Attention(nn.Module):
    """Multi-head attention with a key mask. Without dropout on the weights fused kernels do the work.

    The heads share the width between them, unless ``head_width`` says how wide each is. ``bias``: of queries, keys and
    values.
    """

    def __init__(
        self, width: int, heads: int, dropout: float = 0.0, head_width: int | None = None, bias: bool = True
    ) -> None:
        super().__init__()
        if head_width is None and width % heads:
            raise ValueError(f"width {width} is not a multiple of heads {heads}")
        inner = width if head_width is None else heads * head_width
        self.heads, self.dropout = heads, dropout
        self.query = nn.Linear(width, inner, bias)
        self.key_value = nn.Linear(width, 2 * inner, bias)
        self.out = nn.Linear(inner, width)

    def forward(self, query: Tensor, memory: Tensor, valid: Tensor) -> Tensor:
        """(B, T, d) from queries (B, T, d), memory (B, S, d) and valid keys (B, S), or for each query (B, T, S).

        Every query needs one valid key.
        """
        q = self.query(query).unflatten(2, (self.heads, -1)).transpose(1, 2)
        k, v = self.key_value(memory).unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mask = valid[:, None, None, :] if valid.dim() == 2 else valid[:, None]
        mixed = attend(q, k, v, mask, self.dropout if self.training else 0.0)
        return self.out(mixed.transpose(1, 2).flatten(2))


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

    def forward(self, tokens: Tensor, valid: Tensor) -> Tensor:
        normed = self.norm_attention(tokens)
        tokens = tokens + self.dropout(self.attention(normed, normed, valid))
        return tokens + self.dropout(self.feed(self.norm_feed(tokens)))

"""Attention that is quick on a CPU. Shapes: B batch, h heads, T queries, S keys, d width.

torch's fused kernel for CPUs multiplies one head of one sample at a time, and oneDNN takes longer to start such a small
product than to compute it. One product for the whole batch lets a Transformer over 50 steps train three times as fast.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mer_lightning.layers.dropout import dropout
from mer_lightning.layers.ways import quick_on_cpu

_KEPT = 1 << 22  # up to so many weights are kept for the gradients; if there are more, they are computed again
_PIECE = 1 << 19  # so many weights fit the cache of a processor


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, rate: float = 0.0) -> Tensor:
    """softmax(query key' / sqrt d) value, with dropout of the weights; True in ``mask`` lets a query see a key.

    (B, h, T, d) of query (B, h, T, d), key and value (B, h, S, d), and mask (B, 1, 1 or T, S).
    """
    if not quick_on_cpu(query):
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=rate)
    query = query * query.shape[-1] ** -0.5
    hidden = None if mask is None else torch.zeros(mask.shape, dtype=query.dtype).masked_fill_(~mask, -math.inf)
    if rate:  # kept however many: drawing the same dropout again would take as long as everything else
        return dropout(_weights(query, key, hidden), rate) @ value
    if query[..., 0].numel() * key.shape[2] <= _KEPT:
        return _weights(query, key, hidden) @ value
    with torch.autocast("cpu", enabled=False):  # the same types in backward
        attended: Tensor = _InPieces.apply(query, key, value, hidden)
    return attended


def _weights(query: Tensor, key: Tensor, hidden: Tensor | None) -> Tensor:
    scores = query @ key.mT
    if hidden is not None:
        scores.add_(hidden)
    return scores.softmax(-1)


class _InPieces(torch.autograd.Function):
    """Attention of a few samples at a time. Backward computes the weights again, so that they take no memory.

    A step (forward and backward) of a MulT of width 40, 4 layers and 8 heads, on one thread, with 16 samples of 50, 500
    and 500 steps: 2.0 GiB at the peak, and 4.1 GiB where all weights are kept, which took 1.2 to 1.6 times as long.

    Backward, with W = softmax(query key' + hidden), the output Y = W value, and d a gradient:
        d value = W' dY                                dW = dY value'
        dS = W (dW - sum over keys of dW W), the gradient of the scores
        d query = dS key                               d key = dS' query
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, hidden: Tensor | None) -> Tensor:
        ctx.save_for_backward(query, key, value, hidden)
        return torch.cat([_weights(q, k, h) @ v for q, k, v, h in _pieces(query, key, value, hidden)])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        grads = []
        for q, k, v, h, d_output in _pieces(*ctx.saved_tensors, grad_output):
            weights = _weights(q, k, h)
            d_scores = torch.ops.aten._softmax_backward_data(d_output @ v.mT, weights, -1, weights.dtype)
            grads.append((d_scores @ k, d_scores.mT @ q, weights.mT @ d_output))
        d_query, d_key, d_value = map(torch.cat, zip(*grads, strict=True))
        return d_query, d_key, d_value, None


def _pieces(query: Tensor, key: Tensor, *others: Tensor | None) -> Iterator[Any]:
    """The same tensors, a few samples at a time."""
    samples = max(_PIECE // (query[0, ..., 0].numel() * key.shape[2]), 1)
    for start in range(0, len(query), samples):
        yield [None if each is None else each[start : start + samples] for each in (query, key, *others)]


class Attention(nn.Module):
    """Multi-head attention with a key mask.

    Args:
        width: d.
        heads: h.
        dropout: of attention weights.
        head_width: of each head; without it, the heads divide d between them.
        bias: of queries, keys and values.
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

    def forward(self, query: Tensor, memory: Tensor, key_mask: Tensor, values: Tensor | None = None) -> Tensor:
        """(B, T, d) from queries (B, T, d), memory (B, S, d) and valid keys (B, S), or for each query (B, T, S).

        Every query needs one valid key. ``values`` (B, S, d) replace the memory where values are made of it.
        """
        q = self.query(query).unflatten(2, (self.heads, -1)).transpose(1, 2)
        k, v = self._keys_and_values(memory)
        if values is not None:
            _, v = self._keys_and_values(values)
        mask = key_mask[:, None, None, :] if key_mask.dim() == 2 else key_mask[:, None]
        mixed = attend(q, k, v, mask, self.dropout if self.training else 0.0)
        return self.out(mixed.transpose(1, 2).flatten(2))

    def _keys_and_values(self, memory: Tensor) -> Tensor:
        """(2, B, h, S, head width) of memory (B, S, d)."""
        return self.key_value(memory).unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)

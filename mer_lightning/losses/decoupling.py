"""Losses that take representations apart: what modalities share, what is their own, and how far they are from overlap.

All are computed in at least float32. ``rows`` (B,) bool says which samples count, so that a modality that is absent in
some samples needs no indexing; what the other rows hold plays no part.

Shapes: B batch, d width.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_EPS = 1e-12


def cmd(x: Tensor, y: Tensor, moments: int = 5, rows: Tensor | None = None) -> Tensor:
    """Central moment discrepancy of two batches (B, d): |E x - E y| + sum_k=2..K |E (x - E x)^k - E (y - E y)^k|.

    Zero for fewer than two samples. The root of zero has no slope: a little is added below it.
    """
    (x, share), (y, _) = _counted(x, rows), _counted(y, rows)
    mean_x, mean_y = share @ x, share @ y
    total = _length(mean_x - mean_y)
    for k in range(2, moments + 1):
        total = total + _length(share @ (x - mean_x) ** k - share @ (y - mean_y) ** k)
    return total * _at_least(2, share)


def orthogonality(x: Tensor, y: Tensor, rows: Tensor | None = None, per_sample: bool = False) -> Tensor:
    """MISA's difference loss: mean over d x d of (X^T Y)^2, columns centred, rows divided by their detached lengths.

    It grows with the batch; ``per_sample`` divides X^T Y by the number of samples.
    """
    (x, share), (y, _) = _counted(x, rows), _counted(y, rows)
    counted = (share > 0).unsqueeze(1)
    x, y = (counted * (each - share @ each) for each in (x, y))
    x, y = (each / (each.detach().norm(dim=1, keepdim=True) + 1e-6) for each in (x, y))
    product = x.T @ y
    return (product / counted.sum().clamp(min=1) if per_sample else product).square().mean()


def cross_correlation(x: Tensor, y: Tensor, rows: Tensor | None = None) -> Tensor:
    """Mean over d x d of the squared correlations between the columns of x and those of y; zero below two samples."""
    (x, share), (y, _) = _counted(x, rows), _counted(y, rows)
    root = share.sqrt().unsqueeze(1)
    x, y = (root * (each - share @ each) for each in (x, y))
    x, y = (F.normalize(each, dim=0, eps=1e-6) for each in (x, y))
    return (x.T @ y).square().mean() * _at_least(2, share)


def token_overlap(x: Tensor, y: Tensor) -> Tensor:
    """TAILOR's orthogonality: (B,) |X Y^T|_F^2 of each sample's steps (B, T, d) and (B, S, d), as <X^T X, Y^T Y>.

    Unnormalised: it grows with both lengths. Steps that do not count must be zero.
    """
    gram_x, gram_y = (each.transpose(1, 2) @ each for each in (x, y))
    return (gram_x * gram_y).sum((1, 2))


def reverse_gradient(x: Tensor, coefficient: float = 1.0) -> Tensor:
    """x itself, whose gradient is turned round: what learns from it makes it worse for that purpose."""
    reversed_: Tensor = _Reverse.apply(x, coefficient)
    return reversed_


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, coefficient: float) -> Tensor:
        ctx.coefficient = coefficient
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.coefficient * gradients[0], None


def _counted(x: Tensor, rows: Tensor | None) -> tuple[Tensor, Tensor]:
    """x with the rows that do not count set to zero, and the share (B,) of each row that does."""
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    if rows is None:
        return x, x.new_full((len(x),), 1 / max(len(x), 1))
    return x.where(rows.unsqueeze(1), x.new_zeros(())), rows.to(x.dtype) / rows.sum().clamp(min=1)


def _length(x: Tensor) -> Tensor:
    return (x.square().sum() + _EPS).sqrt()


def _at_least(samples: int, share: Tensor) -> Tensor:
    return ((share > 0).sum() >= samples).to(share.dtype)

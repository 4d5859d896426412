"""MGR's parts: codes that modalities share or have for themselves, what stands in for absent ones, and contributions.

Shapes: B batch, K masks, M modalities of the model, d width of vectors, d_s and d_p widths of codes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mer_lightning.layers.dropout import Dropout

_LEAST_VARIANCE = 1e-3
_DECAY = 0.95


@dataclass(frozen=True)
class Codes:
    """What the vectors of a batch were split into. Codes of a modality that a sample lacks mean nothing."""

    vectors: Tensor  # (B, M, d)
    shared: Tensor  # (B, M, d_s)
    private: Tensor  # (B, M, d_p)


def encoder(width: int, code: int, dropout: float) -> nn.Sequential:
    """(..., d) -> (..., code)"""
    return nn.Sequential(nn.Linear(width, width), nn.GELU(), Dropout(dropout), nn.Linear(width, code))


class Standardised(nn.Module):
    """(z - mean) / sqrt(variance + 1e-3), each dimension by itself: no distance can be closed by shrinking.

    In training the statistics are those of the batch. In evaluation they are buffers, which :meth:`remember` sets to
    those of the training split.

    Args:
        modalities: M statistics, one for each modality; None: the same one for all modalities together.
        width: of the codes.
    """

    mean: Tensor  # (1, M or 1, width)
    variance: Tensor

    def __init__(self, modalities: int | None, width: int) -> None:
        super().__init__()
        self.over = (0, 1) if modalities is None else (0,)
        self.register_buffer("mean", torch.zeros(1, modalities or 1, width))
        self.register_buffer("variance", torch.ones(1, modalities or 1, width))

    def forward(self, raw: Tensor, present: Tensor) -> Tensor:
        """(B, M, width) of raw codes, whose statistics in training are over the present ones (B, M)."""
        mean, variance = self._statistics(raw, present) if self.training else (self.mean, self.variance)
        return (raw - mean) / (variance + _LEAST_VARIANCE).sqrt()

    @torch.no_grad()
    def remember(self, raw: Tensor, present: Tensor) -> None:
        mean, variance = self._statistics(raw, present)
        self.mean.copy_(mean)
        self.variance.copy_(variance)

    def _statistics(self, raw: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance over present codes: 0 and 0 where there is none, so that nothing is divided by zero."""
        rows = present.unsqueeze(2)
        count = rows.sum(self.over, keepdim=True).clamp(min=1)
        mean = raw.where(rows, 0.0).sum(self.over, keepdim=True) / count
        variance = (raw - mean).where(rows, 0.0).square().sum(self.over, keepdim=True) / count
        return mean, variance


class Absent(nn.Module):
    """What stands in for the codes of an absent modality.

        s_m = sum_j w_j s_j / sum_j w_j + o_m   over the modalities j that are present, with a learned offset o_m
        p_m = a learned token

    Args:
        modalities: M.
        shared: width of shared codes.
        private: width of private codes.
        impute: False: s_m is the learned o_m alone.
    """

    def __init__(self, modalities: int, shared: int, private: int, impute: bool) -> None:
        super().__init__()
        self.impute = impute
        self.offset = nn.Parameter(torch.zeros(modalities, shared))
        self.token = nn.Parameter(torch.zeros(modalities, private))

    def forward(self, codes: Codes, present: Tensor, weights: Tensor) -> Tensor:
        """(K, B, M (d_s + d_p)) all shared codes, then all private ones, under masks (K, B, M), by weights (M,)."""
        there = present.unsqueeze(3)
        kept = codes.shared.where(there, 0.0)
        shares = weights * present
        shares = shares / shares.sum(2, keepdim=True).clamp(min=1e-6)
        known = (shares.unsqueeze(3) * kept).sum(2, keepdim=True) if self.impute else 0.0
        shared = kept.where(there, known + self.offset)
        private = codes.private.where(there, self.token)
        return torch.cat([shared.flatten(2), private.flatten(2)], 2)


class Contribution(nn.Module):
    """How much each modality matters: how well it alone predicts a sample, half of it remembered over batches.

    r_m = softmax over present modalities of -e_m / tau        w = r / 2 + (running mean of r) / 2
    """

    running: Tensor  # (M,) sums to 1

    def __init__(self, modalities: int, temperature: float = 0.5) -> None:
        super().__init__()
        self.temperature = temperature
        self.register_buffer("running", torch.full((modalities,), 1 / modalities))

    @torch.no_grad()
    def forward(self, errors: Tensor, present: Tensor) -> Tensor:
        """(B, M) weights that sum to 1 over present modalities, from the errors (B, M) of each modality alone."""
        weights = (self._shares(errors, present) + self.running * present) / 2
        return weights / weights.sum(1, keepdim=True).clamp(min=1e-6)

    @torch.no_grad()
    def remember(self, errors: Tensor, present: Tensor) -> None:
        """Let a batch into the running mean; a modality that no sample has keeps its part of it."""
        counted = present.sum(0)
        mean = self._shares(errors, present).sum(0) / counted.clamp(min=1)
        mean = torch.where(counted > 0, mean, self.running)
        self.running.lerp_(mean / mean.sum().clamp(min=1e-6), 1 - _DECAY)

    def _shares(self, errors: Tensor, present: Tensor) -> Tensor:
        return torch.softmax(-errors.masked_fill(~present, torch.inf) / self.temperature, dim=1).nan_to_num(0.0)


def uniform_contribution(present: Tensor) -> Tensor:
    return present / present.sum(1, keepdim=True).clamp(min=1)

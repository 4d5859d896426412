"""What happened in an epoch of transfer, summed on the device and read once at its end.

Shapes: B batch, K masks, M modalities.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mer_lightning.methods.cdat.losses import pairs
from mer_lightning.modalities import LETTERS


class TransferLog:
    """Mean weight of each pair, share of samples that learn, and how well confidence follows the true probability."""

    def __init__(self) -> None:
        self._weights: Tensor | None = None  # (2, M, M): sums of weights, numbers of weights above zero
        self._moments: Tensor | None = None  # (6,): n, sums of c, c*, c^2, c*^2, c c*
        self._samples = 0

    def add_weights(self, weights: Tensor) -> None:
        """Weights (B, M, M)."""
        self._samples += len(weights)
        self._weights = _plus(self._weights, torch.stack([weights.sum(0), (weights > 0).sum(0).to(weights.dtype)]))

    def add_confidence(self, predicted: Tensor, true: Tensor) -> None:
        """Confidence and true-class probability (K, B) under the masks that weights are made from."""
        predicted, true = predicted.float().flatten(), true.float().flatten()
        terms = torch.stack(
            [torch.ones_like(predicted), predicted, true, predicted * predicted, true * true, predicted * true]
        )
        self._moments = _plus(self._moments, terms.sum(1))

    def read(self) -> dict[str, float]:
        """{name: mean over the epoch}; the sums start again from zero."""
        averages: dict[str, float] = {}
        if self._weights is not None:
            for name, values in zip(("weight", "learning"), (self._weights / self._samples).tolist(), strict=True):
                for m, n in pairs(len(values)):
                    averages[f"{name}_{LETTERS[m]}_from_{LETTERS[n]}"] = values[m][n]
        if self._moments is not None:
            n, c, t, cc, tt, ct = self._moments.double().tolist()
            spread, true_spread = max(cc / n - (c / n) ** 2, 0.0), max(tt / n - (t / n) ** 2, 0.0)
            averages |= {"confidence_mean": c / n, "confidence_std": spread**0.5}
            averages["confidence_correlation"] = (ct / n - c * t / n**2) / max((spread * true_spread) ** 0.5, 1e-12)
        self._weights, self._moments, self._samples = None, None, 0
        return averages


def _plus(sums: Tensor | None, more: Tensor) -> Tensor:
    return more if sums is None else sums + more

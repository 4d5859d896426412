"""What happened in an epoch of transfer, summed on the device and read once at its end.

Shapes: B batch, K masks, M modalities.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mer_lightning.methods.cdat.losses import pairs


class TransferLog:
    """Mean weight of each pair, share of samples that learn, and how well confidence follows the true probability."""

    def __init__(self) -> None:
        self._weights: Tensor | None = None  # (2, M, M): sums of weights, numbers of weights above zero
        self._moments: Tensor | None = None  # (6,): n, sums of c, c*, c^2, c*^2, c c*
        self._losses: Tensor | None = None  # (3,): n, sums of the weighted transfer loss and of the task's

    def add_weights(self, weights: Tensor) -> None:
        """Weights (B, M, M)."""
        self._weights = _plus(self._weights, torch.stack([weights.sum(0), (weights > 0).sum(0).to(weights.dtype)]))

    def add_confidence(self, predicted: Tensor, true: Tensor) -> None:
        """Confidence and true-class probability (K, B) under the masks that weights are made from."""
        predicted, true = predicted.float().flatten(), true.float().flatten()
        terms = torch.stack(
            [torch.ones_like(predicted), predicted, true, predicted * predicted, true * true, predicted * true]
        )
        self._moments = _plus(self._moments, terms.sum(1))

    def add_losses(self, transfer: Tensor, task: Tensor, samples: int) -> None:
        values = torch.stack([torch.ones_like(task), transfer.detach().to(task.dtype), task.detach()])
        self._losses = _plus(self._losses, values * samples)

    def read(self) -> dict[str, float]:
        """{name: mean over the epoch}; the sums start again from zero."""
        averages: dict[str, float] = {}
        if self._losses is not None:
            samples, transfer, task = self._losses.tolist()
            averages["share_of_task"] = transfer / max(task, 1e-12)
            if self._weights is not None:
                names = ("t", "a", "v")
                for name, values in zip(("weight", "learning"), self._weights.tolist(), strict=True):
                    for m, n in pairs(len(values)):
                        averages[f"{name}_{names[m]}_from_{names[n]}"] = values[m][n] / samples
        if self._moments is not None:
            n, c, t, cc, tt, ct = self._moments.double().tolist()
            spread, true_spread = max(cc / n - (c / n) ** 2, 0.0), max(tt / n - (t / n) ** 2, 0.0)
            averages |= {"confidence_mean": c / n, "confidence_std": spread**0.5}
            averages["confidence_correlation"] = (ct / n - c * t / n**2) / max((spread * true_spread) ** 0.5, 1e-12)
        self._weights = self._moments = self._losses = None
        return averages


def _plus(sums: Tensor | None, more: Tensor) -> Tensor:
    return more if sums is None else sums + more

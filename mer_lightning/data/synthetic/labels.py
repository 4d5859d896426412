"""Labels of the latent emotion, and probabilities of the labels where only a Gaussian of the latent is known.

Shapes: N samples, C latent dimensions, K labels; ... any further dimensions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class LabelRule(ABC):
    """How the latent z, each dimension N(0, 1) over the corpus, becomes a label."""

    latent_dims: int

    @abstractmethod
    def labels(self, latent: Floats) -> NDArray[np.float64] | NDArray[np.int64]:
        """(N, C) -> (N,) or (N, C)."""

    @abstractmethod
    def probabilities(self, mean: Floats, deviation: Floats) -> Floats:
        """(..., K) of each label when z ~ N(mean (..., C), deviation (...)^2), its dimensions independent."""


class Graded(LabelRule):
    """One latent cut into ordered ``values`` at the quantiles of their ``shares``."""

    latent_dims = 1

    def __init__(self, values: Floats, shares: Floats) -> None:
        self.values = values
        self.cuts = normal_quantile(np.cumsum(shares)[:-1] / shares.sum())

    def labels(self, latent: Floats) -> Floats:
        return self.values[np.searchsorted(self.cuts, latent[:, 0])]

    def probabilities(self, mean: Floats, deviation: Floats) -> Floats:
        below = normal_cdf((self.cuts - mean) / deviation[..., None])
        edge = np.zeros_like(mean)
        return np.diff(np.concatenate([edge, below, edge + 1], axis=-1), axis=-1)


class Exclusive(LabelRule):
    """The largest of C latents, each raised by an offset that gives every class its share."""

    _NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(48)

    def __init__(self, shares: Floats) -> None:
        self.latent_dims = len(shares)
        self.offsets = np.zeros(len(shares))
        for _ in range(200):  # a fixed-point iteration, which has converged to 1e-12 after about 60 rounds
            current = self.probabilities(np.zeros(len(shares)), np.ones(()))
            self.offsets += 0.5 * np.log(shares / current)
        self.offsets -= self.offsets.mean()

    def labels(self, latent: Floats) -> NDArray[np.int64]:
        return (latent + self.offsets).argmax(1)

    def probabilities(self, mean: Floats, deviation: Floats) -> Floats:
        """P(c) = E_x prod_{j != c} Phi((m_c - m_j) / s + x), x ~ N(0, 1): Gauss-Hermite over x."""
        raised = mean + self.offsets
        classes = []
        for c in range(self.latent_dims):
            margin = (raised[..., [c]] - np.delete(raised, c, axis=-1)) / deviation[..., None]
            product = normal_cdf(margin[..., None] + self._NODES).prod(axis=-2)
            classes.append(product @ self._WEIGHTS)
        unscaled = np.stack(classes, axis=-1)
        return unscaled / unscaled.sum(-1, keepdims=True)


class Independent(LabelRule):
    """A class is present if its own latent exceeds the quantile of its share. A sample may have no class."""

    def __init__(self, shares: Floats) -> None:
        self.latent_dims = len(shares)
        self.cuts = normal_quantile(1 - shares)

    def labels(self, latent: Floats) -> NDArray[np.int64]:
        return (latent > self.cuts).astype(np.int64)

    def probabilities(self, mean: Floats, deviation: Floats) -> Floats:
        return normal_cdf((mean - self.cuts) / deviation[..., None])


def normal_cdf(values: Floats) -> Floats:
    return torch.special.ndtr(torch.from_numpy(values)).numpy()


def normal_quantile(shares: Floats) -> Floats:
    return torch.special.ndtri(torch.from_numpy(shares)).numpy()

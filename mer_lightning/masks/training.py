"""The masks of training: what a model may look at in each training sample.

Masks are drawn anew for each epoch, by the functions of :mod:`mer_lightning.masks.drawing` and
:mod:`mer_lightning.masks.frames`.

Shapes: N samples of a split, B batch, M = 3 modalities.
"""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mer_lightning.batch import Batch
from mer_lightning.discovery import small_letters
from mer_lightning.errors import Refusal
from mer_lightning.made_with import MadeWith
from mer_lightning.masks.drawing import (
    SCHEMES,
    all_present,
    draw_combinations,
    per_modality_rates,
)
from mer_lightning.masks.frames import mask_frames, training_rates
from mer_lightning.masks.rates import FrameKind, Scheme, check_missing_rate, check_share
from mer_lightning.modalities import COMBINATIONS, MODALITIES, combination_present, combinations_of

# How CMAD's released code weighs the combinations in training, in the order of COMBINATIONS; they sum to 14.
CMAD_WEIGHTS = (2.0, 3.0, 3.0, 1.0, 1.0, 3.0, 1.0)


def combination_number(present: Tensor) -> Tensor:
    """(...,) int64 of (..., 3) bool: t + 2 a + 4 v; 1 to 7, and 0 when nothing is present."""
    bits = present.long()
    return bits[..., 0] + 2 * bits[..., 1] + 4 * bits[..., 2]


def left_by(mask: Tensor, available: Tensor) -> Tensor:
    """(N, M): the modalities that a sample has (``available``) and that its mask keeps.

    If a mask keeps none of the modalities that a sample has, this sample is not masked: it keeps all that it has.
    """
    left = mask & available
    return left.where(left.any(1, keepdim=True), available)


def every_combination(available: Tensor, modalities: Sequence[str] = MODALITIES) -> Tensor:
    """(V, N, M) each of the V combinations of ``modalities``, of what samples have (N, M); the complete one is last."""
    names = combinations_of(modalities)
    masks = torch.tensor([combination_present(name) for name in names], device=available.device)
    return torch.stack([left_by(mask, available) for mask in masks])


class TrainingMasks(MadeWith, ABC):
    """Decides which modalities and frames of each training sample a model may look at; drawn anew for each epoch."""

    @abstractmethod
    def present(self, samples: int, epoch: int, seed: int, modalities: Sequence[str] = MODALITIES) -> Tensor:
        """(N, M) bool, True where a modality may be looked at, for the whole split in one epoch; no row is empty.

        ``modalities`` are those that the corpus has.
        """

    def frames(self, batch: Batch, epoch: int, seed: int) -> Batch:
        """The batch after frames were removed from it; by default none are."""
        return batch

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value}" for name, value in vars(self).items() if name != "made_with")
        return f"{type(self).__name__}({options})"


def all_training_masks() -> dict[str, type[TrainingMasks]]:
    """{name: class} of every kind of training masks; the name is that of its class in small letters."""
    classes = [cls for cls in globals().values() if isinstance(cls, type) and not inspect.isabstract(cls)]
    found = [cls for cls in classes if issubclass(cls, TrainingMasks)]
    return {small_letters(cls.__name__): cls for cls in found}


class Complete(TrainingMasks):
    """All modalities, always."""

    def present(self, samples: int, epoch: int, seed: int, modalities: Sequence[str] = MODALITIES) -> Tensor:
        return all_present(samples, modalities)


class ModalityDropout(TrainingMasks):
    """Each modality is dropped with the same probability p, independently of the others.

    A sample that would lose all of them keeps one, chosen at random.

    Of three modalities: P(tav) = (1-p)^3, P(a given pair) = p (1-p)^2, P(a given single) = p^2 (1-p) + p^3 / 3.

    Args:
        rate: p, between 0 and 1.
    """

    def __init__(self, rate: float = 0.3) -> None:
        check_share("ModalityDropout.rate", rate)
        self.rate = rate

    def present(self, samples: int, epoch: int, seed: int, modalities: Sequence[str] = MODALITIES) -> Tensor:
        return per_modality_rates((self.rate,) * len(modalities), samples, seed, epoch, modalities=modalities)


class WeightedCombinations(TrainingMasks):
    """One combination of what the corpus has for each sample, with given weights; by default those of CMAD.

    A weight of 0 keeps a combination out of training, as the protocols `unseen-...` need.

    Args:
        weights: {combination: weight}, 0 for those not named, or seven weights in the order t, a, v, ta, tv, av, tav.
    """

    def __init__(self, weights: dict[str, float] | list[float] | None = None) -> None:
        self.weights = _seven_weights("WeightedCombinations.weights", CMAD_WEIGHTS if weights is None else weights)

    def present(self, samples: int, epoch: int, seed: int, modalities: Sequence[str] = MODALITIES) -> Tensor:
        return draw_combinations(self.weights, samples, seed, epoch, modalities=modalities)


class UniformCombinations(TrainingMasks):
    """One combination of what the corpus has for each sample, all equally likely: 1/7 each of three modalities."""

    def present(self, samples: int, epoch: int, seed: int, modalities: Sequence[str] = MODALITIES) -> Tensor:
        return draw_combinations([1.0] * len(COMBINATIONS), samples, seed, epoch, modalities=modalities)


class RandomRate(TrainingMasks):
    """Random missing at one rate, in the same way as the protocols `rate-cpm` and `rate-imder` evaluate it.

    Args:
        rate: share of modalities that are missing over the split: 0 to 0.7, or to 0.5 of two modalities; for imder one
            of 0.1, 0.2, ..., 0.7.
        scheme: how many samples keep one, two and three modalities: as in CPM-Net (`cpm`) or as in IMDer (`imder`).
    """

    def __init__(self, rate: float, scheme: Scheme = "cpm") -> None:
        check_missing_rate("RandomRate.rate", scheme, rate)
        self.rate, self.scheme = rate, scheme

    def present(self, samples: int, epoch: int, seed: int, modalities: Sequence[str] = MODALITIES) -> Tensor:
        check_missing_rate("RandomRate.rate", self.scheme, self.rate, modalities)
        return SCHEMES[self.scheme](self.rate, samples, seed, epoch, modalities=modalities)


class FrameMasks(Complete):
    """All modalities, of which single frames are removed.

    Args:
        kind: which frames are removed together, see :mod:`mer_lightning.masks.frames`.
        rate: share of frames that are removed; None draws it anew for each sample and epoch as the authors of each kind
            do, see :func:`mer_lightning.masks.frames.training_rates`.
    """

    def __init__(self, kind: FrameKind, rate: float | None = None) -> None:
        if rate is not None:
            check_share("FrameMasks.rate", rate)
        self.kind, self.rate = kind, rate

    def frames(self, batch: Batch, epoch: int, seed: int) -> Batch:
        rate = training_rates(self.kind, batch.index, seed, epoch) if self.rate is None else self.rate
        return mask_frames(batch, self.kind, rate, seed, epoch)


def _seven_weights(where: str, weights: Mapping[str, float] | Sequence[float]) -> tuple[float, ...]:
    if isinstance(weights, Mapping):
        if unknown := sorted(set(weights) - set(COMBINATIONS)):
            raise Refusal(where, f"combinations {', '.join(COMBINATIONS)}", f"'{unknown[0]}'", "write one of these")
        weights = [weights.get(name, 0.0) for name in COMBINATIONS]
    if len(weights) != len(COMBINATIONS):
        raise Refusal(where, "seven weights", str(len(weights)), f"give one each for {', '.join(COMBINATIONS)}")
    if any(not math.isfinite(weight) or weight < 0 for weight in weights) or sum(weights) == 0:
        raise Refusal(where, "weights of 0 or more, not all 0", str(list(weights)), "raise at least one")
    return tuple(weights)

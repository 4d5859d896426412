"""What of each sample a model may look at: drawing masks over modalities, and the masks of training.

A mask is drawn for a whole split at once and depends on its keys only (seed, epoch, ...), never on how the split is cut
into batches. No row of a drawn mask is ever empty.

Shapes: N samples of a split, B batch, M = 3 modalities.
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from mer_lightning.batch import Batch
from mer_lightning.errors import Refusal
from mer_lightning.masks.frames import FrameKind, mask_frames, training_rates
from mer_lightning.modalities import COMBINATIONS, LETTERS, MODALITIES, combination_present
from mer_lightning.randomness import name_key, uniform

Scheme = Literal["cpm", "imder"]

# How CMAD's released code weighs the combinations in training, in the order of COMBINATIONS; they sum to 14.
CMAD_WEIGHTS = (2.0, 3.0, 3.0, 1.0, 1.0, 3.0, 1.0)

# {missing rate: (share of samples that keep one modality, share that keep two)}, from the code of DiCMoR and IMDer.
IMDER_SHARES = {
    0.1: (0.1, 0.1),
    0.2: (0.2, 0.2),
    0.3: (0.3, 0.3),
    0.4: (0.5, 0.2),
    0.5: (0.7, 0.1),
    0.6: (0.9, 0.0),
    0.7: (1.0, 0.0),
}
LARGEST_RATE = 0.7  # one of three modalities always stays: 2/3, which the field writes 0.7
_CPM_TOLERANCE, _CPM_ROWS = 0.005, 32  # of the released code: how near the rate must be, and over how many rows


def draw_combinations(weights: Sequence[float], samples: int, *keys: int) -> Tensor:
    """(N, M): one combination per sample, with probabilities proportional to ``weights`` (order of COMBINATIONS)."""
    cumulative = torch.tensor(weights, dtype=torch.float64).cumsum(0)
    draws = uniform(*keys, name_key("combination"), torch.arange(samples))
    chosen = torch.searchsorted(cumulative / cumulative[-1], draws, right=True)
    return torch.tensor([combination_present(name) for name in COMBINATIONS])[chosen]


def per_modality_rates(rates: Sequence[float], samples: int, *keys: int) -> Tensor:
    """(N, M): modality m is dropped with probability r_m, independently; a row left empty keeps one, chosen uniformly.

    So P(m is absent) = r_m - r_t r_a r_v / 3, a little less than r_m.
    """
    kept = _cells("keep", samples, *keys) >= torch.tensor(rates, dtype=torch.float64)
    return kept | (_one_each("rescue", samples, *keys) & ~kept.any(1, keepdim=True))


def cpm_mask(rate: float, samples: int, *keys: int) -> Tensor:
    """(N, M): random missing at rate MR with the matrix of CPM-Net, as GCNet and its followers draw it.

    Every row keeps one uniformly chosen modality, and each other one with probability p = 1 - 3/2 MR, so that the
    expected share of cells kept is 1/3 + 2/3 p = 1 - MR. The whole matrix is drawn again until that share is within
    0.005 (or as near as so few cells can come). The released code rounds p to whole percents; we do not.
    """
    rows = max(samples, _CPM_ROWS)
    cells = rows * len(MODALITIES)
    further = max(1 - 1.5 * rate, 0.0)
    wanted = (1 + 2 * further) / 3
    for attempt in itertools.count():
        kept = _one_each("cpm-kept", rows, *keys, attempt) | (_cells("cpm-further", rows, *keys, attempt) < further)
        if abs(int(kept.sum()) / cells - wanted) <= max(_CPM_TOLERANCE, 0.5 / cells):
            break
    return kept[:samples]


def imder_mask(rate: float, samples: int, *keys: int) -> Tensor:
    """(N, M): random missing at rate MR in the shares of DiCMoR and IMDer, see IMDER_SHARES.

    Their code masks whole batches and draws one kept set per batch; here the same shares of samples, exact up to
    rounding, are chosen at random and each draws its own, so that the mask does not depend on batches.
    """
    keep_one, keep_two = (round(share * samples) for share in IMDER_SHARES[round(rate, 6)])
    order = uniform(*keys, name_key("imder-order"), torch.arange(samples)).argsort(stable=True)
    single = _one_each("imder-choice", samples, *keys)
    mask = torch.ones(samples, len(MODALITIES), dtype=torch.bool)
    ones, twos = order[:keep_one], order[keep_one : keep_one + keep_two]
    mask[ones] = single[ones]
    mask[twos] = ~single[twos]
    return mask


SCHEMES: dict[Scheme, Callable[..., Tensor]] = {"cpm": cpm_mask, "imder": imder_mask}


def _cells(purpose: str, samples: int, *keys: int) -> Tensor:
    """(N, M) uniform draws."""
    return uniform(*keys, name_key(purpose), torch.arange(samples).unsqueeze(1), torch.arange(len(MODALITIES)))


def _one_each(purpose: str, samples: int, *keys: int) -> Tensor:
    """(N, M) with one uniformly chosen modality in each row."""
    chosen = (uniform(*keys, name_key(purpose), torch.arange(samples)) * len(MODALITIES)).long()
    return F.one_hot(chosen, len(MODALITIES)).bool()


def combination_number(present: Tensor) -> Tensor:
    """(...,) int64 of (..., 3) bool: t + 2 a + 4 v; 1 to 7, and 0 when nothing is present."""
    bits = present.long()
    return bits[..., 0] + 2 * bits[..., 1] + 4 * bits[..., 2]


def left_by(mask: Tensor, available: Tensor) -> Tensor:
    """(N, M) what a mask leaves of what samples have. One that would leave a sample nothing gives way for that sample:
    the corpus lacks the rest."""
    left = mask & available
    return left.where(left.any(1, keepdim=True), available)


def every_combination(available: Tensor, modalities: Sequence[str] = MODALITIES) -> Tensor:
    """(V, N, M) each of the V combinations of ``modalities``, of what samples have (N, M); the complete one is last."""
    names = [name for name in COMBINATIONS if set(name) <= {LETTERS[MODALITIES.index(m)] for m in modalities}]
    masks = torch.tensor([combination_present(name) for name in names], device=available.device)
    return torch.stack([left_by(mask, available) for mask in masks])


def check_share(where: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise Refusal(where, "a rate between 0 and 1", str(value), "choose one in that range")


def check_missing_rate(where: str, scheme: Scheme, rate: float) -> None:
    if scheme == "imder" and round(rate, 6) not in IMDER_SHARES:
        listed = ", ".join(map(str, IMDER_SHARES))
        raise Refusal(where, f"for scheme imder one of the rates {listed}", str(rate), "choose one, or scheme cpm")
    if not 0 <= rate <= LARGEST_RATE:
        remedy = "choose a lower one: each sample keeps at least one of its three modalities"
        raise Refusal(where, f"a missing rate between 0 and {LARGEST_RATE}", str(rate), remedy)


class TrainingMasks(ABC):
    """What of each training sample a model may look at; drawn anew for each epoch."""

    @abstractmethod
    def present(self, samples: int, epoch: int, seed: int) -> Tensor:
        """(N, M) bool for the whole split of one epoch; never an empty row."""

    def frames(self, batch: Batch, epoch: int, seed: int) -> Batch:
        """The batch, some of whose frames may have been removed."""
        return batch

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value}" for name, value in vars(self).items())
        return f"{type(self).__name__}({options})"


class Complete(TrainingMasks):
    """All modalities, always."""

    def present(self, samples: int, epoch: int, seed: int) -> Tensor:
        return torch.ones(samples, len(MODALITIES), dtype=torch.bool)


class ModalityDropout(TrainingMasks):
    """Each modality is dropped with the same rate p, independently; a sample left with none keeps one at random.

    P(tav) = (1-p)^3, P(a given pair) = p (1-p)^2, P(a given single) = p^2 (1-p) + p^3 / 3.

    Args:
        rate: p, between 0 and 1.
    """

    def __init__(self, rate: float = 0.3) -> None:
        check_share("ModalityDropout.rate", rate)
        self.rate = rate

    def present(self, samples: int, epoch: int, seed: int) -> Tensor:
        return per_modality_rates((self.rate,) * len(MODALITIES), samples, seed, epoch)


class WeightedCombinations(TrainingMasks):
    """One of the seven combinations for each sample, with given weights; those of CMAD unless told otherwise.

    A weight of 0 keeps a combination out of training, as the protocols `unseen-...` need.

    Args:
        weights: {combination: weight}, 0 for those not named, or seven weights in the order t, a, v, ta, tv, av, tav.
    """

    def __init__(self, weights: dict[str, float] | list[float] | None = None) -> None:
        self.weights = _seven_weights("WeightedCombinations.weights", CMAD_WEIGHTS if weights is None else weights)

    def present(self, samples: int, epoch: int, seed: int) -> Tensor:
        return draw_combinations(self.weights, samples, seed, epoch)


class UniformCombinations(TrainingMasks):
    """One of the seven combinations for each sample, each with probability 1/7."""

    def present(self, samples: int, epoch: int, seed: int) -> Tensor:
        return draw_combinations([1.0] * len(COMBINATIONS), samples, seed, epoch)


class RandomRate(TrainingMasks):
    """Random missing at one rate, in the same way as the protocols `rate-cpm` and `rate-imder` evaluate it.

    Args:
        rate: share of modalities missing over the split: 0 to 0.7; for imder one of 0.1, 0.2, ..., 0.7.
        scheme: whose shares of samples with one, two and three modalities.
    """

    def __init__(self, rate: float, scheme: Scheme = "cpm") -> None:
        check_missing_rate("RandomRate.rate", scheme, rate)
        self.rate, self.scheme = rate, scheme

    def present(self, samples: int, epoch: int, seed: int) -> Tensor:
        return SCHEMES[self.scheme](self.rate, samples, seed, epoch)


class FrameMasks(Complete):
    """All modalities, of which single frames are removed.

    Args:
        kind: which frames fall together, see :mod:`mer_lightning.masks.frames`.
        rate: share of frames removed; None draws it anew for each sample and epoch as the authors of each kind do, see
            :func:`mer_lightning.masks.frames.training_rates`.
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

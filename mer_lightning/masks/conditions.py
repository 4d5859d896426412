"""Conditions: named, frozen ways of masking an evaluation set.

The name of a condition and a seed decide all that it masks. So one condition more in a protocol does not change the
masks of the others. Torch is imported when masks are drawn: names are checked without it.

Shapes: N samples of a split, B batch, M = 3 modalities.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mer_lightning.masks.rates import (
    FRAME_KINDS,
    LARGEST_RATE,
    NESTED_KINDS,
    SCHEME_NAMES,
    FrameKind,
    Scheme,
    check_missing_rate,
    check_share,
)
from mer_lightning.modalities import COMBINATIONS, MODALITIES, combination_present, combinations_of
from mer_lightning.randomness import name_key

if TYPE_CHECKING:
    from torch import Tensor

    from mer_lightning.batch import Batch


class Condition(ABC):
    """Decides what a model may look at, for every sample of a split."""

    @property
    @abstractmethod
    def name(self) -> str:
        """As in tables, result files and the command line."""

    @property
    def masks_whole_modalities(self) -> bool:
        """False if :meth:`apply` removes frames: then the batch must be encoded again after it."""
        return True

    def possible(self, modalities: Sequence[str]) -> bool:
        """Whether a corpus with these modalities can meet it."""
        return True

    def present(self, samples: int, seed: int, modalities: Sequence[str] = MODALITIES) -> Tensor:
        """(N, M) bool, True where a modality of the corpus may be looked at; no row is empty."""
        from mer_lightning.masks.drawing import all_present

        return all_present(samples, modalities)

    def apply(self, batch: Batch, seed: int) -> Batch:
        """The batch without the frames that this condition removes; ``present`` stays as it is."""
        return batch


@dataclass(frozen=True)
class CombinationCondition(Condition):
    """The same combination for all samples."""

    combination: str

    @property
    def name(self) -> str:
        return self.combination

    def possible(self, modalities: Sequence[str]) -> bool:
        return self.combination in combinations_of(modalities)

    def present(self, samples: int, seed: int, modalities: Sequence[str] = MODALITIES) -> Tensor:
        import torch

        return torch.tensor(combination_present(self.combination)).repeat(samples, 1)


@dataclass(frozen=True)
class RateCondition(Condition):
    """Random missing at one rate over the split."""

    scheme: Scheme
    rate: float

    def __post_init__(self) -> None:
        check_missing_rate(self.name, self.scheme, self.rate)

    @property
    def name(self) -> str:
        return f"rate-{self.scheme}-{self.rate}"

    def possible(self, modalities: Sequence[str]) -> bool:
        return len(modalities) > 1 and self.rate <= LARGEST_RATE[len(modalities)]

    def present(self, samples: int, seed: int, modalities: Sequence[str] = MODALITIES) -> Tensor:
        from mer_lightning.masks.drawing import SCHEMES

        return SCHEMES[self.scheme](self.rate, samples, seed, name_key(self.name), modalities=modalities)


@dataclass(frozen=True)
class ModalityRatesCondition(Condition):
    """Random missing, with a separate rate for each modality."""

    rates: tuple[float, ...]  # of each modality that the corpus has, in the order text, audio, vision

    def __post_init__(self) -> None:
        for rate in self.rates:
            check_share(self.name, rate)

    @property
    def name(self) -> str:
        return "-".join(("modality-rates", *map(str, self.rates)))

    def possible(self, modalities: Sequence[str]) -> bool:
        return len(modalities) == len(self.rates)

    def present(self, samples: int, seed: int, modalities: Sequence[str] = MODALITIES) -> Tensor:
        from mer_lightning.masks.drawing import per_modality_rates

        return per_modality_rates(self.rates, samples, seed, name_key(self.name), modalities=modalities)


@dataclass(frozen=True)
class FrameCondition(Condition):
    """All modalities, of which single frames are removed."""

    kind: FrameKind
    rate: float

    def __post_init__(self) -> None:
        check_share(self.name, self.rate)

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.rate}"

    @property
    def masks_whole_modalities(self) -> bool:
        return self.rate == 0  # no frame is removed, so the encoding of the complete batch is right

    def apply(self, batch: Batch, seed: int) -> Batch:
        from mer_lightning.masks.frames import mask_frames

        return mask_frames(batch, self.kind, self.rate, seed, self._key())

    def removed(self, index: Tensor, key_mask: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
        """{modality: (B, T_m)}: the frames that :meth:`apply` removes; this needs no features."""
        from mer_lightning.masks.frames import removed_frames

        return removed_frames(self.kind, self.rate, index, key_mask, seed, self._key())

    def _key(self) -> int:
        """The rate is part of it, so that rates draw independently; not for kinds whose rates share their draws."""
        return name_key(self.kind if self.kind in NESTED_KINDS else self.name)


_RATE = r"(\d+(?:\.\d+)?)"
_SCHEME = re.compile(rf"rate-({'|'.join(SCHEME_NAMES)})-{_RATE}")
_MODALITY_RATES = re.compile(rf"modality-rates-{_RATE}-{_RATE}(?:-{_RATE})?")
_FRAMES = re.compile(rf"({'|'.join(FRAME_KINDS)})-{_RATE}")


def condition_named(name: str) -> Condition | None:
    """The condition of that name; None if no condition has it. Refuses a rate that the kind does not allow."""
    if name in COMBINATIONS:
        return CombinationCondition(name)
    if match := _SCHEME.fullmatch(name):
        return RateCondition(match[1], float(match[2]))  # type: ignore[arg-type]
    if match := _MODALITY_RATES.fullmatch(name):
        return ModalityRatesCondition(tuple(float(rate) for rate in match.groups() if rate is not None))
    if match := _FRAMES.fullmatch(name):
        return FrameCondition(match[1], float(match[2]))  # type: ignore[arg-type]
    return None


def our_combination(theirs: str) -> str | None:
    """Our name of a combination that is written as in other repositories; None if it is not a combination.

    Letters in any order, ``l`` (language) for text, ``z`` for an absent modality, braces and commas as in papers:
    ``at``, ``atv`` (GCNet, MoMKE), ``azl`` (MMIN), ``{l,v}`` (DiCMoR, IMDer).
    """
    letters = sorted(theirs.lower().replace("l", "t").replace("z", "").strip("{}").replace(",", "").replace(" ", ""))
    return next((ours for ours in COMBINATIONS if sorted(ours) == letters), None)


def in_our_order(columns: Tensor, order: Sequence[str]) -> Tensor:
    """A mask (N, M) of another repository with its columns in our order.

    ``order`` names the columns as they were, e.g. ``"avl"`` for MMIN.
    """
    letters = "".join(order).lower().replace("l", "t")
    return columns[:, [letters.index(letter) for letter in "tav"]]

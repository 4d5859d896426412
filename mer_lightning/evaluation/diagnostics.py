"""How reliable predictions are when a modality is masked: pure functions on what a model said under each mask.

Shapes: N samples, M modalities that can be masked, O outputs. Of a sample i: r_i is 1 where the prediction from all
modalities is right, r_im where that without modality m is (``Task.right``). Functions take samples of which rightness
can be told; who calls them leaves out the others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Flips:
    """What masking one modality puts right, and what it spoils, in numbers of samples."""

    errors: int  # wrong with everything
    hits: int  # right with everything
    rescued: tuple[int, ...]  # of the errors, right without modality m
    rescued_by_any: int
    spoiled: tuple[int, ...]  # of the hits, wrong without modality m
    spoiled_by_any: int


def flips(complete: Tensor, masked: Tensor) -> Flips:
    """From r (N,) and r_m (M, N), both bool.

        rescue rate of m = sum_i (1 - r_i) r_im / sum_i (1 - r_i)
        spoil rate of m  = sum_i r_i (1 - r_im) / sum_i r_i

    and of "any": the same with max_m r_im and min_m r_im. Which mask rescues is known only with the label: the rate of
    "any" is no score that a model could reach by choosing masks.
    """
    rescued, spoiled = ~complete & masked, complete & ~masked
    return Flips(
        errors=int((~complete).sum()),
        hits=int(complete.sum()),
        rescued=tuple(rescued.sum(1).tolist()),
        rescued_by_any=int(rescued.any(0).sum()),
        spoiled=tuple(spoiled.sum(1).tolist()),
        spoiled_by_any=int(spoiled.any(0).sum()),
    )


@dataclass(frozen=True)
class Contradiction:
    """Samples on which two predictions differ, and how many of them each side has right. Both cannot be right."""

    samples: int
    first_right: int
    second_right: int
    complete_right: int

    @property
    def neither_right(self) -> int:
        return self.samples - self.first_right - self.second_right


def contradiction(categories: tuple[Tensor, Tensor], right: tuple[Tensor, Tensor], complete: Tensor) -> Contradiction:
    """Of two modalities alone: predicted categories and their rightness, (N,) each; ``complete`` is r."""
    differ = categories[0] != categories[1]
    first, second, both = (int((differ & each).sum()) for each in (*right, complete))
    return Contradiction(int(differ.sum()), first, second, both)


def agreement(categories: Tensor) -> Tensor:
    """(N,) bool: all modalities alone, (M, N) categories, predict the same."""
    return (categories == categories[0]).all(0)


def picks(confidence: Tensor, contradicting: Tensor) -> Tensor:
    """(n,) in [0, 1]: whether confidence picks the modality that contradicts, on the n samples that have one.

        pick_i = argmax_m c_im,   c_im the confidence (M, N) when m is masked: highest without what misleads

    ``contradicting`` (N,) is the number of the modality, -1 for none. Of k equal highest values each counts 1 / k, so
    that a constant confidence is right by chance, 1 / M.
    """
    here = contradicting >= 0
    confidence, contradicting = confidence[:, here], contradicting[here]
    highest = confidence == confidence.amax(0)
    return highest.gather(0, contradicting.unsqueeze(0)).squeeze(0) / highest.sum(0)


def without_contradicting(complete: Tensor, masked: Tensor, contradicting: Tensor) -> Tensor:
    """(N, O): the logits without the modality that contradicts, (M, N, O), and the complete ones where none does.

    Its score is the ceiling of what masking one modality per sample can gain by finding out which one contradicts.
    """
    here = contradicting >= 0
    chosen = complete.clone()
    chosen[here] = masked[contradicting[here], here]
    return chosen


def most_confident(logits: Tensor, confidence: Tensor) -> Tensor:
    """(N, O): of V views (V, N, O), the complete one first, that of the highest confidence (V, N); ties go first.

    It is the hard filter that a confidence stands for: mask one modality where its absence makes the model surer.
    """
    return logits[confidence.argmax(0), torch.arange(logits.shape[1])]


def auroc(score: Tensor, right: Tensor) -> float:
    """P(score of a right prediction > score of a wrong one) + P(equal) / 2; NaN where all are right or all wrong."""
    hits, errors = score[right], score[~right].sort().values
    if len(hits) == 0 or len(errors) == 0:
        return math.nan
    below, not_above = (torch.searchsorted(errors, hits, right=side) for side in (False, True))
    return float((below + not_above).double().mean() / (2 * len(errors)))

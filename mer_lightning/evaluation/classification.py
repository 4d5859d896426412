"""Counts per class and ratios of counts, from which the metrics of classes are computed.

A ratio whose denominator is 0 is 0 for precision, recall and F1 (as with scikit-learn's ``zero_division=0``), and NaN
where a metric is undefined (balanced accuracy without a positive, average precision without a positive).

Shapes: N samples, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Counts:
    """Counts of each class, in float64. All metrics of classes except rankings are functions of these four."""

    hits: Tensor  # (C,) samples that have the class and are predicted to have it: true positives
    positives: Tensor  # (C,) samples that have it
    predicted: Tensor  # (C,) samples that are predicted to have it
    samples: int  # N

    def of_the_rest(self) -> Counts:
        """The counts of the opposite classes, "does not have the class"."""
        return Counts(
            hits=self.samples - self.positives - self.predicted + self.hits,
            positives=self.samples - self.positives,
            predicted=self.samples - self.predicted,
            samples=self.samples,
        )


def count(truth: Tensor, decision: Tensor) -> Counts:
    """Counts from (N, C) bool."""
    return Counts(
        hits=(truth & decision).sum(0).double(),
        positives=truth.sum(0).double(),
        predicted=decision.sum(0).double(),
        samples=len(truth),
    )


def count_two(truth: Tensor, decision: Tensor) -> Counts:
    """Counts of the two classes "not" and "is", from (N,) bool."""
    return count(torch.stack([~truth, truth], 1), torch.stack([~decision, decision], 1))


def ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """a / b, and 0 where b = 0."""
    return torch.where(denominator > 0, numerator / denominator.clamp(min=1), 0.0)


def accuracy(truth: Tensor, decision: Tensor) -> Tensor:
    """(1/N) sum_i 1[decision_i = truth_i]; NaN for no samples."""
    return (truth == decision).double().mean()


def recalls(counts: Counts) -> Tensor:
    """(C,) hits_c / positives_c; NaN for a class without a positive."""
    return counts.hits / counts.positives


def f1_scores(counts: Counts) -> Tensor:
    """(C,) F1_c = 2 hits_c / (positives_c + predicted_c): the harmonic mean of precision and recall."""
    return ratio(2 * counts.hits, counts.positives + counts.predicted)


def weighted_f1(counts: Counts) -> Tensor:
    """sum_c positives_c F1_c / sum_c positives_c; NaN without a positive.

    The weights are those of the truth, so exchanging truth and decision gives another value.
    """
    return (counts.positives * f1_scores(counts)).sum() / counts.positives.sum()


def micro_precision(counts: Counts) -> Tensor:
    """sum_c hits_c / sum_c predicted_c"""
    return ratio(counts.hits.sum(), counts.predicted.sum())


def micro_recall(counts: Counts) -> Tensor:
    """sum_c hits_c / sum_c positives_c"""
    return ratio(counts.hits.sum(), counts.positives.sum())


def micro_f1(counts: Counts) -> Tensor:
    """2 sum_c hits_c / sum_c (positives_c + predicted_c)"""
    return ratio(2 * counts.hits.sum(), (counts.positives + counts.predicted).sum())


def binary_accuracies(counts: Counts) -> Tensor:
    """(C,) share of samples for which "has class c" is predicted correctly: (hits_c + hits_not_c) / N."""
    return (counts.hits + counts.of_the_rest().hits) / counts.samples


def binary_weighted_f1(counts: Counts) -> Tensor:
    """(C,) the weighted F1 of the two classes "has c" and "has not": (P_c F1_c + (N - P_c) F1_not_c) / N."""
    rest = counts.of_the_rest()
    return (counts.positives * f1_scores(counts) + rest.positives * f1_scores(rest)) / counts.samples


def balanced_accuracies(counts: Counts) -> Tensor:
    """(C,) (TP N/P + TN) / 2N = (recall of "has c" + recall of "has not") / 2, with P positives and N negatives.

    NaN for a class that every sample has or that no sample has.
    """
    return (recalls(counts) + recalls(counts.of_the_rest())) / 2


def average_precision(truth: Tensor, scores: Tensor) -> Tensor:
    """sum_n (R_n - R_{n-1}) P_n over the distinct scores from the highest down; NaN without a positive.

    ``truth`` (N,) bool, ``scores`` (N,). Precision P_n and recall R_n are those of "score >= n-th highest score": tied
    samples enter together, so that a constant score gives the share of positives in any order of the samples.
    """
    ranked, order = scores.sort(descending=True)
    last_of_tie = torch.ones_like(truth)
    last_of_tie[:-1] = ranked[1:] != ranked[:-1]
    ends_of_ties = torch.nonzero(last_of_tie).squeeze(1)
    hits = truth[order].double().cumsum(0)[ends_of_ties]
    new_hits = torch.diff(hits, prepend=hits.new_zeros(1))
    return (new_hits * hits / (ends_of_ties + 1)).sum() / hits[-1]

"""Paired tests of two methods on the same samples, and Holm's correction for many comparisons.

Shapes: N samples of a split, S seeds, K conditions, O outputs, R resamples, C classes. Scores are those that select
checkpoints, turned so that higher is better.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from mer_lightning.tasks import MultiLabel, Ratings, SingleLabel, Task

SURE = 0.05  # a difference with a p-value up to this is called sure; intervals are of 1 - SURE
_RESAMPLES = 2000
_CHUNK_BYTES = 2**27  # of the counts of resamples at a time: all of them, (R, N), would need much memory


@dataclass(frozen=True)
class Difference:
    """The first method's score minus the second's, both averaged over seeds.

    The interval leaves out 0 exactly where the p-value of the bootstrap is at most SURE, corrected or not.
    """

    value: float
    low: float  # of the 95 % interval of the bootstrap
    high: float
    bootstrap_p: float  # two-sided, from the bootstrap
    wilcoxon_p: float  # two-sided, from the losses of samples, averaged over seeds and conditions
    resampled: Tensor  # (R,) the differences of the bootstrap, from the lowest to the highest

    def with_interval(self, level: float) -> Difference:
        """With the interval that leaves out 0 where ``bootstrap_p`` is at most ``level``."""
        low, high = _interval(self.resampled, level)
        return replace(self, low=low, high=high)


def resampled_scores(task: Task, decision: Tensor, target: Tensor, counts: Tensor) -> Tensor:
    """(R,) scores of a split whose sample i counts counts[r, i] times; counts (R, N) double.

    Each score is a function of sums over samples, so a resample costs one row of a matrix product.
    """
    if isinstance(task, SingleLabel):
        classes = len(task.classes)
        pairs = F.one_hot(target.long() * classes + decision.long(), classes * classes).double()
        confusion = (counts @ pairs).view(-1, classes, classes)
        hits, positives, predicted = confusion.diagonal(dim1=1, dim2=2), confusion.sum(2), confusion.sum(1)
        f1 = 2 * hits / (positives + predicted).clamp(min=1)
        return (f1 * positives).sum(1) / positives.sum(1)
    if isinstance(task, MultiLabel):
        predicted, true = decision.bool(), target.bool()
        hits = (predicted & true).sum(1).double()
        predicted_and_true = (predicted.sum(1) + true.sum(1)).double()
        return 2 * (counts @ hits) / (counts @ predicted_and_true).clamp(min=1)
    if isinstance(task, Ratings):
        return _resampled_ratings(task, decision.double(), target.double(), counts)
    return -(counts @ (decision.double() - target.double()).abs()) / counts.sum(1)


def _resampled_ratings(task: Ratings, decision: Tensor, target: Tensor, counts: Tensor) -> Tensor:
    """The same for ratings: minus the error of one target, the mean CCC of several. Missing labels do not count."""
    t, p = (values.view(len(target), -1) for values in (target, decision))
    known = ~t.isnan()
    seen = (counts @ known.double()).clamp(min=1)
    if task.score[0] == "mae":
        return -(counts @ (p - t).abs().where(known, 0.0) / seen).mean(1)
    # A CCC stays the same when truth and prediction move together; around zero, sums of squares lose no digits.
    centre = t.nanmean(0)
    t, p = ((values - centre).where(known, 0.0) for values in (t, p))
    mean_t, mean_p = counts @ t / seen, counts @ p / seen
    covariance = counts @ (t * p) / seen - mean_t * mean_p
    spread = counts @ (t * t + p * p) / seen - mean_t.square() - mean_p.square() + (mean_t - mean_p).square()
    return (2 * covariance / spread.clamp(min=1e-12)).mean(1)


def compare(task: Task, first: Tensor, second: Tensor, target: Tensor, seed: int = 0) -> Difference:
    """Compare logits (S, K, N, O) of two methods on the same samples; a score is the mean over conditions and seeds.

    The bootstrap draws samples and, on each side, seeds; both methods see the same samples.
    """
    draws = torch.Generator().manual_seed(seed)
    methods = (first, second)
    decisions = [[[task.decide(k) for k in run] for run in logits] for logits in methods]
    resampled: list[list[Tensor]] = [[], []]
    for counts in _resamples(len(target), draws):
        for parts, decision in zip(resampled, decisions, strict=True):
            parts.append(_run_scores(task, decision, target, counts))
    observed = torch.ones(1, len(target), dtype=torch.float64)
    scores, losses = [], []
    for logits, decision, parts in zip(methods, decisions, resampled, strict=True):
        whole = _run_scores(task, decision, target, observed).mean()
        chosen = torch.randint(len(logits), (len(logits), _RESAMPLES), generator=draws)
        scores.append((whole, torch.cat(parts, 1).gather(0, chosen).mean(0)))
        losses.append(torch.stack([task.losses(k, target) for run in logits for k in run]).double().mean(0))
    resampled_differences = (scores[0][1] - scores[1][1]).sort().values
    low, high = _interval(resampled_differences, SURE)
    # A p-value is never zero: the observed resample is one of them.
    tail = min(int((resampled_differences <= 0).sum()), int((resampled_differences >= 0).sum()))
    return Difference(
        value=float(scores[0][0] - scores[1][0]),
        low=low,
        high=high,
        bootstrap_p=min(2 * (tail + 1) / (_RESAMPLES + 1), 1.0),
        wilcoxon_p=_wilcoxon(losses[0], losses[1]),
        resampled=resampled_differences,
    )


def corrected(differences: Mapping[str, Difference]) -> dict[str, Difference]:
    """Of many comparisons: p-values after Holm's correction, and intervals that are widened by the same factor.

    So an interval leaves out 0 exactly where the corrected p-value of the bootstrap is at most SURE.
    """
    bootstrap = [each.bootstrap_p for each in differences.values()]
    wilcoxon = holm([each.wilcoxon_p for each in differences.values()])
    factors = _holm_factors(bootstrap)
    return {
        name: replace(each.with_interval(SURE / factor), bootstrap_p=min(factor * each.bootstrap_p, 1.0), wilcoxon_p=p)
        for (name, each), factor, p in zip(differences.items(), factors, wilcoxon, strict=True)
    }


def holm(p_values: list[float]) -> list[float]:
    """Holm's step-down correction, in the order given."""
    return [min(factor * p, 1.0) for factor, p in zip(_holm_factors(p_values), p_values, strict=True)]


def _holm_factors(p_values: list[float]) -> list[float]:
    """What each p-value is multiplied by, in the order given: from 1 to their number."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    factors, largest = [1.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, (len(p_values) - rank) * p_values[i])
        factors[i] = largest / p_values[i] if p_values[i] > 0 else float(len(p_values) - rank)
    return factors


def _interval(resampled: Tensor, level: float) -> tuple[float, float]:
    """The values between which 1 - ``level`` of the resampled differences lie, which are sorted.

    They are counted as the p-value counts, with the observed resample among them. Where there are too few for a level,
    the interval has no ends.
    """
    beyond = int(level / 2 * (len(resampled) + 1) + 1e-9)  # an exact share may be a little less in floating point
    if not beyond:
        return -math.inf, math.inf
    return float(resampled[beyond - 1]), float(resampled[-beyond])


def _run_scores(task: Task, decisions: list[list[Tensor]], target: Tensor, counts: Tensor) -> Tensor:
    """(S, r) the mean over conditions, for each seed; counts (r, N)."""

    def mean(run: list[Tensor]) -> Tensor:
        return torch.stack([resampled_scores(task, decision, target, counts) for decision in run]).mean(0)

    return torch.stack([mean(run) for run in decisions])


def _resamples(samples: int, draws: torch.Generator) -> Iterator[Tensor]:
    """The counts of R resamples, in pieces (r, N) that fit into memory."""
    most = max(_CHUNK_BYTES // (8 * samples), 1)
    for rows in torch.arange(_RESAMPLES).split(most):
        yield drawn_counts(len(rows), samples, draws)


def drawn_counts(resamples: int, samples: int, draws: torch.Generator) -> Tensor:
    """(r, N) how often each sample occurs in each of r resamples with replacement."""
    drawn = torch.randint(samples, (resamples, samples), generator=draws)
    counts = torch.zeros(drawn.shape, dtype=torch.float64)
    return counts.scatter_add_(1, drawn, torch.ones_like(drawn, dtype=torch.float64))


def _wilcoxon(first: Tensor, second: Tensor) -> float:
    """The p-value of Wilcoxon's signed-rank test; 1 where all differences are 0."""
    from scipy.stats import wilcoxon

    if torch.equal(first, second):
        return 1.0
    return float(wilcoxon(first.numpy(), second.numpy()).pvalue)

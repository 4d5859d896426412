"""Paired tests of two methods on the same samples, and Holm's correction for many comparisons.

Shapes: N samples of a split, S seeds, K conditions, O outputs, R resamples, C classes. Scores are those that select
checkpoints, turned so that higher is better.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mer_lightning.tasks import MultiLabel, Ratings, SingleLabel, Task

_RESAMPLES = 2000
_CHUNK_BYTES = 2**27  # of the counts of resamples at a time: all of them, (R, N), would need much memory


@dataclass(frozen=True)
class Difference:
    """The first method's score minus the second's, both averaged over seeds."""

    value: float
    low: float  # of the 95 % interval of the bootstrap
    high: float
    bootstrap_p: float  # two-sided, from the bootstrap
    wilcoxon_p: float  # two-sided, from the losses of samples, averaged over seeds and conditions


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
    difference = scores[0][1] - scores[1][1]
    low, high = torch.quantile(difference, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    # A p-value is never zero: the observed resample is one of them.
    tail = min(int((difference <= 0).sum()), int((difference >= 0).sum()))
    return Difference(
        value=float(scores[0][0] - scores[1][0]),
        low=low,
        high=high,
        bootstrap_p=min(2 * (tail + 1) / (_RESAMPLES + 1), 1.0),
        wilcoxon_p=_wilcoxon(losses[0], losses[1]),
    )


def holm(p_values: list[float]) -> list[float]:
    """Holm's step-down correction, in the order given."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min((len(p_values) - rank) * p_values[i], 1.0))
        corrected[i] = largest
    return corrected


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

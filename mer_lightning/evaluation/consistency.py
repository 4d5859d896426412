"""How similar the predictions of a model are under different conditions, and how well its states separate emotions.

Shapes: N samples, K conditions, C classes, O outputs, d width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mer_lightning.tasks import MultiLabel, Task


def disagreement(logits: Tensor, task: Task) -> Tensor:
    """(K, K) mean over samples of the distance between the predictions under two conditions, for logits (N, K, O).

    With classes: the Jensen-Shannon divergence H((p + q) / 2) - (H(p) + H(q)) / 2 in bits, 0 for equal distributions
    and 1 for those that share no class; of several labels, the mean over labels. For regression and ratings: the
    absolute difference in units of the labels, the mean over targets.
    """
    samples, conditions = logits.shape[:2]
    probabilities = task.probabilities(logits.double().flatten(0, 1))
    if probabilities is None:
        values = task.decide(logits.double().flatten(0, 1)).view(samples, conditions, -1)
        return (values.unsqueeze(2) - values.unsqueeze(1)).abs().mean((0, 3))
    # (N K, labels, C): each label of a label set is a distribution over yes and no.
    if isinstance(task, MultiLabel):
        distributions = torch.stack([probabilities, 1 - probabilities], -1)
    else:
        distributions = probabilities.unsqueeze(1)
    p = distributions.view(samples, conditions, *distributions.shape[1:])
    first, second = p.unsqueeze(2), p.unsqueeze(1)
    divergence = _entropy((first + second) / 2) - (_entropy(first) + _entropy(second)) / 2
    return divergence.mean((0, 3))


def _entropy(p: Tensor) -> Tensor:
    """In bits, of distributions over the last dimension."""
    return torch.special.entr(p).sum(-1) / math.log(2)


def mean_disagreement(logits: Tensor, task: Task) -> float:
    """The mean of :func:`disagreement` over pairs of different conditions; 0 when masks change nothing."""
    pairs = disagreement(logits, task)
    conditions = len(pairs)
    return float(pairs.sum() / max(conditions * (conditions - 1), 1))


def class_separation(states: Tensor, category: Tensor) -> float:
    """Mean silhouette in [-1, 1] of states (N, d) grouped by category (N,); NaN where fewer than two groups exist.

    Of one sample: (b - a) / max(a, b), with a its mean distance to the others of its category and b the smallest mean
    distance to another category (Rousseeuw, 1987). High values: the categories are
    separated in the space of the states.
    """
    from sklearn.metrics import silhouette_score

    if not 2 <= len(category.unique()) < len(category):
        return math.nan
    return float(silhouette_score(states.double().cpu().numpy(), category.cpu().numpy()))

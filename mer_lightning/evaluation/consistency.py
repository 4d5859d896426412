"""How alike a model is to itself when it sees other modalities, and how well its states separate emotions.

Shapes: N samples, K conditions, C classes, O outputs, d width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mer_lightning.tasks import MultiLabel, Task


def disagreement(logits: Tensor, task: Task) -> Tensor:
    """(K, K) mean over samples of how far the predictions under two conditions lie apart, for logits (N, K, O).

    With classes: the Jensen-Shannon divergence H((p + q) / 2) - (H(p) + H(q)) / 2 in bits, 0 for equal distributions
    and 1 for those that share no class; of several labels, the mean over labels. For regression: the absolute
    difference in units of the labels.
    """
    samples, conditions = logits.shape[:2]
    said = task.probabilities(logits.double().flatten(0, 1))
    if said is None:
        values = task.decide(logits.double().flatten(0, 1)).view(samples, conditions)
        return (values.unsqueeze(2) - values.unsqueeze(1)).abs().mean(0)
    # (N K, labels, C): several labels are several distributions over yes and no.
    said = torch.stack([said, 1 - said], -1) if isinstance(task, MultiLabel) else said.unsqueeze(1)
    p = said.view(samples, conditions, *said.shape[1:])
    first, second = p.unsqueeze(2), p.unsqueeze(1)
    divergence = _bits((first + second) / 2) - (_bits(first) + _bits(second)) / 2
    return divergence.mean((0, 3))


def _bits(p: Tensor) -> Tensor:
    return torch.special.entr(p).sum(-1) / math.log(2)


def mean_disagreement(logits: Tensor, task: Task) -> float:
    """The mean of :func:`disagreement` over pairs of different conditions; 0 when masks change nothing."""
    pairs = disagreement(logits, task)
    conditions = len(pairs)
    return float(pairs.sum() / max(conditions * (conditions - 1), 1))


def class_separation(states: Tensor, category: Tensor) -> float:
    """Mean silhouette in [-1, 1] of states (N, d) grouped by category (N,); NaN where fewer than two groups exist.

    Of one sample: (b - a) / max(a, b), with a its mean distance to the others of its category and b the smallest mean
    distance to another category (Rousseeuw, 1987). High: emotions lie apart in what the classifier reads.
    """
    from sklearn.metrics import silhouette_score

    if not 2 <= len(category.unique()) < len(category):
        return math.nan
    return float(silhouette_score(states.double().cpu().numpy(), category.cpu().numpy()))

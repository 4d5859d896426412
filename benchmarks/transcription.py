"""The transfer step as the released procedure has it, written by us from its description, for comparison only.

Four whole forward passes in training mode with their graphs, weights by loops over samples, and two similarity matrices
for each of six ordered pairs. Its mistakes that would change what is computed beyond repair
(shapes that broadcast) are not repeated: only the way it spends its time is.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mer_lightning.batch import Batch
from mer_lightning.methods.cdat.method import CDaT

_EPS = 1e-8


def transfer_step(method: CDaT, batch: Batch, weight: float) -> Tensor:
    """The loss of one step."""
    assert method.confidence is not None
    views = [[True, True, True], [False, True, True], [True, False, True], [True, True, False]]
    confidences, first = [], None
    for view in views:
        cut = batch.limited_to(torch.tensor(view))
        encoded = method.backbone.encode(cut)
        state = method.backbone.fuse(encoded, cut.present)
        confidences.append(method.confidence(state).detach())
        if first is None:
            first = (encoded, state)
    assert first is not None
    encoded, state = first
    without = confidences[1:]
    total = method.task_losses(state, batch).mean()
    vectors = list(encoded.vectors.values())
    for m in range(3):
        for n in range(3):
            if m == n:
                continue
            weights = []
            for i in range(len(batch)):
                larger = float(without[m][i]) > float(without[n][i])
                weights.append(float(without[m][i]) if larger else 0.0)
            total = total + weight * torch.tensor(weights).mean() * _divergence(vectors[m], vectors[n])
    return total


def _divergence(student: Tensor, teacher: Tensor) -> Tensor:
    shares = []
    for vectors in (student, teacher):
        unit = vectors / (vectors.square().sum(1, keepdim=True).sqrt() + _EPS)
        similarity = (unit @ unit.T + 1) / 2
        shares.append(similarity / similarity.sum(1, keepdim=True))
    s, t = shares
    return (t * ((t + _EPS) / (s + _EPS)).log()).mean()

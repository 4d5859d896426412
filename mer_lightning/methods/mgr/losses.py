"""MGR's own losses: guidance by classifiers of modalities, distance between distributions, and margins.

Shapes: B batch, M modalities, d width of codes. ``present`` (B, M); means run over what is present. Logits (B, M, M)
are what a classifier of M modalities says about the code of each modality.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

MARGIN, STEEPNESS = 0.4, 0.5  # delta_0 and gamma
MULTIMODAL_MARGIN = 0.1


def mean_over(values: Tensor, rows: Tensor) -> Tensor:
    """The mean of the values whose row is True; zero where no row is."""
    return values.where(rows, 0.0).sum() / rows.sum().clamp(min=1)


def recognition(logits: Tensor, present: Tensor) -> Tensor:
    """Cross-entropy with which codes are recognised as their modality."""
    return mean_over(-logits.log_softmax(2).diagonal(dim1=1, dim2=2), present)


def confusion(logits: Tensor, present: Tensor) -> Tensor:
    """KL(uniform || softmax(logits)) = -ln M - mean of log softmax: zero where the classifier cannot tell anything."""
    return mean_over(-logits.log_softmax(2).mean(2) - math.log(logits.shape[2]), present)


def energy_distance(codes: Tensor, present: Tensor) -> Tensor:
    """Mean over pairs of modalities of 2 E|x - y| - E|x - x'| - E|y - y'|: zero where their distributions are equal.

    Of E|x - x'| the diagonal is left out: a code is at no distance to itself, which would make the mean too small. A
    pair of modalities of which one has fewer than two samples says nothing, and is left out.
    """
    samples, modalities, _ = codes.shape
    x = codes.where(present.unsqueeze(2), 0.0).transpose(0, 1).flatten(0, 1)  # (M B, d)
    # A little below the root: the root of zero has no slope.
    distances = ((x.unsqueeze(1) - x.unsqueeze(0)).square().sum(2) + 1e-12).sqrt()
    here = present.T.flatten()
    itself = torch.eye(len(x), dtype=torch.bool, device=codes.device)
    counted = here.unsqueeze(1) & here.unsqueeze(0) & ~itself

    def of_pairs(values: Tensor) -> Tensor:
        """(M, M) sums over samples."""
        return values.view(modalities, samples, modalities, samples).sum((1, 3))

    counts = of_pairs(counted)
    mean = of_pairs(distances.where(counted, 0.0)) / counts.clamp(min=1)
    enough = counts.diagonal() > 0
    pairs = (enough.unsqueeze(1) & enough.unsqueeze(0)).triu(1)
    within = mean.diagonal()
    return mean_over(2 * mean - within.unsqueeze(1) - within.unsqueeze(0), pairs)


def adaptive_margin(weights: Tensor) -> Tensor:
    """delta_m = delta_0 clip(1 + gamma (M w_m - 1), .25, 2): who contributes must be the more clearly decoupled."""
    return MARGIN * (1 + STEEPNESS * (weights.shape[1] * weights - 1)).clamp(0.25, 2.0)


def decoupling_margin(logits: Tensor, weights: Tensor, present: Tensor) -> Tensor:
    """Mean of relu(2 delta_m - (C(p_m)_m - max_n C(p_m)_n)), n another modality: p_m is recognised by a margin."""
    own = torch.eye(logits.shape[2], dtype=torch.bool, device=logits.device)
    others = logits.masked_fill(own, -torch.inf).amax(2)
    gap = logits.diagonal(dim1=1, dim2=2) - others
    return mean_over(F.relu(2 * adaptive_margin(weights) - gap), present)


def multimodal_margin(joint: Tensor, alone: Tensor, weights: Tensor, present: Tensor) -> Tensor:
    """Mean of relu(l_joint - sg[l_m] + .1 (1 - w_m)) M w_m: all together must beat each, by how much each matters."""
    terms = F.relu(joint.unsqueeze(1) - alone.detach() + MULTIMODAL_MARGIN * (1 - weights))
    return mean_over(terms * weights.shape[1] * weights, present)

"""MGR's own losses: guidance by a classifier of modalities, alignment from weak to strong, and margins.

Shapes: B batch, M modalities, d width of codes. ``present`` (B, M); means run over what is present.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mer_lightning.losses.decoupling import reverse_gradient

Distance = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]

MARGIN, STEEPNESS, FLOOR = 0.4, 0.5, 0.5  # delta_0, gamma, and the least deviation of shared codes
MULTIMODAL_MARGIN = 0.1


def mean_over(values: Tensor, rows: Tensor) -> Tensor:
    """The mean of the values whose row is True; zero where no row is."""
    return values.where(rows, values.new_zeros(())).sum() / rows.sum().clamp(min=1)


def recognition(classifier: nn.Module, codes: Tensor, present: Tensor, label: int | None = None) -> Tensor:
    """Cross-entropy with which codes (B, M, d) are recognised as their modality, or all as class ``label``."""
    logits = classifier(codes).float()
    modalities = torch.arange(codes.shape[1], device=codes.device)
    target = modalities if label is None else torch.full_like(modalities, label)
    losses = F.cross_entropy(logits.flatten(0, 1), target.repeat(len(codes)), reduction="none")
    return mean_over(losses.view(present.shape), present)


def confusion(classifier: nn.Module, codes: Tensor, present: Tensor) -> Tensor:
    """KL(uniform || what the classifier says); its parameters stand still, only the codes feel it.

    They are frozen by calling the classifier with detached copies: switching requires_grad in a step breaks DDP.
    """
    still = {name: parameter.detach() for name, parameter in classifier.named_parameters()}
    logits: Tensor = torch.func.functional_call(classifier, still, (codes,)).float()
    classes = logits.shape[-1]
    divergence = -logits.log_softmax(-1).mean(-1) - torch.log(torch.tensor(float(classes), device=codes.device))
    return mean_over(divergence, present)


def reversal(classifier: nn.Module, codes: Tensor, present: Tensor, progress: float) -> Tensor:
    """Recognition through a gradient reversal that grows: 2 / (1 + exp(-10 progress)) - 1."""
    coefficient = 2 / (1 + torch.exp(torch.tensor(-10.0 * progress)).item()) - 1
    return recognition(classifier, reverse_gradient(codes, coefficient), present)


def weak_to_strong(
    mean: Tensor, std: Tensor, weights: Tensor | None, present: Tensor, distance: Distance, stop: bool = True
) -> Tensor:
    """sum a_ij D(N_i, N_j) / d over ordered pairs; a_ij = relu(w_j - w_i), normalised over pairs; j is not moved.

    ``weights`` (B, M) None: every pair counts the same, in both directions.
    """
    modalities, width = mean.shape[1:]
    pairs = [(i, j) for i in range(modalities) for j in range(modalities) if i != j]
    both = torch.stack([present[:, i] & present[:, j] for i, j in pairs], 1)
    if weights is None:
        a = both.to(mean.dtype)
    else:
        a = torch.stack([(weights[:, j] - weights[:, i]).clamp(min=0) for i, j in pairs], 1) * both
    a = a / a.sum(1, keepdim=True).clamp(min=1e-6)
    distances_of_pairs = []
    for i, j in pairs:
        target = (mean[:, j].detach(), std[:, j].detach()) if stop else (mean[:, j], std[:, j])
        distances_of_pairs.append(distance(mean[:, i], std[:, i], *target))
    distances = torch.stack(distances_of_pairs, 1)
    return mean_over((a * distances.where(both, distances.new_zeros(()))).sum(1) / width, both.any(1))


def adaptive_margin(weights: Tensor) -> Tensor:
    """delta_i = delta_0 clip(1 + gamma (M w_i - 1), .25, 2): who contributes must be the more clearly decoupled."""
    return MARGIN * (1 + STEEPNESS * (weights.shape[1] * weights - 1)).clamp(0.25, 2.0)


def decoupling_margin(shared: Tensor, private: Tensor, weights: Tensor, present: Tensor, stop: bool = True) -> Tensor:
    """Mean over ordered pairs of relu(delta_i - cos(s_i, s_j) + cos(s_i, p_i)); a stronger partner is not moved."""
    modalities = shared.shape[1]
    delta = adaptive_margin(weights)
    terms, rows = [], []
    for i in range(modalities):
        own = F.cosine_similarity(shared[:, i], private[:, i], dim=1, eps=1e-6)
        for j in range(modalities):
            if i != j:
                partner = shared[:, j]
                if stop:
                    stronger = (weights[:, j] > weights[:, i]).unsqueeze(1)
                    partner = torch.where(stronger, partner.detach(), partner)
                agree = F.cosine_similarity(shared[:, i], partner, dim=1, eps=1e-6)
                terms.append(F.relu(delta[:, i] - agree + own))
                rows.append(present[:, i] & present[:, j])
    return mean_over(torch.stack(terms, 1), torch.stack(rows, 1))


def multimodal_margin(joint: Tensor, alone: Tensor, weights: Tensor, present: Tensor) -> Tensor:
    """Mean of relu(l_joint - sg[l_m] + .1 (1 - w_m)) M w_m: all together must beat each, by how much each matters."""
    terms = F.relu(joint.unsqueeze(1) - alone.detach() + MULTIMODAL_MARGIN * (1 - weights))
    return mean_over(terms * weights.shape[1] * weights, present)


def variance_floor(shared: Tensor, present: Tensor) -> Tensor:
    """Mean of relu(.5 - std over the batch) of each dimension of each modality's shared codes: against collapse."""
    rows = present.unsqueeze(2)
    count = rows.sum(0).clamp(min=1)
    kept = shared.where(rows, shared.new_zeros(()))
    centred = (kept - kept.sum(0) / count).where(rows, shared.new_zeros(()))
    std = (centred.square().sum(0) / count + 1e-8).sqrt()
    return mean_over(F.relu(FLOOR - std), (present.sum(0) > 1).unsqueeze(1).expand(std.shape))

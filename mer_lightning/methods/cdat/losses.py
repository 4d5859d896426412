"""Cross-modal dynamic transfer: how much each modality should learn from each other one, and the loss by which it does.

Shapes: B batch, D width, M modalities, P = M (M - 1) ordered pairs (student, teacher). c_m is how confident a model is
when it does not see modality m: high when m is not needed.
"""

from __future__ import annotations

from itertools import permutations
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Rule = Literal["ratio", "difference", "threshold", "noise_level"]
Reduction = Literal["row", "released"]

_EPS = 1e-8


def similarity(vectors: Tensor) -> Tensor:
    """(B, B) cosine similarities of the rows of (B, D), moved to [0, 1]; the gradient of a zero row is zero."""
    unit = F.normalize(vectors.float() if vectors.dtype in (torch.bfloat16, torch.float16) else vectors, dim=1)
    return (unit @ unit.T + 1) / 2


def transfer_divergence(student: Tensor, teacher: Tensor, valid: Tensor | None = None) -> Tensor:
    """(..., B, B) terms K_ij = T_ij log(T_ij / S_ij) of the divergence between neighbourhoods.

    S and T are the rows of two similarity matrices, normalised to sum 1 (probabilistic knowledge transfer). Samples
    that are not ``valid`` (..., B) are nobody's neighbour and have no neighbourhood.
    """
    if valid is not None:
        both = valid.unsqueeze(-1) & valid.unsqueeze(-2)
        student, teacher = student * both, teacher * both
    s = student / student.sum(-1, keepdim=True).clamp(min=_EPS)
    t = teacher / teacher.sum(-1, keepdim=True).clamp(min=_EPS)
    return t * ((t + _EPS) / (s + _EPS)).log()


def pairs(modalities: int) -> list[tuple[int, int]]:
    """All ordered pairs (student, teacher)."""
    return list(permutations(range(modalities), 2))


def transfer_loss(
    vectors: list[Tensor],
    weights: Tensor,
    present: Tensor,
    reduction: Reduction = "row",
    detach_teacher: bool = True,
) -> Tensor:
    """The sum over ordered pairs (m, n) of W[:, m, n] times the divergence of m's neighbourhoods from n's.

    row:       1/B sum_i W[i, m, n] sum_j K_ij   (each sample has a weight of its own)
    released:  mean_i W[i, m, n] * mean_ij K_ij  (the authors' code: weights collapse to their mean)

    Args:
        vectors: M tensors (B, d_m), one per modality.
        weights: (B, M, M), student before teacher.
        present: (B, M); a pair counts for samples that have both modalities.
        reduction: see above. With one constant weight and every modality there, row is B times released.
        detach_teacher: the teacher does not move towards its student.
    """
    samples, modalities = present.shape
    with torch.autocast(present.device.type, enabled=False):
        matrices = torch.stack(
            [similarity(v.where(present[:, m, None], v.new_zeros(()))) for m, v in enumerate(vectors)]
        )
        teachers = matrices.detach() if detach_teacher else matrices
        both = pairs(modalities)
        valid = torch.stack([present[:, m] & present[:, n] for m, n in both])
        students = torch.stack([matrices[m] for m, _ in both])
        divergence = transfer_divergence(students, torch.stack([teachers[n] for _, n in both]), valid)
        chosen = torch.stack([weights[:, m, n] for m, n in both]) * valid
        if reduction == "row":
            return (chosen * divergence.sum(-1)).sum() / samples
        return (chosen.mean(1) * divergence.mean((1, 2))).sum()


def confidence_weights(without: Tensor, complete: Tensor, rule: Rule) -> Tensor:
    """(B, M, M) how much student m should move towards teacher n, from the confidences when each is masked.

    ratio:        c_m 1[c_m > c_n]
    difference:   max(0, c_m - c_n)
    threshold:    1[c_m > c_n]
    noise_level:  c_m 1[c_m > c], the same for both teachers

    Args:
        without: (M, B) confidence when modality m is masked.
        complete: (B,) confidence c when none is; `noise_level` alone reads it.
        rule: one of the above.
    """
    student = without.T.unsqueeze(2)
    teacher = without.T.unsqueeze(1)
    gate = student > teacher
    if rule == "ratio":
        return student * gate
    if rule == "difference":
        return (student - teacher).clamp(min=0)
    if rule == "threshold":
        return gate.to(without.dtype)
    weight = student * (student > complete[:, None, None])
    return weight.expand(gate.shape) * ~torch.eye(len(without), dtype=torch.bool, device=without.device)


def static_weights(samples: int, modalities: int, device: torch.device) -> Tensor:
    """(B, M, M) one for every ordered pair."""
    return (1 - torch.eye(modalities, device=device)).expand(samples, -1, -1)


def impact_weights(impact: Tensor, released: bool = False) -> Tensor:
    """(B, M, M) from d_m (M, B), how much masking modality m changes the output of the model.

    corrected:  d_n 1[d_n > d_m]: the modality that matters more teaches, as in the rules on confidence
    released:   d_m 1[d_m > d_n]: the equation of the authors' code, in which the modality that matters more learns

    The authors' code lacks a transpose after this equation: the six weights of sample k become weights of pair k, so
    that only samples 0 to 5 count, and a batch of fewer samples fails. Here each sample weighs its own pairs.
    """
    first, second = impact.T.unsqueeze(2), impact.T.unsqueeze(1)
    return first * (first > second) if released else second * (second > first)


def cross_entropy_impact(complete: Tensor, without: Tensor, released: bool = False) -> Tensor:
    """(M, B) d_m, the mean over classes of the binary cross-entropy of the complete probabilities (B, C).

    Their targets are the probabilities (M, B, C) without modality m. The authors' code passes the complete ones through
    a second sigmoid.
    """
    both = complete.expand_as(without)
    if released:
        return F.binary_cross_entropy_with_logits(both, without, reduction="none").mean(-1)
    return F.binary_cross_entropy(both.clamp(_EPS, 1 - _EPS), without, reduction="none").mean(-1)


def confidence_error(predicted: Tensor, true: Tensor) -> Tensor:
    """(B,) squared errors. Shapes must agree: (B, 1) against (B,) would quietly fit the mean of the batch."""
    if predicted.shape != true.shape:
        raise ValueError(f"confidence of shape {tuple(predicted.shape)} against a target of {tuple(true.shape)}")
    return (predicted - true).square()

"""Modality-combination-based contrast: samples of one emotion category, seen in one combination, belong together.

The modes are readings of one sentence of MCUR's abstract; docs/methods/mcur.md says what each of them pulls and pushes.

Shapes: A anchors (all views of a batch), R remembered keys, D width. k is a category, c the number of a combination
(:func:`mer_lightning.masks.training.combination_number`), 0 where nothing is present: such a row is nobody's key and
no anchor.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

Mode = Literal["joint_neutral", "joint", "graded", "dual"]


class Keys(NamedTuple):
    """Unit vectors and what decides who belongs to whom."""

    vectors: Tensor  # (A, D)
    categories: Tensor  # (A,) int64
    combinations: Tensor  # (A,) int64, 0: excluded
    samples: Tensor  # (A,) int64: the row in its split, to tell a sample's own copy from another sample


def contrastive_loss(
    anchors: Keys,
    temperature: float,
    mode: Mode = "joint_neutral",
    weight: float = 0.5,
    memory: Keys | None = None,
) -> Tensor:
    """Mean over anchors i with a positive of -1/sum_p w_ip sum_p w_ip log(exp(z_i z_p / T) / sum_a exp(z_i z_a / T)).

    P(i) are rows of the same category and combination, S(i) of the same category in another combination, N(i) of
    another category. A sample's own row in the same combination, its copy in another view included, is in none:

    joint_neutral:  p in P with w = 1, a in P u N: S neither attracts nor repels
    joint:          p in P with w = 1, a in P u N u S: S repels
    graded:         p in P with w = 1 and in S with w = ``weight``, a everywhere; ``weight`` 1 is plain SupCon
    dual:           SupCon over categories plus SupCon over combinations

    Args:
        anchors: what learns; every other anchor is a key, too.
        temperature: T.
        mode: see above.
        weight: of S among the positives of ``graded``.
        memory: further keys. They are never anchors, and no gradient reaches them.
    """
    keys = _joined(anchors, memory)
    same_category, same_combination, allowed = _pairs(anchors, keys)
    joint = same_category & same_combination
    with torch.autocast(anchors.vectors.device.type, enabled=False):
        logits = _precise(anchors.vectors) @ _precise(keys.vectors).T / temperature
    if mode == "joint_neutral":
        return _info_nce(logits, joint, allowed & (joint | ~same_category))
    if mode == "joint":
        return _info_nce(logits, joint, allowed)
    if mode == "graded":
        return _info_nce(logits, joint + weight * (same_category & ~joint), allowed)
    return _info_nce(logits, same_category, allowed) + _info_nce(logits, same_combination, allowed)


@torch.no_grad()
def share_with_positive(anchors: Keys, memory: Keys | None = None) -> Tensor:
    """The share of anchors that have a positive of the same category and combination: how much there is to learn."""
    same_category, same_combination, _ = _pairs(anchors, _joined(anchors, memory))
    return (same_category & same_combination).any(1).float().mean()


def _joined(anchors: Keys, memory: Keys | None) -> Keys:
    if memory is None:
        return anchors
    vectors = torch.cat([anchors.vectors, memory.vectors.detach().to(anchors.vectors.dtype)])
    return Keys(vectors, *map(torch.cat, zip(anchors[1:], memory[1:], strict=True)))


def _pairs(anchors: Keys, keys: Keys) -> tuple[Tensor, Tensor, Tensor]:
    """(A, A + R) masks: same category, same combination, and whether the two may be compared at all.

    A sample seen twice in one combination is no pair: its two copies agree whatever the model has learnt.
    """
    allowed = (anchors.combinations > 0).unsqueeze(1) & (keys.combinations > 0)
    same_combination = anchors.combinations.unsqueeze(1) == keys.combinations
    allowed &= ~(same_combination & (anchors.samples.unsqueeze(1) == keys.samples))
    same_category = (anchors.categories.unsqueeze(1) == keys.categories) & allowed
    return same_category, same_combination & allowed, allowed


def _info_nce(logits: Tensor, positive: Tensor, compared: Tensor) -> Tensor:
    """The loss above of logits (A, A + R), weights of positives and a mask of what the denominator holds."""
    positive = positive.to(logits.dtype)
    # Finite, so that a row that may be compared with nothing has no infinity for a gradient to pass through.
    total = logits.masked_fill(~compared, torch.finfo(logits.dtype).min).logsumexp(1, keepdim=True)
    weights = positive.sum(1)
    has_positive = weights > 0
    per_anchor = (positive * (total - logits)).sum(1) / weights.where(has_positive, torch.ones_like(weights))
    return per_anchor.sum() / has_positive.sum().clamp(min=1)


def _precise(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))

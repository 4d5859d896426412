"""Flips, contradictions, picks, ceilings and AUROC: by hand, and against slow and obvious loops."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mer_lightning.evaluation.diagnostics import (
    agreement,
    auroc,
    contradiction,
    flips,
    most_confident,
    picks,
    without_contradicting,
)


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Rescue and spoil


def test_flips_by_hand() -> None:
    """Samples: wrong and rescued by two masks, wrong and by none, right and spoilt by one, right and by none."""
    complete = torch.tensor([0, 0, 1, 1]).bool()
    masked = torch.tensor([[1, 0, 1, 1], [1, 0, 0, 1], [0, 0, 1, 1]]).bool()
    found = flips(complete, masked)
    assert (found.errors, found.hits) == (2, 2)
    assert found.rescued == (1, 1, 0)
    assert found.rescued_by_any == 1
    assert found.spoiled == (0, 1, 0)
    assert found.spoiled_by_any == 1


def test_flips_as_a_loop_counts_them() -> None:
    complete = torch.rand(200, generator=draw()) < 0.6
    masked = torch.rand(3, 200, generator=draw(1)) < 0.5
    rescued, spoiled, rescued_by_any, spoiled_by_any = [0] * 3, [0] * 3, 0, 0
    for i in range(200):
        for m in range(3):
            rescued[m] += not complete[i] and bool(masked[m][i])
            spoiled[m] += bool(complete[i]) and not masked[m][i]
        rescued_by_any += not complete[i] and any(masked[m][i] for m in range(3))
        spoiled_by_any += bool(complete[i]) and any(not masked[m][i] for m in range(3))
    found = flips(complete, masked)
    assert found.rescued == tuple(rescued)
    assert found.spoiled == tuple(spoiled)
    assert (found.rescued_by_any, found.spoiled_by_any) == (rescued_by_any, spoiled_by_any)
    assert max(rescued) < rescued_by_any < found.errors
    assert found.errors + found.hits == 200


# Contradiction


def test_contradiction_by_hand() -> None:
    """True classes 0 0 1 2 2; the first says 0 0 0 1 2, the second 0 1 1 0 2: they differ on three samples."""
    truth = torch.tensor([0, 0, 1, 2, 2])
    first, second = torch.tensor([0, 0, 0, 1, 2]), torch.tensor([0, 1, 1, 0, 2])
    complete = torch.tensor([0, 1, 1, 0, 1]).bool()
    found = contradiction((first, second), (first == truth, second == truth), complete)
    assert (found.samples, found.first_right, found.second_right, found.neither_right) == (3, 1, 1, 1)
    assert found.complete_right == 2
    third = torch.tensor([0, 0, 0, 1, 1])
    assert agreement(torch.stack([first, second, third])).tolist() == [True, False, False, False, False]
    assert agreement(torch.stack([first, third])).tolist() == [True, True, True, True, False]


# Picks and ceilings


def test_picks_by_hand_and_ties_by_chance() -> None:
    """One row a mask; samples: right, wrong, none contradicts, all tied, two tied of which one contradicts."""
    confidence = torch.tensor(
        [
            [0.9, 0.9, 0.1, 0.5, 0.5],
            [0.1, 0.1, 0.2, 0.5, 0.5],
            [0.2, 0.8, 0.3, 0.5, 0.1],
        ]
    )
    contradicting = torch.tensor([0, 2, -1, 1, 1])
    assert picks(confidence, contradicting).tolist() == pytest.approx([1, 0, 1 / 3, 1 / 2])


def test_a_confidence_that_knows_nothing_picks_by_chance() -> None:
    contradicting = torch.randint(-1, 3, (4000,), generator=draw())
    assert picks(torch.zeros(3, 4000), contradicting).mean() == pytest.approx(1 / 3)
    assert picks(torch.rand(3, 4000, generator=draw(1)), contradicting).mean() == pytest.approx(1 / 3, abs=0.03)


def test_ceiling_takes_the_view_without_what_contradicts() -> None:
    complete = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
    masked = complete + torch.tensor([10.0, 20.0, 30.0])[:, None, None]
    chosen = without_contradicting(complete, masked, torch.tensor([-1, 0, 2, 1]))
    assert chosen.squeeze(1).tolist() == [0, 11, 32, 23]
    assert complete.squeeze(1).tolist() == [0, 1, 2, 3]  # not written into


def test_hard_filter_masks_only_where_that_makes_surer() -> None:
    logits = torch.arange(12.0).view(4, 3, 1)
    confidence = torch.tensor([[0.5, 0.5, 0.5], [0.4, 0.6, 0.5], [0.1, 0.7, 0.5], [0.2, 0.1, 0.5]])
    assert most_confident(logits, confidence).squeeze(1).tolist() == [0, 7, 2]  # a tie stays complete


# AUROC


def slow_auroc(score: Tensor, right: Tensor) -> float:
    pairs = [
        1.0 if score[i] > score[j] else 0.5 if score[i] == score[j] else 0.0
        for i in range(len(score))
        for j in range(len(score))
        if right[i] and not right[j]
    ]
    return sum(pairs) / len(pairs)


def test_auroc_by_hand() -> None:
    right = torch.tensor([1, 1, 0, 0]).bool()
    assert auroc(torch.tensor([4.0, 3, 2, 1]), right) == 1
    assert auroc(torch.tensor([4.0, 1, 2, 1]), right) == pytest.approx((1 + 1 + 0 + 0.5) / 4)
    assert auroc(torch.ones(4), right) == 0.5
    assert math.isnan(auroc(torch.ones(4), torch.ones(4).bool()))
    assert math.isnan(auroc(torch.ones(4), torch.zeros(4).bool()))


def test_auroc_as_pairs_count_it_with_many_ties() -> None:
    score = torch.randint(0, 6, (60,), generator=draw()).float()
    right = torch.rand(60, generator=draw(1)) < 0.4
    assert auroc(score, right) == pytest.approx(slow_auroc(score, right), abs=1e-12)

"""Disagreement between conditions and separation of classes, on examples computed by hand."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.spatial.distance import jensenshannon

from mer_lightning.contract import TASKS
from mer_lightning.evaluation.consistency import class_separation, disagreement, mean_disagreement
from mer_lightning.tasks import MultiLabel, Regression, SingleLabel

SINGLE = SingleLabel(("a", "b", "c"))
SURE_A, SURE_B, EVEN = [60.0, 0.0, 0.0], [0.0, 60.0, 0.0], [0.0, 0.0, -60.0]  # EVEN: half a, half b


def test_divergence_of_classes_by_hand() -> None:
    """JS of (1, 0) and (.5, .5): H(.75, .25) - 1/2 = .8112781 - .5 bits."""
    actual = disagreement(torch.tensor([[SURE_A, SURE_B, EVEN]]), SINGLE)
    mixed = 0.3112781
    expected = [[0, 1, mixed], [1, 0, mixed], [mixed, mixed, 0]]
    assert actual.tolist() == [pytest.approx(row, abs=1e-6) for row in expected]
    assert mean_disagreement(torch.tensor([[SURE_A, SURE_B, EVEN]]), SINGLE) == pytest.approx((1 + 2 * mixed) / 3)


def test_divergence_is_a_mean_over_samples() -> None:
    logits = torch.tensor([[SURE_A, SURE_B], [SURE_A, SURE_A], [SURE_B, SURE_B], [EVEN, EVEN]])
    assert mean_disagreement(logits, SINGLE) == pytest.approx(0.25, abs=1e-9)


def test_divergence_as_scipy_has_it() -> None:
    logits = torch.randn(6, 4, 3, generator=torch.Generator().manual_seed(0)) * 3
    p, actual = logits.double().softmax(-1).numpy(), disagreement(logits, SINGLE)
    for k in range(4):
        for other in range(4):
            expected = (jensenshannon(p[:, k], p[:, other], base=2, axis=1) ** 2).mean()
            assert actual[k, other].item() == pytest.approx(expected, abs=1e-9)


def test_divergence_of_several_labels_is_a_mean_over_labels() -> None:
    yes, no = 60.0, -60.0
    logits = torch.tensor([[[yes, yes], [no, yes]], [[yes, no], [no, yes]]])
    assert mean_disagreement(logits, MultiLabel(("a", "b"))) == pytest.approx((0.5 + 1.0) / 2, abs=1e-9)


def test_distance_of_a_regression() -> None:
    logits = torch.tensor([[1.0, -1.0, 0.0], [2.0, 2.0, 3.0]]).unsqueeze(2)
    assert disagreement(logits, Regression()).tolist() == [[0, 1, 1], [1, 0, 1], [1, 1, 0]]
    assert mean_disagreement(logits, Regression()) == 1


def test_distance_of_ratings_is_a_mean_over_targets() -> None:
    task = TASKS["ratings"]
    logits = torch.tensor([[[2.0, 10.0], [3.0, 14.0]], [[4.0, 0.0], [4.0, 2.0]]])
    assert disagreement(logits, task).tolist() == [[0, (1 + 4 + 0 + 2) / 4], [(1 + 4 + 0 + 2) / 4, 0]]


def test_one_condition_has_no_disagreement() -> None:
    assert mean_disagreement(torch.randn(5, 1, 3), SINGLE) == pytest.approx(0, abs=1e-12)


def test_separation_by_hand() -> None:
    """On a line at 0, 1 and 10, 11: silhouettes (10.5 - 1) / 10.5, (9.5 - 1) / 9.5, and the same mirrored."""
    states, category = torch.tensor([[0.0], [1.0], [10.0], [11.0]]), torch.tensor([0, 0, 1, 1])
    assert class_separation(states, category) == pytest.approx((9.5 / 10.5 + 8.5 / 9.5) / 2, abs=1e-9)
    crossed = class_separation(states, torch.tensor([0, 1, 0, 1]))
    assert crossed < 0


def test_separation_needs_two_groups() -> None:
    assert math.isnan(class_separation(torch.randn(4, 2), torch.zeros(4)))
    assert math.isnan(class_separation(torch.randn(4, 2), torch.arange(4)))

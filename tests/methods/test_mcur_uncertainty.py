"""Weights from uncertainty: what they are worth, that they are bounded, and what a bank remembers."""

from __future__ import annotations

import math

import pytest
import torch

from mer_lightning.methods.mcur.uncertainty import (
    UncertaintyBank,
    bounded_log_scale,
    heteroscedastic,
    predictive_uncertainty,
    sample_weights,
)
from mer_lightning.tasks import MultiLabel, Regression, SingleLabel

SINGLE = SingleLabel(("a", "b", "c", "d"))


def test_learnt_scale_by_hand() -> None:
    losses, s = torch.tensor([2.0, 0.5]), torch.tensor([math.log(2), -1.0])
    laplace = [2 / 2 + math.log(2), 0.5 * math.e - 1]
    gauss = [2 / 2 + math.log(2) / 2, 0.5 * math.e - 0.5]
    assert heteroscedastic(losses, s, laplace=True).tolist() == pytest.approx(laplace, abs=1e-6)
    assert heteroscedastic(losses, s, laplace=False).tolist() == pytest.approx(gauss, abs=1e-6)


def test_learnt_scale_is_best_at_the_loss_itself() -> None:
    """d/ds (exp(-s) l + s) = 0 at s = ln l, and of the other form at s = ln 2 l."""
    for laplace, factor in ((True, 1.0), (False, 2.0)):
        s = torch.tensor([math.log(0.7 * factor)], requires_grad=True)
        heteroscedastic(torch.tensor([0.7]), s, laplace).sum().backward()
        assert s.grad.item() == pytest.approx(0, abs=1e-6)


def test_learnt_weights_are_bounded_and_never_stuck() -> None:
    raw = torch.tensor([-1e3, -4.0, 0.0, 4.0, 1e3], requires_grad=True)
    weights = torch.exp(-bounded_log_scale(raw))
    assert weights.tolist() == pytest.approx([5.0, 5.0, 1.0, 0.2, 0.2], abs=0.2)
    assert weights.min() >= 0.2 - 1e-6
    assert weights.max() <= 5 + 1e-5
    bounded_log_scale(raw).sum().backward()
    assert raw.grad[2] == 1
    assert (raw.grad[1:4] > 0).all()


def test_learnt_scale_has_the_right_gradient() -> None:
    losses = torch.rand(6, dtype=torch.float64, requires_grad=True)
    raw = torch.randn(6, dtype=torch.float64, requires_grad=True)
    for form in (True, False):
        assert torch.autograd.gradcheck(
            lambda x, r, form=form: heteroscedastic(x, bounded_log_scale(r), form), (losses, raw)
        )


def test_uncertainty_of_one_class() -> None:
    even, sure = torch.zeros(4), torch.tensor([50.0, 0.0, 0.0, 0.0])
    half = torch.tensor([0.0, 0.0, -50.0, -50.0])  # ln 2 / ln 4
    found = predictive_uncertainty(torch.stack([even, sure, half]).view(1, 3, 4), SINGLE)
    assert found.shape == (1, 3)
    assert found[0].tolist() == pytest.approx([1.0, 0.0, 0.5], abs=1e-6)


def test_uncertainty_of_several_labels() -> None:
    quarter = math.log(1 / 3)  # probability 1/4: 0.8113 bits
    logits = torch.tensor([[0.0, 0.0], [100.0, -100.0], [quarter, -quarter], [quarter, 100.0]])
    found = predictive_uncertainty(logits.view(2, 2, 2), MultiLabel(("a", "b")))
    assert found.shape == (2, 2)
    assert found.flatten().tolist() == pytest.approx([1.0, 0.0, 0.8112781, 0.4056391], abs=1e-6)


def test_uncertainty_of_a_regression_is_the_deviation_over_views() -> None:
    logits = torch.tensor([[1.0, 2.0], [3.0, 2.0], [5.0, 2.0]]).unsqueeze(2)
    found = predictive_uncertainty(logits, Regression())
    assert found.tolist() == [pytest.approx([math.sqrt(8 / 3), 0.0])] * 3


def test_suppressing_by_hand() -> None:
    """Median 2, so u / median = .25, .5, 1, 2, 10 and 1/u clamped = 1, 1, 1, .5, .2: mean .74."""
    weights = sample_weights(torch.tensor([0.5, 1.0, 2.0, 4.0, 20.0]), "suppress")
    assert weights.tolist() == pytest.approx([1 / 0.74, 1 / 0.74, 1 / 0.74, 0.5 / 0.74, 0.2 / 0.74], abs=1e-6)


def test_emphasizing_by_hand() -> None:
    """u / max = 0, .5, 1: 1 + 5 (0, .25, 1) = 1, 2.25, 6, of mean 3.08333."""
    weights = sample_weights(torch.tensor([0.0, 1.0, 2.0]), "emphasize", kappa=5.0)
    assert weights.tolist() == pytest.approx([1 / 3.0833333, 2.25 / 3.0833333, 6 / 3.0833333], abs=1e-6)


@pytest.mark.parametrize("direction", ["suppress", "emphasize"])
def test_weights_are_bounded_of_mean_one_detached_and_free_of_scale(direction) -> None:
    for seed in range(5):
        u = torch.rand(64, generator=torch.Generator().manual_seed(seed)).pow(4).requires_grad_()
        weights = sample_weights(u, direction, kappa=20.0)
        assert weights.mean().item() == pytest.approx(1, abs=1e-5)
        assert not weights.requires_grad
        low, high = (0.2, 5.0) if direction == "suppress" else (1 / 21, 21)
        assert low <= weights.min()
        assert weights.max() <= high
        torch.testing.assert_close(sample_weights(u * 37, direction, kappa=20.0), weights)
        order = u.argsort()
        steps = weights[order].diff()
        assert (steps <= 0).all() if direction == "suppress" else (steps >= 0).all()


@pytest.mark.parametrize("direction", ["suppress", "emphasize"])
@pytest.mark.parametrize("u", [torch.zeros(4), torch.ones(4), torch.tensor([3.0]), torch.tensor([0.0, 0.0, 0.0, 9.0])])
def test_weights_are_finite_and_of_mean_one_at_the_edges(direction, u: torch.Tensor) -> None:
    weights = sample_weights(u, direction)
    assert weights.isfinite().all()
    assert weights.mean().item() == pytest.approx(1, abs=1e-6)
    if u.std(unbiased=False).nan_to_num() == 0:
        assert weights.tolist() == pytest.approx([1.0] * len(u))


def test_bank_by_hand() -> None:
    bank = UncertaintyBank(momentum=0.9)
    bank.resize(4)
    first = bank.update(torch.tensor([1, 3, 2]), torch.tensor([7, 1, 0]), torch.tensor([2.0, 1.0, 5.0]))
    assert first.tolist() == [2.0, 1.0, 5.0]  # the first value is taken whole
    second = bank.update(torch.tensor([1, 3]), torch.tensor([7, 2]), torch.tensor([4.0, 8.0]))
    assert second.tolist() == pytest.approx([0.9 * 2 + 0.1 * 4, 8.0])
    expected = torch.full((4, 7), torch.nan)
    expected[1, 6], expected[3, 0], expected[3, 1] = 2.2, 1.0, 8.0  # nothing is kept of what has nothing present
    torch.testing.assert_close(bank.table, expected, equal_nan=True)


def test_bank_survives_a_checkpoint() -> None:
    bank, fresh = UncertaintyBank(), UncertaintyBank()
    bank.resize(3)
    bank.update(torch.tensor([0, 2]), torch.tensor([1, 2]), torch.tensor([0.5, 0.7]))
    parent = torch.nn.ModuleDict({"bank": fresh})
    parent.load_state_dict({"bank.table": bank.table})
    torch.testing.assert_close(fresh.table, bank.table, equal_nan=True)
    fresh.resize(3)  # as setup does it again on going on
    torch.testing.assert_close(fresh.table, bank.table, equal_nan=True)

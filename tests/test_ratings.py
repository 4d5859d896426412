"""Ratings: several numbers per sample on scales of their own, against slow and simple references."""

from __future__ import annotations

import math

import pytest
import torch

from mer_lightning.evaluation.metrics_regression import concordance
from mer_lightning.tasks import Ratings, task_from_card

TASK = Ratings(("valence", "arousal"), (1.0, -50.0), (7.0, 50.0))
TRAIN = torch.tensor([[2.0, -10.0], [4.0, 30.0], [6.0, float("nan")], [4.0, 10.0]])
NAN = float("nan")


def sample(samples: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    """(logits, target); the second sample lacks a label, the third both."""
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(samples, 2, generator=draw, dtype=torch.float64)
    target = torch.rand(samples, 2, generator=draw, dtype=torch.float64) * torch.tensor([6.0, 100.0])
    target += torch.tensor([1.0, -50.0])
    target[1, 0] = NAN
    target[2] = NAN
    return logits, target


def test_a_fitted_task_standardises_labels_by_those_of_training() -> None:
    fitted = TASK.fitted_to(TRAIN)
    assert fitted.mean == (4.0, 10.0)
    assert fitted.deviation == pytest.approx((math.sqrt(2), math.sqrt(800 / 3)))
    logits, target = sample()
    known = ~target.isnan()
    standardised = (target - torch.tensor(fitted.mean)) / torch.tensor(fitted.deviation)
    for row, losses in enumerate(fitted.losses(logits, target).tolist()):
        errors = [abs(float(logits[row, t] - standardised[row, t])) for t in range(2) if known[row, t]]
        assert losses == pytest.approx(sum(errors) / max(len(errors), 1), abs=1e-6)
    perfect = fitted.in_label_units(standardised)
    assert torch.allclose(perfect[known].double(), target[known])
    assert fitted.losses(standardised.nan_to_num(), target).abs().max() < 1e-6


def test_an_unfitted_task_speaks_in_the_units_of_the_labels() -> None:
    logits, target = sample()
    assert torch.equal(TASK.decide(logits), logits)
    assert TASK.losses(target[:1], target[:1]).item() == 0
    assert TASK.losses(target[:1] + 2, target[:1]).item() == pytest.approx(2)


def test_a_constant_label_does_not_divide_by_zero() -> None:
    fitted = TASK.fitted_to(torch.tensor([[3.0, NAN], [3.0, NAN]]))
    assert (fitted.mean, fitted.deviation) == ((3.0, 0.0), (1.0, 1.0))


@pytest.mark.parametrize("loss", ["mae", "ccc"])
def test_missing_labels_have_no_gradient(loss: str) -> None:
    logits, target = sample()
    task = Ratings(TASK.targets, TASK.low, TASK.high, loss).fitted_to(TRAIN)  # type: ignore[arg-type]
    task.losses(logits.requires_grad_(), target).sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert ((logits.grad == 0) == target.isnan()).all()


def test_the_mean_of_the_concordance_losses_is_one_minus_ccc() -> None:
    logits, target = sample(50)
    target = target.nan_to_num(2.0)
    task = Ratings(TASK.targets, TASK.low, TASK.high, "ccc")
    expected = 1 - sum(concordance(target[:, t], logits[:, t]) for t in range(2)) / 2
    assert task.losses(logits, target).mean().item() == pytest.approx(float(expected), abs=1e-9)
    assert task.losses(target, target).abs().max() < 1e-12


def test_categories_certainty_and_probability() -> None:
    target = torch.tensor([[1.0, -50.0], [6.0, -1.0], [5.0, 20.0], [NAN, 40.0]])
    assert TASK.category(target).tolist() == [0, 1, 3, 2]
    assert TASK.fitted_to(TRAIN).category(target).tolist() == [0, 1, 3, 2]
    assert TASK.certainty(target[:3]).tolist() == pytest.approx([1.0, (2 / 3 + 0.02) / 2, (1 / 3 + 0.4) / 2])
    shifted = target[:1] + torch.tensor([[1.0, 3.0]])
    assert TASK.true_class_probability(shifted, target[:1]).item() == pytest.approx(math.exp(-2))


def test_one_target_keeps_the_error_and_flat_labels() -> None:
    one = Ratings(("label",), (1.0,), (5.0,))
    assert (one.score, TASK.score) == (("mae", "min"), ("ccc", "max"))
    logits = torch.tensor([[2.0], [5.0]])
    assert one.decide(logits).tolist() == [2.0, 5.0]
    assert one.losses(logits, torch.tensor([3.0, NAN])).tolist() == [1.0, 0.0]


def test_the_card_is_that_of_the_corpus() -> None:
    fitted = TASK.fitted_to(TRAIN)
    assert fitted.card() == TASK.card()
    assert task_from_card(fitted.card()) == TASK
    for wrong in ({"low": [1.0]}, {"low": [7.0, 0.0]}):
        with pytest.raises(ValueError, match="low"):
            task_from_card(TASK.card() | wrong)

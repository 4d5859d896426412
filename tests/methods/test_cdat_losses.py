"""The transfer loss: golden values of the specification, its weights, and what must stay finite."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, tensor

from mer_lightning.methods.cdat.losses import (
    confidence_error,
    confidence_weights,
    cross_entropy_impact,
    impact_weights,
    pairs,
    similarity,
    static_weights,
    transfer_divergence,
    transfer_loss,
)

S = tensor([[1, 0], [0, 1], [1, 1]], dtype=torch.float64)
R = tensor([[1, 0, 0], [1, 2, 0], [0, 0, 1]], dtype=torch.float64)
ALL = torch.ones(3, 2, dtype=torch.bool)


def weight(values: list[float], student: int, teacher: int) -> Tensor:
    weights = torch.zeros(3, 2, 2, dtype=torch.float64)
    weights[:, student, teacher] = tensor(values, dtype=torch.float64)
    return weights


def test_golden_values() -> None:
    divergence = transfer_divergence(similarity(S), similarity(R))
    assert divergence.mean().item() == pytest.approx(0.01655459, abs=1e-8)
    assert divergence.sum(1).tolist() == pytest.approx([0.05682901, 0.05682901, 0.03533328], abs=1e-8)
    assert transfer_divergence(similarity(R), similarity(S)).mean().item() == pytest.approx(0.01686360, abs=1e-8)
    weights = weight([0.5, 0.0, 1.0], 0, 1)
    assert transfer_loss([S, R], weights, ALL, "released").item() == pytest.approx(0.00827729, abs=1e-8)
    assert transfer_loss([S, R], weights, ALL, "row").item() == pytest.approx(0.02124926, abs=1e-8)


def test_weights_are_indexed_by_student_then_teacher() -> None:
    ones = [1.0, 1.0, 1.0]
    assert transfer_loss([S, R], weight(ones, 0, 1), ALL, "released").item() == pytest.approx(0.01655459, abs=1e-8)
    assert transfer_loss([S, R], weight(ones, 1, 0), ALL, "released").item() == pytest.approx(0.01686360, abs=1e-8)


def test_row_is_batch_size_times_released_for_constant_weights() -> None:
    vectors = [torch.randn(7, d, dtype=torch.float64) for d in (3, 5, 4)]
    weights, present = static_weights(7, 3, torch.device("cpu")), torch.ones(7, 3, dtype=torch.bool)
    row = transfer_loss(vectors, weights, present, "row")
    torch.testing.assert_close(row, 7 * transfer_loss(vectors, weights, present, "released"))


def test_row_weights_each_sample_and_released_their_mean() -> None:
    """The authors' form cannot tell which sample was weighted; ours can."""
    first, second = weight([1.0, 0.0, 0.0], 0, 1), weight([0.0, 0.0, 1.0], 0, 1)
    released = [transfer_loss([S, R], w, ALL, "released").item() for w in (first, second)]
    row = [transfer_loss([S, R], w, ALL, "row").item() for w in (first, second)]
    assert released[0] == pytest.approx(released[1])
    assert row[0] == pytest.approx(0.05682901 / 3, abs=1e-8)
    assert row[1] == pytest.approx(0.03533328 / 3, abs=1e-8)


@pytest.mark.parametrize("detach", [True, False])
def test_only_a_teacher_that_is_not_detached_moves(detach: bool) -> None:
    student, teacher = S.clone().requires_grad_(), R.clone().requires_grad_()
    transfer_loss([student, teacher], weight([1.0, 1.0, 1.0], 0, 1), ALL, detach_teacher=detach).backward()
    assert student.grad.abs().sum() > 0
    moved = teacher.grad is not None and bool(teacher.grad.abs().sum() > 0)
    assert moved is not detach


@pytest.mark.parametrize("vectors", ["zero row", "identical", "one sample", "nothing present"])
@pytest.mark.parametrize("reduction", ["row", "released"])
def test_stays_finite(vectors: str, reduction) -> None:
    samples = 1 if vectors == "one sample" else 4
    made = [torch.randn(samples, d) for d in (3, 4)]
    if vectors == "zero row":
        made[0][1] = made[1][2] = 0
    if vectors == "identical":
        made = [torch.ones(samples, 3) for _ in range(2)]
    made = [v.requires_grad_() for v in made]
    present = torch.full((samples, 2), vectors != "nothing present")
    loss = transfer_loss(made, static_weights(samples, 2, torch.device("cpu")), present, reduction, False)
    loss.backward()
    assert loss.isfinite()
    assert all(v.grad is not None and v.grad.isfinite().all() for v in made)


def test_samples_without_both_modalities_play_no_part() -> None:
    vectors = [torch.randn(5, 3, dtype=torch.float64) for _ in range(3)]
    present = torch.ones(5, 3, dtype=torch.bool)
    present[4, 1] = False
    weights = torch.rand(5, 3, 3, dtype=torch.float64)
    nothing = [v.clone() for v in vectors]
    nothing[1][4] = float("nan")
    loss = transfer_loss(nothing, weights, present)
    # By hand: pairs that involve modality 1 see the first four samples only.
    expected = torch.zeros((), dtype=torch.float64)
    for m, n in pairs(3):
        kept = slice(0, 4) if 1 in (m, n) else slice(0, 5)
        rows = transfer_divergence(similarity(vectors[m][kept]), similarity(vectors[n][kept])).sum(1)
        expected += (weights[kept, m, n] * rows).sum() / 5
    torch.testing.assert_close(loss, expected)


def test_half_precision_is_computed_in_float32() -> None:
    vectors = [torch.rand(32, 64) * 0.1 + 0.5 for _ in range(2)]
    present, weights = torch.ones(32, 2, dtype=torch.bool), static_weights(32, 2, torch.device("cpu"))
    with torch.autocast("cpu", torch.bfloat16):
        under_autocast = transfer_loss(vectors, weights, present)
    assert torch.equal(under_autocast, transfer_loss(vectors, weights, present))
    assert transfer_loss([v.bfloat16() for v in vectors], weights, present).dtype == torch.float32


def test_gradient_is_that_of_finite_differences() -> None:
    present, weights = torch.ones(4, 2, dtype=torch.bool), torch.rand(4, 2, 2, dtype=torch.float64)
    vectors = [torch.randn(4, 3, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    for reduction in ("row", "released"):
        assert torch.autograd.gradcheck(
            lambda a, b, r=reduction: transfer_loss([a, b], weights, present, r, False), vectors
        )


def test_order_of_pairs() -> None:
    assert pairs(3) == [
        (0, 1),
        (0, 2),
        (1, 0),
        (1, 2),
        (2, 0),
        (2, 1),
    ]


def test_truth_table_of_the_rules() -> None:
    """c without text .3, without audio .4, without vision .5; complete .35. Rows are students."""
    without, complete = tensor([[0.3], [0.4], [0.5]]), tensor([0.35])
    found = {rule: confidence_weights(without, complete, rule)[0] for rule in ("ratio", "threshold", "noise_level")}
    torch.testing.assert_close(found["ratio"], tensor([[0, 0, 0], [0.4, 0, 0], [0.5, 0.5, 0]]))
    torch.testing.assert_close(found["threshold"], tensor([[0.0, 0, 0], [1, 0, 0], [1, 1, 0]]))
    torch.testing.assert_close(found["noise_level"], tensor([[0, 0, 0], [0.4, 0, 0.4], [0.5, 0.5, 0]]))
    difference = confidence_weights(without, complete, "difference")[0]
    torch.testing.assert_close(difference, tensor([[0, 0, 0], [0.1, 0, 0], [0.2, 0.1, 0]]))


@pytest.mark.parametrize("rule", ["ratio", "difference", "threshold"])
def test_equal_confidences_transfer_nothing(rule) -> None:
    assert confidence_weights(torch.full((3, 2), 0.4), torch.zeros(2), rule).eq(0).all()


def test_the_modality_with_more_impact_teaches() -> None:
    """Masking text changes most (.9), then audio (.5), then vision (.1)."""
    impact = tensor([[0.9], [0.5], [0.1]])
    torch.testing.assert_close(impact_weights(impact)[0], tensor([[0, 0, 0], [0.9, 0, 0], [0.9, 0.5, 0]]))
    torch.testing.assert_close(
        impact_weights(impact, released=True)[0], tensor([[0, 0.9, 0.9], [0, 0, 0.5], [0, 0, 0]])
    )


@pytest.mark.parametrize("samples", [2, 8])
def test_each_sample_weighs_its_own_pairs_by_impact(samples: int) -> None:
    """The authors' code gives pair k the weights of sample k, and fails for fewer than six samples."""
    impact = torch.rand(3, samples, generator=torch.Generator().manual_seed(0))
    together = impact_weights(impact, released=True)
    for sample in range(samples):
        assert torch.equal(together[sample], impact_weights(impact[:, [sample]], released=True)[0])
        for student, teacher in itertools.permutations(range(3), 2):
            own, other = impact[student, sample], impact[teacher, sample]
            assert together[sample, student, teacher] == (own if own > other else 0)


def test_cross_entropy_impact() -> None:
    complete, without = tensor([[0.8, 0.5]]), tensor([[[0.8, 0.5]], [[0.2, 0.5]]])
    corrected = cross_entropy_impact(complete, without)
    assert corrected[:, 0].tolist() == pytest.approx([(0.50040 + 0.69315) / 2, (1.33218 + 0.69315) / 2], abs=1e-4)
    # Which of the two is the target: -(.5 ln .9 + .5 ln .1), and not -(.9 ln .5 + .1 ln .5).
    assert cross_entropy_impact(tensor([[0.9]]), tensor([[[0.5]]])).item() == pytest.approx(1.20397, abs=1e-5)
    released = cross_entropy_impact(complete, without, released=True)
    by_hand = [
        sum(math_bce(p, q) for p, q in zip((0.8, 0.5), row, strict=True)) / 2 for row in ((0.8, 0.5), (0.2, 0.5))
    ]
    assert released[:, 0].tolist() == pytest.approx(by_hand, abs=1e-6)


def math_bce(logit: float, target: float) -> float:
    probability = torch.sigmoid(tensor(logit, dtype=torch.float64))
    return float(-(target * probability.log() + (1 - target) * (1 - probability).log()))


def test_confidence_of_another_shape_is_refused() -> None:
    assert confidence_error(tensor([0.5, 1.0]), tensor([0.0, 1.0])).tolist() == [0.25, 0.0]
    with pytest.raises(ValueError, match="shape"):
        confidence_error(torch.zeros(4, 1), torch.zeros(4))

"""Tasks: losses, decisions and probabilities against slow and simple references."""

from __future__ import annotations

import math

import pytest
import torch

from mer_lightning.tasks import MultiLabel, Regression, SingleLabel, Task, task_from_card

TASKS: list[Task] = [
    Regression(),
    SingleLabel(("happy", "sad", "neutral", "angry")),
    MultiLabel(("happy", "sad", "anger"), threshold=0.35),
]
B = 9


def _sample(task: Task, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    """(logits, target); the first sample has no label, the second all of them."""
    draw = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(B, task.outputs, generator=draw, dtype=torch.float64).to(dtype)
    if task.kind == "regression":
        target = torch.randn(B, generator=draw).round(decimals=1)
        target[:2] = torch.tensor([0.0, -0.0])
        return logits, target
    if task.kind == "single_label":
        return logits, torch.randint(0, task.outputs, (B,), generator=draw)
    target = torch.randint(0, 2, (B, task.outputs), generator=draw).float()
    target[0], target[1] = 0, 1
    return logits, target


def _sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


def _softmax(row: list[float]) -> list[float]:
    total = sum(math.exp(z) for z in row)
    return [math.exp(z) / total for z in row]


def _slow_loss(task: Task, row: list[float], truth: float | list[float]) -> float:
    if task.kind == "regression":
        return abs(row[0] - truth)
    if task.kind == "single_label":
        return -math.log(_softmax(row)[truth])
    cells = [-math.log(_sigmoid(z) if y else 1 - _sigmoid(z)) for z, y in zip(row, truth, strict=True)]
    return sum(cells) / len(cells)


def _slow_belief(task: Task, row: list[float], truth: float | list[float]) -> float:
    if task.kind == "regression":
        return math.exp(-abs(row[0] - truth))
    if task.kind == "single_label":
        return _softmax(row)[truth]
    true = [_sigmoid(z) for z, y in zip(row, truth, strict=True) if y]
    return sum(true) / len(true) if true else 0.0


def _slow_decision(task: Task, row: list[float]) -> float | list[float]:
    if task.kind == "regression":
        return row[0]
    if task.kind == "single_label":
        return row.index(max(row))
    return [float(_sigmoid(z) > task.threshold) for z in row]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.kind)
class TestAgainstLoops:
    def test_losses(self, task):
        logits, target = _sample(task)
        expected = [_slow_loss(task, z, y) for z, y in zip(logits.tolist(), target.tolist(), strict=True)]
        assert task.losses(logits, target).tolist() == pytest.approx(expected, rel=1e-5)

    def test_losses_are_of_each_sample_alone(self, task):
        logits, target = _sample(task)
        alone = torch.cat([task.losses(logits[i : i + 1], target[i : i + 1]) for i in range(B)])
        assert torch.equal(task.losses(logits, target), alone)

    def test_losses_have_the_right_gradient(self, task):
        logits, target = _sample(task, torch.float64)
        target = target.double() if target.is_floating_point() else target
        assert torch.autograd.gradcheck(lambda z: task.losses(z, target), logits.requires_grad_())

    def test_true_class_probability(self, task):
        logits, target = _sample(task)
        expected = [_slow_belief(task, z, y) for z, y in zip(logits.tolist(), target.tolist(), strict=True)]
        actual = task.true_class_probability(logits, target)
        assert actual.shape == (B,)
        assert actual.tolist() == pytest.approx(expected, rel=1e-5)
        assert (actual >= 0).all()
        assert (actual <= 1).all()

    def test_decide(self, task):
        logits, target = _sample(task)
        decision = task.decide(logits)
        assert decision.tolist() == [_slow_decision(task, row) for row in logits.tolist()]
        assert (decision.shape, decision.dtype) == (target.shape, target.dtype)

    def test_probabilities(self, task):
        logits, _ = _sample(task)
        actual = task.probabilities(logits)
        if task.kind == "regression":
            assert actual is None
        else:
            convert = _softmax if task.kind == "single_label" else lambda row: [_sigmoid(z) for z in row]
            assert actual.flatten().tolist() == pytest.approx([p for row in logits.tolist() for p in convert(row)])

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision_logits_are_worked_on_in_float32(self, task, dtype):
        logits, target = _sample(task)
        half = logits.to(dtype)
        for actual, expected in (
            (task.losses(half, target), task.losses(half.float(), target)),
            (task.decide(half), task.decide(half.float())),
            (task.true_class_probability(half, target), task.true_class_probability(half.float(), target)),
        ):
            assert torch.equal(actual, expected)
            assert actual.dtype == expected.dtype

    def test_extreme_logits_stay_finite(self, task):
        _, target = _sample(task)
        logits = torch.full((B, task.outputs), 200.0)
        logits[:, 0] = -200
        logits.requires_grad_()
        losses = task.losses(logits, target)
        losses.sum().backward()
        assert losses.isfinite().all()
        assert logits.grad.isfinite().all()
        assert task.true_class_probability(logits, target).isfinite().all()

    def test_category_is_in_range(self, task):
        _, target = _sample(task)
        category = task.category(target)
        assert category.shape == (B,)
        assert category.dtype == torch.int64
        assert 0 <= int(category.min()) <= int(category.max()) < task.categories

    def test_card_round_trip(self, task):
        card = task.card()
        assert task_from_card(card) == task
        assert not any(isinstance(value, tuple) for value in card.values())  # plain YAML has no tuples
        assert card == task.card()


def test_a_sample_without_labels_has_no_true_class_probability():
    task = MultiLabel(("happy", "sad"))
    assert task.true_class_probability(torch.tensor([[5.0, 5.0]]), torch.zeros(1, 2)).item() == 0.0


def test_multi_label_loss_is_the_mean_over_classes():
    """Not the sum, so that its scale does not depend on the number of classes."""
    for classes in (1, 6):
        task = MultiLabel(tuple("abcdef"[:classes]))
        assert task.losses(torch.zeros(1, classes), torch.zeros(1, classes)).item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_logit_next_to_the_threshold_decides(dtype):
    """float32 sigmoid(1e-9) is .5; the logit still has the right sign."""
    logits = torch.tensor([[1e-9], [-1e-9], [0.0]], dtype=dtype)
    assert MultiLabel(("happy",)).decide(logits).flatten().tolist() == [1, 0, 0]


def test_threshold():
    logits = torch.tensor([[math.log(0.34 / 0.66), math.log(0.36 / 0.64), math.log(0.49 / 0.51)]])
    assert MultiLabel(("a", "b", "c"), threshold=0.35).decide(logits).tolist() == [[0, 1, 1]]
    assert MultiLabel(("a", "b", "c")).decide(logits).tolist() == [[0, 0, 0]]


def test_regression_categories():
    assert Regression().category(torch.tensor([-3.0, -0.1, 0.0, -0.0, 0.1, 3.0])).tolist() == [0, 0, 1, 1, 2, 2]


def test_single_label_category_is_the_class():
    assert SingleLabel(("a", "b", "c")).category(torch.tensor([2, 0, 1])).tolist() == [2, 0, 1]


def test_multi_label_categories_are_the_label_sets():
    task = MultiLabel(("a", "b", "c"))
    every_set = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3)
    categories = task.category(every_set).tolist()
    assert sorted(categories) == list(range(task.categories))
    assert task.category(torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 1]])).tolist() == [
        0, 1, 2, 4, 5
    ]  # fmt: skip


def test_cards_are_plain_and_complete():
    assert Regression(1.0).card() == {"kind": "regression", "limit": 1.0}
    assert SingleLabel(("a", "b")).card() == {"kind": "single_label", "classes": ["a", "b"]}
    assert MultiLabel(("a",), 0.35).card() == {"kind": "multi_label", "classes": ["a"], "threshold": 0.35}


@pytest.mark.parametrize("card", [{"kind": "ranking"}, {"limit": 3.0}, {"kind": "ranking", "classes": ["a"]}])
def test_an_unknown_kind_is_named(card):
    with pytest.raises(ValueError, match="regression, single_label, multi_label"):
        task_from_card(card)


# What is right, and how sure a prediction looks


def test_right_is_the_sign_and_nothing_where_the_target_has_none() -> None:
    target = torch.tensor([1.0, -0.2, 0.0, -0.0, 2.0])
    found = Regression().right(torch.tensor([[0.1], [3.0], [1.0], [0.0], [0.0]]), target)
    assert found.tolist() == pytest.approx([1, 0, math.nan, math.nan, 0], nan_ok=True)


def test_right_is_the_class_and_all_labels() -> None:
    single = SingleLabel(("a", "b", "c"))
    assert single.right(torch.tensor([[1.0, 2, 0], [1, 2, 0]]), torch.tensor([1, 0])).tolist() == [1, 0]
    several = MultiLabel(("a", "b"), threshold=0.35)  # a logit of -.5 is a probability of .38
    target = torch.tensor([[1.0, 0], [1, 1], [0, 0], [1, 0]])
    said = torch.tensor([[-0.5, -1], [-0.5, -1], [-1, -1], [-1, -0.5]])
    assert several.right(said, target).tolist() == [1, 0, 1, 0]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.kind)
def test_certainty_is_the_trivial_score(task: Task) -> None:
    logits, _ = _sample(task, torch.float64)
    for row, found in zip(logits.tolist(), task.certainty(logits).tolist(), strict=True):
        match task.kind:
            case "regression":
                expected = abs(row[0]) / task.limit
            case "single_label":
                expected = max(_softmax(row))
            case _:
                expected = sum(max(_sigmoid(z), 1 - _sigmoid(z)) for z in row) / len(row)
        assert found == pytest.approx(expected, abs=1e-6)

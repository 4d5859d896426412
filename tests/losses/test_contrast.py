"""Who attracts and who repels whom, against loops that follow the equations word for word."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mer_lightning.losses.contrast import Keys, Mode, contrastive_loss, share_with_positive

T = 0.3
MODES: list[Mode] = ["joint_neutral", "joint", "graded", "dual"]

# Category and combination of eight rows; 0 is a row with nothing present, and row 4 is alone in its group.
K = [0, 0, 0, 1, 1, 2, 2, 0]
C = [1, 1, 3, 1, 2, 7, 7, 0]
POSITIVES = {0: {1}, 1: {0}, 5: {6}, 6: {5}}
OTHER_COMBINATION = {0: {2}, 1: {2}, 2: {0, 1}, 3: {4}, 4: {3}}
OTHER_CATEGORY = {
    0: {3, 4, 5, 6},
    1: {3, 4, 5, 6},
    2: {3, 4, 5, 6},
    3: {0, 1, 2, 5, 6},
    4: {0, 1, 2, 5, 6},
    5: {0, 1, 2, 3, 4},
    6: {0, 1, 2, 3, 4},
}


def keys(rows: int = 8, seed: int = 0, **changed: list[int]) -> Keys:
    draw = torch.Generator().manual_seed(seed)
    z = F.normalize(torch.randn(rows, 5, generator=draw, dtype=torch.float64), dim=1)
    return Keys(z, torch.tensor(changed.get("k", K)), torch.tensor(changed.get("c", C)), torch.arange(rows))


def random_keys(rows: int, seed: int) -> Keys:
    draw = torch.Generator().manual_seed(seed)
    z = F.normalize(torch.randn(rows, 6, generator=draw, dtype=torch.float64), dim=1)
    categories, combinations = (torch.randint(0, kinds, (rows,), generator=draw) for kinds in (3, 8))
    return Keys(z, categories, combinations, torch.arange(rows) + 1000 * seed)


def slow(anchors: Keys, mode: Mode, weight: float = 0.5, memory: Keys | None = None) -> float:
    """The definition, pair by pair."""
    z = [*anchors.vectors, *([] if memory is None else memory.vectors)]
    k = [*anchors.categories.tolist(), *([] if memory is None else memory.categories.tolist())]
    c = [*anchors.combinations.tolist(), *([] if memory is None else memory.combinations.tolist())]

    def one(weight_of, in_denominator) -> float:
        found = []
        for i in range(len(anchors.vectors)):
            others = [j for j in range(len(z)) if j != i and c[j] > 0 and c[i] > 0]
            weights = {p: weight_of(i, p) for p in others if weight_of(i, p) > 0}
            if not weights:
                continue
            below = sum(math.exp(float(z[i] @ z[a]) / T) for a in others if in_denominator(i, a))
            logs = {p: math.log(math.exp(float(z[i] @ z[p]) / T) / below) for p in weights}
            found.append(-sum(weights[p] * logs[p] for p in weights) / sum(weights.values()))
        return sum(found) / len(found) if found else 0.0

    def joint(i: int, j: int) -> float:
        return float(k[i] == k[j] and c[i] == c[j])

    if mode == "joint_neutral":
        return one(joint, lambda i, a: bool(joint(i, a)) or k[a] != k[i])
    if mode == "joint":
        return one(joint, lambda i, a: True)
    if mode == "graded":
        return one(lambda i, p: joint(i, p) if joint(i, p) else weight * (k[i] == k[p]), lambda i, a: True)
    return one(lambda i, p: float(k[i] == k[p]), lambda i, a: True) + one(
        lambda i, p: float(c[i] == c[p]), lambda i, a: True
    )


def sup_con(z: Tensor, labels: Tensor) -> float:
    """Supervised contrast (Khosla et al., 2020, equation 2), over one kind of label."""
    found = []
    for i in range(len(z)):
        positives = [p for p in range(len(z)) if p != i and labels[p] == labels[i]]
        below = sum(math.exp(float(z[i] @ z[a]) / T) for a in range(len(z)) if a != i)
        if positives:
            found.append(-sum(math.log(math.exp(float(z[i] @ z[p]) / T) / below) for p in positives) / len(positives))
    return sum(found) / len(found)


@pytest.mark.parametrize("mode", MODES)
def test_equals_loops_over_anchors_and_keys(mode: Mode) -> None:
    for seed in range(5):
        anchors, memory = random_keys(20, seed), random_keys(13, seed + 100)
        assert contrastive_loss(anchors, T, mode).item() == pytest.approx(slow(anchors, mode), abs=1e-6)
        with_memory = contrastive_loss(anchors, T, mode, memory=memory).item()
        assert with_memory == pytest.approx(slow(anchors, mode, memory=memory), abs=1e-6)


def test_each_anchor_depends_on_the_keys_of_its_mode_only() -> None:
    """Each similarity that the loss depends on, and no other: read from which z_j moves the loss of anchor i."""
    anchors = keys()
    for i in range(8):
        # The loss of anchor i alone: the others become keys of a memory, which are never anchors.
        one = Keys(*(values[i : i + 1] for values in anchors))
        z = anchors.vectors.clone()
        for mode in ("joint_neutral", "joint"):
            expected = set(POSITIVES.get(i, set()))
            if expected:
                expected |= OTHER_CATEGORY[i]
                if mode == "joint":
                    expected |= OTHER_COMBINATION.get(i, set())
            before = contrastive_loss(one, T, mode, memory=_without(anchors._replace(vectors=z), i))
            moved = set()
            for j in set(range(8)) - {i}:
                other = z.clone()
                other[j] = -other[j]
                after = contrastive_loss(one, T, mode, memory=_without(anchors._replace(vectors=other), i))
                if after != before:
                    moved.add(j)
            assert moved == expected, (i, mode)


def _without(anchors: Keys, row: int) -> Keys:
    kept = torch.arange(len(anchors.vectors)) != row
    return Keys(*(values[kept] for values in anchors))


def test_anchors_without_positives_contribute_nothing() -> None:
    anchors = keys()
    with_positive = [0, 1, 5, 6]
    singles = [Keys(*(values[i : i + 1] for values in anchors)) for i in range(8)]
    alone = [contrastive_loss(one, T, memory=_without(anchors, i)) for i, one in enumerate(singles)]
    assert all(alone[i] == 0 for i in set(range(8)) - set(with_positive))
    mean = sum(float(alone[i]) for i in with_positive) / 4
    assert contrastive_loss(anchors, T).item() == pytest.approx(mean, abs=1e-9)
    assert share_with_positive(anchors) == 0.5


@pytest.mark.parametrize("mode", MODES)
def test_order_does_not_matter(mode: Mode) -> None:
    anchors = random_keys(30, 3)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    permuted = Keys(*(values[order] for values in anchors))
    torch.testing.assert_close(contrastive_loss(permuted, T, mode), contrastive_loss(anchors, T, mode))


def test_graded_of_weight_one_is_plain_sup_con() -> None:
    anchors = random_keys(25, 4)
    anchors = anchors._replace(combinations=anchors.combinations.clamp(min=1))
    expected = sup_con(anchors.vectors, anchors.categories)
    assert contrastive_loss(anchors, T, "graded", weight=1.0).item() == pytest.approx(expected, abs=1e-6)
    assert contrastive_loss(anchors, T, "graded", weight=0.5).item() != pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("mode", ["joint", "joint_neutral"])
def test_joint_in_one_combination_is_plain_sup_con(mode: Mode) -> None:
    anchors = random_keys(25, 5)
    anchors = anchors._replace(combinations=torch.full((25,), 6))
    expected = sup_con(anchors.vectors, anchors.categories)
    assert contrastive_loss(anchors, T, mode).item() == pytest.approx(expected, abs=1e-6)


def test_dual_is_the_sum_of_sup_con_over_categories_and_over_combinations() -> None:
    anchors = random_keys(25, 6)
    anchors = anchors._replace(combinations=anchors.combinations.clamp(min=1))
    expected = sup_con(anchors.vectors, anchors.categories) + sup_con(anchors.vectors, anchors.combinations)
    assert contrastive_loss(anchors, T, "dual").item() == pytest.approx(expected, abs=1e-6)


def test_what_becomes_of_the_same_emotion_in_another_combination() -> None:
    """One anchor, its positive, one other of the same emotion: joint pushes it away, joint_neutral leaves it alone, and
    graded pulls until its share of the softmax is w / (1 + w)."""
    change = {}
    for mode in MODES:
        anchors = keys(4, k=[0, 0, 0, 1], c=[1, 1, 2, 1])
        z = anchors.vectors.clone().requires_grad_()
        memory = _without(anchors, 0)
        one = Keys(z[:1], anchors.categories[:1], anchors.combinations[:1], anchors.samples[:1])
        contrastive_loss(one, T, mode, memory=memory).backward()
        # A loss over similarities s_j = z_0 z_j has the gradient sum_j (dL/ds_j) z_j: solve for dL/ds_2.
        weights = torch.linalg.lstsq(memory.vectors.T, z.grad[0]).solution
        change[mode] = weights[1].item()
    assert change["joint"] > 0.01
    assert change["joint_neutral"] == pytest.approx(0, abs=1e-9)
    assert change["graded"] == pytest.approx(change["joint"] - (0.5 / 1.5) / T, abs=1e-9)


@pytest.mark.parametrize("mode", MODES)
def test_gradient_is_that_of_finite_differences(mode: Mode) -> None:
    anchors, memory = random_keys(7, 7), random_keys(4, 8)
    z = anchors.vectors.clone().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda v: contrastive_loss(anchors._replace(vectors=v), T, mode, memory=memory), (z,)
    )


def test_memory_gets_no_gradient() -> None:
    anchors, memory = random_keys(7, 7), random_keys(4, 8)
    z, old = anchors.vectors.clone().requires_grad_(), memory.vectors.clone().requires_grad_()
    contrastive_loss(anchors._replace(vectors=z), T, memory=memory._replace(vectors=old)).backward()
    assert z.grad.abs().sum() > 0
    assert old.grad is None


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", ["nothing present", "one row", "identical", "all alone"])
def test_loss_and_gradient_are_finite_at_the_edges(mode: Mode, case: str) -> None:
    rows = 1 if case == "one row" else 6
    z = torch.ones(rows, 4) / 2 if case == "identical" else torch.randn(rows, 4)
    categories = torch.arange(rows) if case == "all alone" else torch.zeros(rows, dtype=torch.int64)
    combinations = torch.ones(rows, dtype=torch.int64)
    if case == "nothing present":
        combinations = torch.zeros_like(combinations)
    elif case == "all alone":
        combinations = torch.arange(rows) + 1
    z.requires_grad_()
    value = contrastive_loss(Keys(z, categories, combinations, torch.arange(rows)), 0.05, mode)
    value.backward()
    assert value.isfinite()
    assert z.grad.isfinite().all()
    if case in ("nothing present", "one row", "all alone"):
        assert value == 0
        assert z.grad.eq(0).all()
    elif mode != "dual":
        assert value.item() == pytest.approx(math.log(5), abs=1e-5)


def test_half_precision_is_computed_in_single() -> None:
    anchors = random_keys(20, 9)
    single = anchors._replace(vectors=anchors.vectors.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = contrastive_loss(single, 0.05)
    assert inside.dtype == torch.float32
    assert inside == contrastive_loss(single, 0.05)


@pytest.mark.parametrize("mode", MODES)
def test_a_samples_own_copy_is_nobody(mode: Mode) -> None:
    """A sample seen twice in one combination attracts and repels as if it were there once, in the batch or a memory."""
    anchors = keys()
    again = Keys(*(torch.cat([values, values[:1]]) for values in anchors))
    one = Keys(*(values[:1] for values in anchors))
    others = Keys(*(values[1:] for values in anchors))
    with_copy = Keys(*(values[1:] for values in again))
    assert contrastive_loss(one, T, mode, memory=with_copy) == contrastive_loss(one, T, mode, memory=others)
    elsewhere = with_copy._replace(combinations=with_copy.combinations.clone())
    elsewhere.combinations[-1] = anchors.combinations[0] % 7 + 1  # in another combination it counts
    if mode in ("joint", "graded", "dual"):
        assert contrastive_loss(one, T, mode, memory=elsewhere) != contrastive_loss(one, T, mode, memory=others)

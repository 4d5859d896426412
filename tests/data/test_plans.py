"""An epoch is the same for any batch size and number of processes."""

from __future__ import annotations

from itertools import groupby

import pytest
import torch
from torch import Tensor

from mer_lightning.data.plans import EvaluationPlan, Groups, TrainingPlan
from mer_lightning.masks.training import Complete, UniformCombinations, combination_number, left_by


def plan(**options) -> TrainingPlan:
    return TrainingPlan(**{"samples": 101, "batch_size": 8, "masks": UniformCombinations(), "seed": 3, **options})


def shown(plan: TrainingPlan) -> dict[int, tuple[bool, ...]]:
    return {
        int(row): tuple(seen)
        for request in plan
        for row, seen in zip(request.index, request.present.tolist(), strict=True)
    }


def test_every_sample_once_per_epoch() -> None:
    rows = torch.cat([request.index for request in plan()])
    assert sorted(rows.tolist()) == list(range(101))


def test_masks_do_not_depend_on_batch_size_or_processes() -> None:
    alone = shown(plan())
    assert shown(plan(batch_size=31)) == alone
    shared = {}
    for rank in range(2):
        shared |= shown(plan(rank=rank, world=2))
    assert shared == alone


def test_order_and_masks_change_with_epoch_and_seed() -> None:
    first, other_seed, later = plan(), plan(seed=4), plan()
    later.set_epoch(1)
    orders = [torch.cat([r.index for r in p]).tolist() for p in (first, other_seed, later)]
    assert orders[0] != orders[1]
    assert orders[0] != orders[2]
    assert shown(first) != shown(later)
    assert torch.cat([r.index for r in first]).tolist() == orders[0]


@pytest.mark.parametrize("world", [2, 3])
def test_processes_take_equally_many_steps(world: int) -> None:
    steps = [len(list(plan(rank=rank, world=world))) for rank in range(world)]
    assert len(set(steps)) == 1
    assert steps[0] == len(plan(rank=0, world=world))


def test_last_batch_of_one_is_left_out() -> None:
    assert [len(request.index) for request in plan(samples=17)] == [8, 8]
    assert [len(request.index) for request in plan(samples=18)] == [8, 8, 2]


def test_buckets_hold_samples_of_like_length() -> None:
    steps = torch.arange(101) % 50 + 1
    bucketed, mixed = plan(steps=steps, masks=Complete()), plan(masks=Complete())

    def padding(which: TrainingPlan) -> int:
        return sum(int((steps[r.index].max() - steps[r.index]).sum()) for r in which)

    assert padding(bucketed) < 0.3 * padding(mixed)
    assert sorted(torch.cat([r.index for r in bucketed]).tolist()) == list(range(101))


GROUPS = Groups(torch.arange(420) % 3, torch.tensor([[True, i % 5 != 0, True] for i in range(420)]))


def balanced(**options) -> TrainingPlan:
    return plan(samples=420, batch_size=32, **{"groups": GROUPS, **options})


def group_of(plan: TrainingPlan) -> Tensor:
    """(N,) the group of each sample: its category and its combination under the masks."""
    present = plan.masks.present(plan.samples, plan.epoch, plan.seed)
    return GROUPS.categories * 8 + combination_number(left_by(present, GROUPS.available))


def test_a_balanced_epoch_shows_the_same_samples_under_the_same_masks() -> None:
    for epoch in range(3):
        even, random = balanced(), plan(samples=420, batch_size=32)
        even.set_epoch(epoch)
        random.set_epoch(epoch)
        rows = torch.cat([request.index for request in even]).tolist()
        assert sorted(rows) == list(range(420))
        assert shown(even) == shown(random)
        assert [len(request.index) for request in even] == [len(request.index) for request in random]


def test_a_balanced_batch_has_several_samples_of_a_group() -> None:
    def partners(which: TrainingPlan) -> float:
        group = group_of(which)
        actual = [(group[r.index, None] == group[r.index]).sum(1) - 1 for r in which]
        return float(torch.cat(actual).double().mean())

    assert partners(plan(samples=420, batch_size=32)) < 2
    assert partners(balanced()) > 3


def test_fours_of_a_balanced_order_are_of_one_group_and_shuffled() -> None:
    which = balanced()
    rows = torch.cat([request.index for request in which])
    runs = [list(run) for _, run in groupby(group_of(which)[rows].tolist())]
    whole = sum(len(run) // 4 for run in runs)
    assert whole == sum(int(n) // 4 for n in group_of(which).unique(return_counts=True)[1])
    neighbours = sum(len(run) > 4 for run in runs)
    assert neighbours < 0.2 * len(runs)  # fours of one group stand side by side by chance only


def test_a_balanced_order_changes_with_the_epoch() -> None:
    first, later = balanced(), balanced()
    later.set_epoch(1)
    orders = [torch.cat([r.index for r in p]).tolist() for p in (first, first, later)]
    assert orders[0] == orders[1] != orders[2]


def test_processes_share_a_balanced_order() -> None:
    alone = torch.cat([r.index for r in balanced()])
    shares = [torch.cat([r.index for r in balanced(rank=rank, world=2)]) for rank in range(2)]
    assert torch.equal(torch.stack(shares, 1).flatten(), alone)


def test_evaluation_batches_are_the_same_on_any_number_of_processes() -> None:
    alone = [request.index.tolist() for request in EvaluationPlan(101, 8)]
    ranks = [[request.index.tolist() for request in EvaluationPlan(101, 8, rank, 3)] for rank in range(3)]
    assert sorted(batch for rank in ranks for batch in rank) == sorted(alone)
    assert [len(EvaluationPlan(101, 8, rank, 3)) for rank in range(3)] == [len(rank) for rank in ranks]


def test_a_process_without_a_batch_repeats_the_first() -> None:
    assert [r.index.tolist() for r in EvaluationPlan(5, 8, rank=1, world=2)] == [[0, 1, 2, 3, 4]]

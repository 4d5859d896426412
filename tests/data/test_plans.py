"""An epoch is the same whatever the batch size and the number of processes."""

from __future__ import annotations

import pytest
import torch

from mer_lightning.data.masks import Complete, UniformCombinations
from mer_lightning.data.plans import EvaluationPlan, TrainingPlan


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


def test_evaluation_batches_are_the_same_on_any_number_of_processes() -> None:
    alone = [request.index.tolist() for request in EvaluationPlan(101, 8)]
    ranks = [[request.index.tolist() for request in EvaluationPlan(101, 8, rank, 3)] for rank in range(3)]
    assert sorted(batch for rank in ranks for batch in rank) == sorted(alone)
    assert [len(EvaluationPlan(101, 8, rank, 3)) for rank in range(3)] == [len(rank) for rank in ranks]


def test_a_process_without_a_batch_repeats_the_first() -> None:
    assert [r.index.tolist() for r in EvaluationPlan(5, 8, rank=1, world=2)] == [[0, 1, 2, 3, 4]]

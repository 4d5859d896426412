"""If a file has no validation split, whole groups of train become one."""

from __future__ import annotations

import numpy as np

from mer_lightning.data.store import carve_valid, partition_from


def test_carving_moves_whole_groups_of_train_only() -> None:
    rng = np.random.default_rng(0)
    groups = [f"v{number}" for number in rng.integers(0, 60, 1000)]
    test_groups = {f"v{number}" for number in range(15)}
    before = np.array([2 if group in test_groups else 0 for group in groups], dtype=np.int8)
    before[:5] = -1
    after = carve_valid(before, groups)
    names = np.array(groups)
    assert not set(names[after == 1]) & set(names[after == 0])
    assert np.array_equal(after == 2, before == 2)
    assert np.array_equal(after == -1, before == -1)
    share = (after == 1).sum() / (before == 0).sum()
    assert 0.15 <= share < 0.15 + 1 / 30
    assert (before == 1).sum() == 0, "the argument is left as it was"


def test_carving_depends_on_the_seed_and_the_groups_but_not_on_the_order_of_samples() -> None:
    groups = [f"v{i // 10}" for i in range(400)]
    partition = np.zeros(400, np.int8)
    first = carve_valid(partition, groups)
    assert np.array_equal(first, carve_valid(partition, groups))
    assert not np.array_equal(first, carve_valid(partition, groups, seed=1))
    order = np.random.default_rng(0).permutation(400)
    assert np.array_equal(carve_valid(partition, [groups[i] for i in order]), first[order])


def test_carving_never_takes_all_of_train() -> None:
    for seed in range(20):
        carved = carve_valid(np.zeros(12, np.int8), ["small"] + ["large"] * 11, seed=seed)
        assert (carved == 0).any()
        assert (carved == 1).any()
    assert carve_valid(np.zeros(5, np.int8), ["one"] * 5).tolist() == [0] * 5


def test_partition_from_names() -> None:
    actual = partition_from(["train", "", "test", "valid"])
    assert actual.tolist() == [0, -1, 2, 1]
    assert actual.dtype == np.int8

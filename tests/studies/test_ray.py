"""The Ray executor on a cluster of one machine."""

from __future__ import annotations

import pytest

from mer_lightning.studies.ray_executor import RayCluster


@pytest.mark.slow
def test_every_item_once_and_errors_are_returned() -> None:
    pytest.importorskip("ray", reason="the extra 'ray' is not installed")

    def work(number: int) -> int:
        if number == 3:
            raise ValueError("three")
        return number * number

    started: list[int] = []
    cluster = RayCluster(workers=2, address=None, gpus=0.0)
    results = {result.item: result for result in cluster.run(iter(range(1, 6)), work, started.append)}
    assert {item: result.value for item, result in results.items()} == {1: 1, 2: 4, 3: None, 4: 16, 5: 25}
    assert "ValueError: three" in str(results[3].error)
    assert started == [1, 2, 3, 4, 5]

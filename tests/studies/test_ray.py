"""The Ray executor on a cluster of one machine."""

from __future__ import annotations

import pytest

from mer_lightning.studies.ray_executor import run_all_on_ray


@pytest.mark.slow
def test_every_item_once_and_errors_are_told() -> None:
    pytest.importorskip("ray", reason="the extra 'ray' is not installed")

    def work(number: int) -> int:
        if number == 3:
            raise ValueError("three")
        return number * number

    outcomes = {o.item: o for o in run_all_on_ray(iter(range(1, 6)), work, workers=2, address=None, gpus=0.0)}
    assert {item: outcome.result for item, outcome in outcomes.items()} == {1: 1, 2: 4, 3: None, 4: 16, 5: 25}
    assert "ValueError: three" in str(outcomes[3].error)

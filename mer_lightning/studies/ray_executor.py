"""The same work on a Ray cluster: one task per item, with a share of a GPU where asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mer_lightning.errors import Refusal, describe_error
from mer_lightning.studies.pool import Item, Outcome, Work


def run_all_on_ray(
    items: Iterator[Item], work: Work, workers: int, address: str | None, gpus: float
) -> Iterator[Outcome[Item]]:
    """Outcomes in the order in which they come, ``workers`` at a time. All machines must see the folder of the runs."""
    try:
        import ray
    except ImportError as missing:
        raise Refusal("--executor ray", "the package ray", "none", "pip install 'mer-lightning[ray]'") from missing

    ray.init(address=address, num_cpus=None if address else workers, include_dashboard=False, log_to_driver=False)
    try:
        task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=1)(_guarded)
        running: dict[Any, Item] = {}
        while True:
            while len(running) < workers and (item := next(items, None)) is not None:
                running[task.remote(work, item)] = item
            if not running:
                return
            (ready,), _ = ray.wait(list(running), num_returns=1)
            item = running.pop(ready)
            try:
                result, error = ray.get(ready)
            except ray.exceptions.RayError as lost:
                result, error = None, f"its worker was lost: {type(lost).__name__}"
            yield Outcome(item, result, error)
    finally:
        ray.shutdown()


def _guarded(work: Work, item: Any) -> tuple[Any, str | None]:
    import torch

    torch.set_num_threads(1)
    try:
        return work(item), None
    except Exception as error:
        return None, describe_error(error)

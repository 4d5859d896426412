"""Workers on a Ray cluster: one Ray task for each item, with a share of a GPU where asked for."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

from mer_lightning.errors import Refusal
from mer_lightning.studies.executor import TRIES, Item, WorkResult, attempt
from mer_lightning.trust import trust_given


@dataclass(frozen=True)
class RayCluster:
    """An executor (see `executor.Executor`). All machines must see the folder of the runs.

    Args:
        workers: items at a time.
        address: of the cluster; None starts one on this machine.
        gpus: GPUs for each item; may be a fraction.
    """

    workers: int
    address: str | None
    gpus: float

    def run(
        self, items: Iterator[Item], work: Callable[[Item], Any], started: Callable[[Item], None]
    ) -> Generator[WorkResult[Item], None, None]:
        try:
            import ray
        except ImportError as missing:
            raise Refusal("--executor ray", "the package ray", "none", "pip install 'mer-lightning[ray]'") from missing

        cores = None if self.address else self.workers
        ray.init(address=self.address, num_cpus=cores, include_dashboard=False, log_to_driver=False)
        try:
            task = ray.remote(num_cpus=1, num_gpus=self.gpus, max_retries=TRIES - 1)(attempt)
            running: dict[Any, Item] = {}
            while True:
                while len(running) < self.workers and (item := next(items, None)) is not None:
                    started(item)
                    running[task.remote(work, item, trust_given())] = item
                if not running:
                    return
                (ready,), _ = ray.wait(list(running), num_returns=1)
                item = running.pop(ready)
                try:
                    value, error = ray.get(ready)
                except ray.exceptions.RayError as lost:
                    value, error = None, f"its worker was lost: {type(lost).__name__}"
                yield WorkResult(item, value, error)
        finally:
            ray.shutdown()

"""Workers on a Ray cluster: one Ray task for each item, with a share of a GPU where asked for."""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mer_lightning.data.places import DATA_VARIABLE
from mer_lightning.errors import Refusal
from mer_lightning.studies.executor import TRIES, Item, WorkResult, attempt
from mer_lightning.trust import trust_given

_PATIENCE = 10.0  # seconds


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

        if self.address:
            _refuse_silent(self.address)
        cores = None if self.address else self.workers
        ray.init(address=self.address, num_cpus=cores, include_dashboard=False, log_to_driver=False)
        here = _Place(Path.cwd(), os.environ.get(DATA_VARIABLE))
        try:
            task = ray.remote(num_cpus=1, num_gpus=self.gpus, max_retries=TRIES - 1)(_attempt_at)
            running: dict[Any, Item] = {}
            while True:
                while len(running) < self.workers and (item := next(items, None)) is not None:
                    started(item)
                    running[task.remote(here, work, item, trust_given())] = item
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


def _refuse_silent(address: str) -> None:
    """Ray would wait for minutes where nobody answers."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise Refusal("--address", "HOST:PORT of a cluster's head", address, "ray start --head --port 6379 starts one")
    try:
        socket.create_connection((host, int(port)), _PATIENCE).close()
    except OSError as error:
        remedy = f"start its head there: ray start --head --port {port}"
        raise Refusal("--address", f"a Ray cluster at {address}", str(error), remedy) from error


@dataclass(frozen=True)
class _Place:
    """What the paths of a study are relative to: its working folder, and where it looks for corpora."""

    folder: Path
    data: str | None


def _attempt_at(place: _Place, work: Callable[[Item], Any], item: Item, trust: str | None) -> tuple[Any, str | None]:
    """:func:`attempt` in a worker of Ray, which has the folder and the environment in which its machine was started."""
    try:
        os.chdir(place.folder)
    except OSError:
        remedy = "start the sweep in a folder that every machine of the cluster has"
        return None, str(Refusal(place.folder, f"this folder on {platform.node()}, too", "none", remedy))
    if place.data is None:
        os.environ.pop(DATA_VARIABLE, None)
    else:
        os.environ[DATA_VARIABLE] = place.data
    return attempt(work, item, trust)

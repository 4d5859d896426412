"""One run's processes: a run leaves nothing of them to the next run of the same process."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

_AGREED = "mer_lightning/agreed"

# Lightning and torch write these when DDP starts.
_VARIABLES = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_stores: list[object] = []  # where the first process is the server, others may still ask it


@contextlib.contextmanager
def processes_of_one_run() -> Iterator[None]:
    """Takes back what DDP leaves in place: variables of the environment, and a process group that listens on a port.

    With them the next run of this process, such as the next trial of a sweep, would take itself for a process that
    another one has started: it would wait for others, or start none of its own.
    """
    import torch.distributed

    before = {name: os.environ.get(name) for name in _VARIABLES}
    joined = _joined()
    try:
        yield
    finally:
        if _joined() and not joined:
            torch.distributed.destroy_process_group()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def of_first_process(choose: Callable[[], str]) -> str:
    """What the first of the processes that torchrun has started chooses; alone, what this one does."""
    import torch.distributed
    from torch.distributed.rendezvous import rendezvous

    if not torch.distributed.is_torchelastic_launched() or os.environ["WORLD_SIZE"] == "1":
        return choose()
    store, rank, _ = next(rendezvous("env://"))
    _stores.append(store)
    if rank:
        if chosen := store.get(_AGREED).decode():
            return str(chosen)
        raise SystemExit(2)  # the first process says why
    chosen = ""
    try:
        chosen = choose()
    finally:
        store.set(_AGREED, chosen)
    return chosen


def _joined() -> bool:
    import torch.distributed

    return torch.distributed.is_available() and torch.distributed.is_initialized()

"""One run's processes: a run leaves nothing of them to the next run of the same process."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import torch.distributed

# Lightning and torch write these when DDP starts.
_VARIABLES = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@contextlib.contextmanager
def processes_of_one_run() -> Iterator[None]:
    """Takes back what DDP leaves in place: variables of the environment, and a process group that listens on a port.

    With them the next run of this process, such as the next trial of a sweep, would take itself for a process that
    another one has started: it would wait for others, or start none of its own.
    """
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


def _joined() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()

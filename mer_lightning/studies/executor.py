"""What runs the jobs of a study: an executor takes one item whenever it has room, and says what became of each."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from mer_lightning.errors import error_text
from mer_lightning.trust import adopt

Item = TypeVar("Item")

TRIES = 2  # of an item whose worker died


@dataclass(frozen=True)
class WorkResult(Generic[Item]):
    """An item with what the work returned for it, or with the text of an error."""

    item: Item
    value: Any = None
    error: str | None = None


class Executor(Protocol):
    def run(
        self, items: Iterator[Item], work: Callable[[Item], Any], started: Callable[[Item], None]
    ) -> Generator[WorkResult[Item], None, None]:
        """Results in the order in which they come; ``items`` is asked for the next one only when a worker is free.

        ``started`` is called once for each item. An item whose worker died is tried ``TRIES`` times. Closing the
        generator ends the workers.
        """
        ...


def attempt(work: Callable[[Item], Any], item: Item, trust: str | None) -> tuple[Any, str | None]:
    """(what the work returned, None), or (None, the text of its error); called in the worker.

    ``trust`` names the packages that the study trusts. A worker may come from a server that was started before.

    On one thread: two runs at a time on one thread each are faster than two in turn on two threads.
    """
    import torch

    adopt(trust)
    torch.set_num_threads(1)
    try:
        return work(item), None
    except (Exception, SystemExit) as error:
        return None, error_text(error)

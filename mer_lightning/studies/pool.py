"""Workers for many small runs: processes that import everything once, have one thread each, and may die.

A run on one thread beside another is faster than two runs in turn on two threads, and a worker that is killed, by the
system for its memory or by a person, costs one more try of its job and nothing else.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

from mer_lightning.errors import describe_error

Item = TypeVar("Item")
Work = Callable[[Any], Any]

_TRIES = 2  # of an item whose worker died


@dataclass(frozen=True)
class Outcome(Generic[Item]):
    """What became of an item: a result, or the text of an error."""

    item: Item
    result: Any = None
    error: str | None = None


class _Worker:
    def __init__(self, context: Any, work: Work, number: int) -> None:
        self.here, there = context.Pipe()
        self.process = context.Process(target=_serve, args=(there, work, number), daemon=True)
        self.process.start()
        there.close()
        self.item: Any = None
        self.tries = 0

    def give(self, item: Any, tries: int) -> None:
        self.item, self.tries = item, tries
        self.here.send(item)

    def stop(self) -> None:
        self.here.close()
        self.process.join(timeout=2)
        if self.process.is_alive():
            self.process.kill()


def run_all(
    items: Iterator[Item], work: Work, workers: int, started: Callable[[Item], None] = lambda item: None
) -> Iterator[Outcome[Item]]:
    """Outcomes in the order in which they come; ``items`` is asked for the next one only when a worker is free."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mer_lightning.training.lightning_cli"])
    crew = [_Worker(context, work, number) for number in range(workers)]
    free, again = list(crew), []  # type: ignore[var-annotated]
    try:
        while True:
            while free:
                item, tries = again.pop() if again else (next(items, None), 1)
                if item is None:
                    break
                started(item)
                free.pop().give(item, tries)
            busy = [worker for worker in crew if worker not in free]
            if not busy:
                return
            ready = wait([worker.here for worker in busy])
            for worker in [worker for worker in busy if worker.here in ready]:
                item, tries = worker.item, worker.tries
                try:
                    result, error = worker.here.recv()
                    free.append(worker)
                    yield Outcome(item, result, error)
                except (EOFError, ConnectionResetError):  # the worker is dead
                    number = crew.index(worker)
                    worker.stop()
                    crew[number] = _Worker(context, work, number)
                    free.append(crew[number])
                    if tries < _TRIES:
                        again.append((item, tries + 1))
                    else:
                        yield Outcome(item, error=f"its worker died {tries} times")
    finally:
        for worker in crew:
            worker.stop()


def _serve(connection: Connection, work: Work, number: int) -> None:
    """What a worker does until nobody is there any more."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, too, which stops its workers
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    if devices := torch.cuda.device_count():
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", str(number % devices))
    while True:
        try:
            item = connection.recv()
            try:
                answer: tuple[Any, str | None] = work(item), None
            except Exception as error:
                answer = None, describe_error(error)
            connection.send(answer)
        except (EOFError, ConnectionError):
            return


def _end_with_parent() -> None:
    """Somebody who starts a killed study again must not meet its orphans, still writing."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)

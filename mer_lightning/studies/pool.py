"""Workers on this machine: processes that import everything once, run one item at a time and may die.

Each worker is a `ProcessPoolExecutor` with a single process, because a process that dies breaks its whole executor.
So a process that is killed, by the system for its memory or by a person, costs one more try of its own item, and the
other workers go on.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for_connections
from multiprocessing.context import BaseContext
from typing import Any

from mer_lightning.signals import TERMINATED
from mer_lightning.studies.executor import TRIES, Item, WorkResult, attempt
from mer_lightning.trust import trust_given

_PRELOADED = "mer_lightning.training.lightning_cli"  # with Lightning and torch: a worker then starts in a moment


class ProcessPool:
    """An executor (see `executor.Executor`) with ``workers`` processes, each with a GPU of its own where there are."""

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def run(
        self, items: Iterator[Item], work: Callable[[Item], Any], started: Callable[[Item], None]
    ) -> Generator[WorkResult[Item], None, None]:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([_PRELOADED])
        workers = [_Worker(context, number) for number in range(self.workers)]
        idle = list(workers)
        running: dict[Future[tuple[Any, str | None]], tuple[_Worker, Item, int]] = {}
        try:
            while True:
                while idle and (item := next(items, None)) is not None:
                    worker = idle.pop()
                    started(item)
                    running[worker.submit(attempt, work, item, trust_given())] = (worker, item, 1)
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    worker, item, tries = running.pop(future)
                    try:
                        value, error = future.result()
                    except BrokenProcessPool:  # the process is dead
                        worker.restart()
                        if tries < TRIES:
                            running[worker.submit(attempt, work, item, trust_given())] = (worker, item, tries + 1)
                            continue
                        value, error = None, f"its worker died {tries} times"
                    idle.append(worker)
                    yield WorkResult(item, value, error)
        finally:
            for worker in workers:
                worker.end()
            for worker in workers:
                worker.join()


class _Worker:
    """One process, started with its first item; ``number`` chooses its GPU."""

    def __init__(self, context: BaseContext, number: int) -> None:
        self._context, self._number = context, number
        self._open()

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        try:
            return self._executor.submit(function, *arguments)
        except BrokenProcessPool:  # the process died after its last item
            self.restart()
            return self._executor.submit(function, *arguments)

    def restart(self) -> None:
        self.end()
        self.join()
        self._open()

    def end(self) -> None:
        """Ends the process at once, even in the middle of an item."""
        self._lifeline.close()

    def join(self) -> None:
        self._executor.shutdown()

    def _open(self) -> None:
        watched, self._lifeline = self._context.Pipe(duplex=False)
        self._executor = ProcessPoolExecutor(
            1, mp_context=self._context, initializer=_prepare, initargs=(self._number, watched)
        )


def _prepare(number: int, lifeline: Connection) -> None:
    """The first call in a worker's process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the study as well, which ends its workers
    signal.signal(signal.SIGTERM, lambda *_: os._exit(TERMINATED))  # Lightning would call the job a failure
    threading.Thread(target=_end_with_study, args=(lifeline,), daemon=True).start()
    _choose_gpu(number)


def _end_with_study(lifeline: Connection) -> None:
    """Ends this process when the study closes its side of the pipe, or dies: a study that was killed and is started
    again must not find workers of the first one, still writing into its folders."""
    wait_for_connections([lifeline])
    os._exit(1)


def _choose_gpu(number: int) -> None:
    """Leaves this process one of the GPUs that it can see, taken in turn."""
    import torch

    if count := torch.cuda.device_count():
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        gpus = visible.split(",") if visible else [str(gpu) for gpu in range(count)]
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[number % count]

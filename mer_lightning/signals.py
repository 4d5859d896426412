"""What ends a command from outside: Ctrl-C, and SIGTERM, which SLURM and `kill` send."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED, TERMINATED = 130, 143  # exit codes: 128 and the number of the signal
_LONGEST = 20.0  # seconds that a command may take to end; files are written whole, so that it may end anywhere

_last_word: threading.Timer | None = None


class Terminated(BaseException):
    """SIGTERM has come. It is no error: nothing that handles errors may go on after it."""


@contextmanager
def ending_on_signals() -> Iterator[None]:
    """Inside, SIGTERM raises Terminated, wherever the program is: files are put in order, and children ended."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        if _last_word is not None:
            _last_word.cancel()
        for number, handler in before.items():  # Lightning ignores Ctrl-C after the first one, for good
            signal.signal(number, handler)


def terminate(number: int, frame: FrameType | None) -> None:
    """The handler of SIGTERM. Python swallows what is raised while it collects garbage; then the timer ends it all."""
    global _last_word
    if _last_word is not None and _last_word.is_alive():
        return  # a second signal must not end the ending
    _last_word = threading.Timer(_LONGEST, os._exit, [TERMINATED])
    _last_word.daemon = True
    _last_word.start()
    raise Terminated


def code_of_signal(error: BaseException | None) -> int | None:
    """The exit code of a command that a signal ended, whatever became of its exception on the way; None: no signal."""
    while error is not None:
        if isinstance(error, Terminated):
            return TERMINATED
        if isinstance(error, KeyboardInterrupt):
            return INTERRUPTED
        error = error.__cause__ or error.__context__
    return None

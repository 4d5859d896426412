"""Processes that are forked from one that has imported what commands import: each of them starts in a moment."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
from collections.abc import Iterator
from multiprocessing import forkserver

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.faults.imported"])

_PR_SET_CHILD_SUBREAPER = 36  # of sys/prctl.h


@contextlib.contextmanager
def all_counted() -> Iterator[None]:
    """At the end, the CPU time of all processes that were forked inside is that of children of this one.

    Workers whose command was killed become its children at once, the others when the process ends that forks them.
    """
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    try:
        yield
    finally:
        forkserver._forkserver._stop()  # type: ignore[attr-defined]
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 0)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass

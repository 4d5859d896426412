"""One command at a time in a folder: a second one is refused, and a lock that nobody holds any more is taken."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from mer_lightning.errors import Refusal

LOCK = ".lock"
# Children of a command that was killed may live on for a moment, and hold what it held.
_PATIENCE = 3.0  # seconds


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the folder's lock. The system gives it back when the process ends, however it ends.

    Where the file system knows no locks, nothing is held, and nothing refused.
    """
    path = folder / LOCK
    file = _taken(path)
    try:
        yield
    finally:
        if file is not None:
            path.unlink(missing_ok=True)
            file.close()


def _taken(path: Path) -> TextIO | None:
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            file = path.open("a+", encoding="utf-8")
        except OSError as error:
            found = error.strerror or type(error).__name__
            raise Refusal(path.parent, "a folder that can be written to", found, "choose another one") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read(200).strip() or "another command"
            file.close()
            if time.monotonic() > deadline:
                remedy = "wait until it is over, or choose another folder"
                raise Refusal(path.parent, "a folder that no other command works in", holder, remedy) from None
            time.sleep(0.1)
            continue
        except OSError:
            file.close()
            return None
        if _is_still(path, file):
            file.truncate(0)
            file.write(f"process {os.getpid()} on {platform.node()}\n")
            file.flush()
            return file
        file.close()  # its holder has removed it just now


def _is_still(path: Path, file: TextIO) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False

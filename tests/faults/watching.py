"""What happens while a command reads a file: whether it ends in time, with a code or one line, and what it touches."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mer_lightning.errors import refusal_behind

SECONDS, PATIENCE = 5.0, 30  # more is a hang; after so many it is ended
_RUNS = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "subprocess.Popen", "socket.connect", "pty.spawn")
_WRITES = {"open": 0, "os.mkdir": 0, "os.remove": 0, "os.rmdir": 0, "os.rename": 1, "os.link": 1, "os.symlink": 1}
_CODES = (0, 2, 3)  # done, refused, and diverged: weights can be damaged to numbers that are none
_GIT = "git"  # a run records the state of the sources


@dataclass
class Watch:
    """What the interpreter did, as its audit hook tells."""

    allowed: Path
    active: bool = False
    ran: list[str] = field(default_factory=list)
    wrote: list[str] = field(default_factory=list)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.active:
            return
        if event in _RUNS and str(arguments[0]) != _GIT:
            self.ran.append(f"{event} {arguments[0]!r}")
        elif event in _WRITES and self._outside(event, arguments):
            self.wrote.append(str(arguments[_WRITES[event]]))

    def _outside(self, event: str, arguments: tuple[Any, ...]) -> bool:
        path = arguments[_WRITES[event]]
        if not isinstance(path, (str, bytes)):  # a file that is open
            return False
        if event == "open" and not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return False
        place = Path(os.path.abspath(os.fsdecode(path)))
        return (
            not place.is_relative_to(self.allowed) and place != Path(os.devnull) and not place.is_relative_to("/proc")
        )


@dataclass(frozen=True)
class Outcome:
    """Of one input; everything but the code is False or empty where it was survived."""

    code: int  # of the command
    executed: bool
    traceback: str
    hang: bool
    memory: bool
    outside: bool
    found: str  # the refusal, or what went wrong, for people

    @property
    def survived(self) -> bool:
        return not (self.executed or self.traceback or self.hang or self.memory or self.outside)


class _Patience(BaseException):
    """No command may catch it."""


def observed(action: Callable[[], Any], watch: Watch, canary: Path, size: int) -> Outcome:
    """What ``action`` does with an input of ``size`` bytes."""
    watch.ran, watch.wrote = [], []
    before, began, cpu = _peak_bytes(reset=True), time.monotonic(), time.process_time()
    error, code, printed = "", 0, io.StringIO()
    previous = signal.signal(signal.SIGALRM, _out_of_patience)
    signal.alarm(PATIENCE)
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed), _watching(watch):
            try:
                code = action() or 0
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 0
            except _Patience:
                error = ""
            except BaseException as caught:
                if refusal_behind(caught) is None:
                    error = "".join(traceback.format_exception(caught))
                else:
                    code = 2
                    printed.write(str(refusal_behind(caught)))
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
    wall, used = time.monotonic() - began, time.process_time() - cpu
    grown = _peak_bytes() - before
    if code not in _CODES and not error:
        error = f"exit code {code}: {printed.getvalue()[-1000:]}"
    return Outcome(
        code=code,
        executed=canary.exists() or bool(watch.ran),
        traceback=error,
        hang=used > SECONDS or wall > PATIENCE - 1,
        memory=grown > 4 * size + 200 * 2**20,
        outside=bool(watch.wrote),
        found=f"{'; '.join([*watch.ran, *watch.wrote])} {used:.1f} s, {grown >> 20} MB {printed.getvalue()[-400:]}",
    )


@contextlib.contextmanager
def _watching(watch: Watch) -> Iterator[None]:
    watch.active = True
    try:
        yield
    finally:
        watch.active = False


def _out_of_patience(*_: object) -> None:
    raise _Patience


def _peak_bytes(reset: bool = False) -> int:
    """The most memory that this process had since the last reset; the memory that it has now, after one."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def watch_writes_outside(allowed: Path) -> Watch:
    watch = Watch(allowed)
    sys.addaudithook(watch)
    return watch

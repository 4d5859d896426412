"""What a part of the suite cost: minutes of the clock, and CPU minutes, which do not depend on other work beside it."""

from __future__ import annotations

import resource
import time


class Costs:
    """From now on; of other processes, those that have ended."""

    def __init__(self) -> None:
        self._began = _now()

    def __str__(self) -> str:
        minutes, cpu = ((now - before) / 60 for now, before in zip(_now(), self._began, strict=True))
        return f"{minutes:.0f} minutes ({cpu:.0f} CPU minutes)"


def _now() -> tuple[float, float]:
    return time.monotonic(), _cpu_seconds()


def _cpu_seconds() -> float:
    used = (resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)

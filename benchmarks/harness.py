"""Two things measured side by side: in turn, A B A B, on one thread, so that both meet the same noise."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """A ratio, and what a reader needs to trust it: medians, the spread of the ratio over rounds, CPU beside wall."""

    name: str
    slow: str  # what is divided
    fast: str  # by what
    slow_seconds: float
    fast_seconds: float
    ratio: float
    low: float
    high: float
    cpu_ratio: float
    wanted: str
    note: str = ""


def side_by_side(
    name: str,
    slow: tuple[str, Callable[[], object]],
    fast: tuple[str, Callable[[], object]],
    wanted: str,
    rounds: int = 7,
    warm_up: int = 1,
    note: str = "",
) -> Row:
    """How many times longer ``slow`` takes than ``fast``: the median over rounds of paired ratios.

    A call that does its work in another process returns its own (wall, CPU) seconds.
    """
    for _ in range(warm_up):
        slow[1]()
        fast[1]()
    walls: list[tuple[float, float]] = []
    cpus: list[tuple[float, float]] = []
    for _ in range(rounds):
        wall, cpu = zip(*(_timed(each[1]) for each in (slow, fast)), strict=True)
        walls.append(wall)
        cpus.append(cpu)
    ratios = sorted(a / b for a, b in walls)
    quarter = len(ratios) // 4
    return Row(
        name,
        slow[0],
        fast[0],
        statistics.median(a for a, _ in walls),
        statistics.median(b for _, b in walls),
        statistics.median(ratios),
        ratios[quarter],
        ratios[-1 - quarter],
        statistics.median(a / max(b, 1e-9) for a, b in cpus),
        wanted,
        note,
    )


def _timed(call: Callable[[], object]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    match call():
        case (float(own_wall), float(own_cpu)):
            return own_wall, own_cpu
    return time.perf_counter() - wall, time.process_time() - cpu

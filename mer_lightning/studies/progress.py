"""How far a study is: a live table on a terminal, a line for each finished run elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


@dataclass
class _Group:
    waiting: int = 0
    running: int = 0
    done: int = 0
    failed: int = 0
    best: str = ""


@dataclass
class Progress:
    """Counts per group of runs; ``groups`` holds the group of every run."""

    console: Console
    groups: Sequence[str]
    _table: dict[str, _Group] = field(default_factory=dict)
    _began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        from rich.live import Live

        for group in self.groups:
            self._table.setdefault(group, _Group()).waiting += 1
        self._live = Live(self._shown(), console=self.console, transient=True, refresh_per_second=4)

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def skipped(self, group: str, run: Path) -> None:
        self._table[group].waiting -= 1
        self._finished(group, run)

    def started(self, group: str) -> None:
        self._table[group].waiting -= 1
        self._table[group].running += 1
        self._live.update(self._shown())

    def ended(self, group: str, label: str, seconds: float, run: Path) -> None:
        self._table[group].running -= 1
        self._finished(group, run)
        self._line(f"{label}: {seconds:.0f} s")

    def failed(self, group: str, label: str, error: str) -> None:
        self._table[group].running -= 1
        self._table[group].failed += 1
        self._line(f"[red]{label} failed[/]: {error.strip().splitlines()[-1]}")

    def _finished(self, group: str, run: Path) -> None:
        entry = self._table[group]
        entry.done += 1
        entry.best = _better(entry.best, run)
        self._live.update(self._shown())

    def _line(self, text: str) -> None:
        over = sum(entry.done + entry.failed for entry in self._table.values())
        self.console.print(f"[{over}/{len(self.groups)}] {text}", highlight=False)
        self._live.update(self._shown())

    def _shown(self) -> Table:
        from rich import box
        from rich.table import Table

        minutes = (time.monotonic() - self._began) / 60
        shown = Table(box=box.SIMPLE, padding=(0, 1), title=f"{minutes:.0f} min", title_justify="left")
        for column in ("", "done", "running", "waiting", "best on validation"):
            shown.add_column(column, justify="left" if column == "" else "right")
        for group, entry in self._table.items():
            done = f"{entry.done}" + (f" [red]({entry.failed} failed)[/]" if entry.failed else "")
            shown.add_row(group, done, str(entry.running or ""), str(entry.waiting or ""), entry.best)
        return shown


def _better(best: str, run: Path) -> str:
    """The higher of two validation scores; every phase's is higher where better."""
    import json

    from mer_lightning.training.run_folder import PHASES

    path = run / PHASES
    if not path.is_file():
        return best
    score = list(json.loads(path.read_text()).values())[-1]["score"]
    if score is None or (best and float(best) >= score):
        return best
    return f"{score:.4f}"

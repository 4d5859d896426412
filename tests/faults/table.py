"""docs/reliability.md: what was tried, how often, and what was survived. Only `make test-faults` writes it.

A part of the suite (damaged files, killed runs) writes its own rows, and leaves those of the others as they are.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
_BEGIN, _END = "<!-- rows of {part}, written by make test-faults -->", "<!-- end of {part} -->"


@dataclass(frozen=True)
class Row:
    """One kind of fault. ``failures``: {what went wrong: how often}, with the same keys in all rows of a part."""

    fault: str
    tried: int
    survived: int
    failures: dict[str, int]

    def line(self) -> str:
        cells = [self.fault, f"{self.tried:,}", f"{self.survived:,}", *map(str, self.failures.values())]
        return f"| {' | '.join(cells)} |"


def write_rows(part: str, rows: Iterable[Row], remark: str) -> None:
    """Replace what stands between the marks of ``part``; the page has to have them."""
    rows = list(rows)
    columns = list(rows[0].failures)
    total = {column: sum(row.failures[column] for row in rows) for column in columns}
    everything = Row("**all**", sum(row.tried for row in rows), sum(row.survived for row in rows), total)
    titles = ["fault", "tried", "survived", *columns]
    head = f"| {' | '.join(titles)} |\n|{' --- |' + ' ---: |' * (len(titles) - 1)}"
    begin, end = _BEGIN.format(part=part), _END.format(part=part)
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(begin)
    _, mark, after = rest.partition(end)
    if not mark:
        raise ValueError(f"{PAGE} has no marks of {part}")
    table = "\n".join([head, *(row.line() for row in [*rows, everything])])
    PAGE.write_text(f"{before}{begin}\n{remark}\n\n{table}\n{end}{after}", encoding="utf-8")

"""`mer-lightning published CORPUS`: results that papers report, table by table, each with its source."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING

from mer_lightning import output
from mer_lightning.errors import Refusal, did_you_mean
from mer_lightning.published.rows import Published, published

if TYPE_CHECKING:
    from rich.console import Console


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mer-lightning published", description=__doc__)
    parser.add_argument("corpus", help="e.g. mosei")
    parser.add_argument("--protocol", default=None, help="e.g. fixed-7; default: all")
    return parser


def main(args: list[str]) -> int:
    given = make_parser().parse_args(args)

    from rich.console import Console

    corpora = sorted({row.corpus for row in published()})
    if given.corpus not in corpora:
        remedy = did_you_mean(given.corpus, corpora, "choose one of them")
        raise Refusal("mer-lightning published", f"a corpus among {', '.join(corpora)}", f"'{given.corpus}'", remedy)
    rows = published(given.corpus, given.protocol)
    if not rows:
        known = sorted({row.protocol for row in published(given.corpus)})
        raise Refusal("--protocol", f"one of {', '.join(known)}", f"'{given.protocol}'", "choose one of them")

    def show() -> None:
        console = Console()
        for name in dict.fromkeys(row.table for row in rows):
            _print(console, [row for row in rows if row.table == name])
        console.print(
            "[dim]Tables differ in features, protocol and rules of selection: no row of one belongs in another.[/]"
        )

    output.give([asdict(row) for row in rows], show)
    return 0


def _print(console: Console, rows: list[Published]) -> None:
    """One table per metric with the conditions as columns, or one of all metrics where there is one condition."""
    first = rows[0]
    conditions, metrics = (list(dict.fromkeys(getattr(row, fact) for row in rows)) for fact in ("condition", "metric"))
    if len(conditions) == 1:
        cells = {(row.method, row.metric): row.value for row in rows}
        _print_table(console, f"{first.corpus}, {conditions[0]}", metrics, cells)
    else:
        for metric in metrics:
            cells = {(row.method, row.condition): row.value for row in rows if row.metric == metric}
            _print_table(console, f"{first.corpus}, {metric}", conditions, cells)
    sources = {row.method: row.source for row in rows}
    one = len(set(sources.values())) == 1
    source = first.source if one else "; ".join(f"{method}: {each}" for method, each in sources.items())
    facts = f"{source} [{first.evidence}]. Features {first.feature_set}; protocol {first.protocol}; {first.variant}; "
    console.print(f"{facts}selection {first.selection}. {first.note}\n", style="dim", markup=False)


def _print_table(console: Console, title: str, columns: list[str], cells: dict[tuple[str, str], float]) -> None:
    from rich import box
    from rich.table import Table

    shown = Table(box=box.SIMPLE, padding=0, pad_edge=False, title=title, title_justify="left")
    for column in ("", *columns):
        shown.add_column(column.removeprefix("rate-cpm-"), justify="right" if column else "left")
    for method in dict.fromkeys(method for method, _ in cells):
        values = [cells.get((method, column)) for column in columns]
        shown.add_row(method, *["" if value is None else f"{value:g}" for value in values])
    console.print(shown)

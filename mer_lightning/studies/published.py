"""`mer-lightning published CORPUS`: what papers say, table by table, each with its source."""

from __future__ import annotations

import argparse
import difflib

from mer_lightning.errors import Refusal
from mer_lightning.published.rows import Published, published


def main(args: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="mer-lightning published", description=__doc__)
    parser.add_argument("corpus", help="e.g. mosei")
    parser.add_argument("--protocol", default=None, help="e.g. fixed-7; default: all")
    given = parser.parse_args(args)

    from rich.console import Console

    corpora = sorted({row.corpus for row in published()})
    if given.corpus not in corpora:
        nearest = difflib.get_close_matches(given.corpus, corpora, n=1)
        remedy = f"did you mean {nearest[0]}?" if nearest else "choose one of them"
        raise Refusal("mer-lightning published", f"a corpus among {', '.join(corpora)}", f"'{given.corpus}'", remedy)
    rows = published(given.corpus, given.protocol)
    if not rows:
        known = sorted({row.protocol for row in published(given.corpus)})
        raise Refusal("--protocol", f"one of {', '.join(known)}", f"'{given.protocol}'", "choose one of them")
    console = Console()
    for name in dict.fromkeys(row.table for row in rows):
        _print(console, [row for row in rows if row.table == name])
    console.print(
        "[dim]Tables differ in features, protocol and rules of selection: no row of one belongs in another.[/]"
    )
    return 0


def _print(console: object, rows: list[Published]) -> None:
    from rich import box
    from rich.table import Table

    first = rows[0]
    conditions = list(dict.fromkeys(row.condition for row in rows))
    for metric in dict.fromkeys(row.metric for row in rows):
        here = {(row.method, row.condition): row.value for row in rows if row.metric == metric}
        shown = Table(
            box=box.SIMPLE, padding=0, pad_edge=False, title=f"{first.corpus}, {metric}", title_justify="left"
        )
        for column in ("", *[name.removeprefix("rate-cpm-") for name in conditions]):
            shown.add_column(column, justify="left" if not column else "right")
        for method in dict.fromkeys(row.method for row in rows):
            cells = [here.get((method, condition)) for condition in conditions]
            shown.add_row(method, *["" if value is None else f"{value:g}" for value in cells])
        console.print(shown)  # type: ignore[attr-defined]
    facts = (
        f"{first.source} [{first.evidence}]. Features {first.feature_set}; protocol {first.protocol}; {first.variant}; "
    )
    facts += f"selection {first.selection}. {first.note}"
    console.print(facts, style="dim", markup=False)  # type: ignore[attr-defined]
    console.print()  # type: ignore[attr-defined]

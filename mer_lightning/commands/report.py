"""`mer-lightning report RUNS...`: the results of some runs, as HTML, Markdown, LaTeX, CSV and one Parquet ledger."""

from __future__ import annotations

import argparse
from pathlib import Path

from mer_lightning import output

_BASELINE = "supervised"


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mer-lightning report", description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, help="folders with runs in or below them")
    parser.add_argument("--baseline", help=f"the method that the others are compared with; default: {_BASELINE}")
    parser.add_argument("--output", type=Path, default=Path("report"), help="folder to write")
    parser.add_argument("--by", metavar="COLUMN", help="scores of groups of samples, e.g. by speaker, and their gap")
    return parser


def main(args: list[str]) -> int:
    given = make_parser().parse_args(args)

    from rich.console import Console

    from mer_lightning.studies.report.files import write_report

    baseline = given.baseline or _BASELINE
    needed = given.baseline is not None
    written = write_report(given.runs, baseline, given.output, baseline_needed=needed, by=given.by)
    lines = "\n".join(str(path) for path in written)
    output.give({"files": written}, lambda: Console().print(lines, highlight=False))
    return 0

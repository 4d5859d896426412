"""`mer-lightning report RUNS...`: the results of some runs, as HTML, Markdown, LaTeX, CSV and one Parquet ledger."""

from __future__ import annotations

import argparse
from pathlib import Path


def main(args: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="mer-lightning report", description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, help="folders with runs in or below them")
    parser.add_argument("--baseline", default="supervised", help="the method that the others are compared with")
    parser.add_argument("--output", type=Path, default=Path("report"), help="folder to write")
    given = parser.parse_args(args)

    from rich.console import Console

    from mer_lightning.studies.report.files import write_report

    written = write_report(given.runs, given.baseline, given.output)
    Console().print("\n".join(str(path) for path in written), highlight=False)
    return 0

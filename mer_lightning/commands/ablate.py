"""`mer-lightning ablate FILE`: a method as it is, and without each of its parts, at the same budget."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mer_lightning import output
from mer_lightning.commands.studies import add_workers_option, run_in_folder
from mer_lightning.shipped import experiment_file
from mer_lightning.studies.ablation import differences, read_ablation
from mer_lightning.studies.folds import in_folds
from mer_lightning.whole_files import write_whole

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mer-lightning ablate",
        description=__doc__,
        epilog="Other options, such as --data.synthetic true, are given to every run.",
    )
    parser.add_argument("file", type=Path, help="an ablation file, or the name of one that is shipped: cdat, mgr, mcur")
    add_workers_option(parser)
    parser.add_argument("--runs", type=Path, default=Path("runs/ablations"), help="where runs are kept")
    return parser


def main(args: list[str]) -> int:
    given, more = make_parser().parse_known_args(args)

    from rich.console import Console

    console = Console()
    ablation = read_ablation(experiment_file(given.file, ("ablations",)))
    folder = given.runs / given.file.stem
    jobs = ablation.jobs(folder, more)
    if not run_in_folder(in_folds(jobs), folder, given.workers, console):
        return 1
    table = differences(jobs)
    path = folder / "differences.csv"
    write_whole(path, table.to_csv(index=False))

    def show() -> None:
        _print_differences(Console(), table, ablation.full.stem)
        Console().print(f"[dim]{path} has all of it[/]", highlight=False)

    output.give({"file": path, "differences": table}, show)
    return 0


def _print_differences(console: Console, differences: pd.DataFrame, experiment: str) -> None:
    """Differences that are significant after Holm's correction are bold."""
    from rich import box
    from rich.table import Table

    from mer_lightning.numerals import interval, number

    title = f"What each part of {experiment} gains, {differences['runs'].iloc[0]} runs each (higher is better)"
    table = Table(box=box.SIMPLE, padding=(0, 1), title=title, title_justify="left")
    for column in ("without", "under", "full", "ablated", "gain", "95 %", "p (Holm)"):
        table.add_column(column, justify="left" if column in ("without", "under") else "right")
    for _, row in differences.iterrows():
        table.add_row(
            row["without"],
            row["condition"],
            number(row["full"]),
            number(row["ablated"]),
            number(row["gain"], "+"),
            interval(row["low"], row["high"]),
            number(row["p_holm"]),
            style="bold" if row["p_holm"] < 0.05 else None,
        )
    console.print(table)
    console.print("[dim]paired bootstrap over test samples and seeds; one checkpoint per run, chosen on validation[/]")

"""`mer-lightning reproduce`: every experiment with several seeds, then a report.

Corpora that are not there are replaced by their synthetic twins, and every such row says so. A run that is done is not
made again, and one that was killed is resumed.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mer_lightning import output
from mer_lightning.commands.studies import CORES, run_in_folder
from mer_lightning.shipped import EXPERIMENTS, shipped
from mer_lightning.studies.folds import in_folds, parts_of
from mer_lightning.studies.jobs import Job
from mer_lightning.studies.reproduction import BUDGETS, Experiment, find_experiments, plan

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console
    from rich.table import Table

_CONTROL = "supervised"


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mer-lightning reproduce", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="experiments, as files or by their names (default: all)")
    parser.add_argument("--budget", choices=BUDGETS, default="quick")
    partition = "of every experiment; `all` for every fold, pooled"
    parser.add_argument("--data.partition", dest="partition", help=partition)
    parser.add_argument("--experiments", type=Path, help="their folder (default: ./experiments, or the shipped ones)")
    parser.add_argument("--runs", type=Path, default=Path("runs/reproduce"), help="where runs are kept")
    return parser


def main(args: list[str]) -> int:
    given = make_parser().parse_args(args)

    import pandas as pd
    from rich.console import Console

    from mer_lightning.studies.report.files import DIFFERENCES, SCORES, write_report

    console = Console()
    here = Path(EXPERIMENTS)
    folder = given.experiments or (here if here.is_dir() else shipped(EXPERIMENTS))
    experiments = find_experiments(given.names, folder, given.budget)
    jobs = plan(experiments, given.budget, given.runs, given.partition)
    studies = in_folds(jobs)
    _announce(console, experiments, parts_of(studies), BUDGETS[given.budget].seconds)
    good = run_in_folder(studies, given.runs / given.budget, CORES, console)
    if done := [job for job in jobs if job.done]:
        report = given.runs / given.budget / "report"
        write_report([job.folder for job in done], _CONTROL, report)

        def show() -> None:
            _print_summary(Console(), report)
            Console().print(f"\nreport: {report / 'report.html'}", highlight=False)

        scores, differences = (pd.read_csv(report / name) for name in (SCORES, DIFFERENCES))
        output.give({"report": report / "report.html", "scores": scores, "differences": differences}, show)
    return 0 if good else 1


def _announce(console: Console, experiments: list[Experiment], jobs: list[Job], seconds_each: float) -> None:
    done = sum(job.done for job in jobs)
    minutes = (len(jobs) - done) * seconds_each / 60 / CORES
    console.print(f"{len(jobs)} runs, {done} done, about {minutes:.0f} min for the others on this machine")
    twins = sorted({experiment.path.stem for experiment in experiments if experiment.synthetic})
    if twins:
        console.print(
            f"[yellow]synthetic twins[/] stand in for the data of {', '.join(twins)}: their corpora are not here"
        )


def _print_summary(console: Console, report: Path) -> None:
    """One table for each corpus: every method on complete input and over all combinations, beside the control."""
    import pandas as pd

    from mer_lightning.studies.report.files import DIFFERENCES, SCORES

    scores, tests = pd.read_csv(report / SCORES), pd.read_csv(report / DIFFERENCES)
    for setting, rows in scores.groupby("setting", sort=False):
        first = rows[rows["metric"] == rows["metric"].iloc[0]]  # the one that selects checkpoints
        console.print(_summary(str(setting), first, tests[tests["setting"] == setting]))


def _summary(title: str, scores: pd.DataFrame, tests: pd.DataFrame) -> Table:
    from rich import box
    from rich.table import Table

    from mer_lightning.modalities import complete_among
    from mer_lightning.numerals import interval, number, spread
    from mer_lightning.studies.report.tables import REFERENCES

    there = list(scores["condition"].unique())
    complete = complete_among(there) or there[0]
    conditions = [complete, *[name for name in there if name.startswith("mean-")][:1]]
    table = Table(box=box.SIMPLE, padding=0, pad_edge=False, title=f"\n{title}", title_justify="left")
    table.add_column(f"{scores['metric'].iloc[0]}, mean±deviation", no_wrap=True)
    for condition in conditions:
        table.add_column(condition, justify="right")
        if len(tests):
            table.add_column(f"gain over {_CONTROL}", justify="right")
    cells = {(row["label"], row["condition"]): row for row in scores.to_dict("records")}
    gains = {(row["label"], row["condition"]): row for row in tests.to_dict("records")}

    def gain(label: str, condition: str) -> str:
        test = gains.get((label, condition))
        return f"{number(test['difference'], '+')} {interval(test['low'], test['high'])}" if test else ""

    for label in dict.fromkeys(scores["label"]):
        row = [label]
        for condition in conditions:
            cell = cells[label, condition]
            row += [spread(cell["mean"], cell["std"]), *([gain(label, condition)] if len(tests) else [])]
        table.add_row(*row)
    table.add_section()
    first = scores.groupby("condition", sort=False).first()
    for name, column in REFERENCES.items():
        if first[column].notna().any():
            values = [number(first[column].get(condition)) for condition in conditions]
            table.add_row(name, *[text for value in values for text in ([value, ""] if len(tests) else [value])])
    return table

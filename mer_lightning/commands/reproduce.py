"""`mer-lightning reproduce`: every experiment with several seeds, then a report.

Corpora that are not there are replaced by their synthetic twins, and every such row says so. A run that is done is not
made again, and one that was killed is resumed.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mer_lightning.commands.studies import CORES, StudyProgress, study_folder
from mer_lightning.studies.folds import in_folds
from mer_lightning.studies.jobs import Job, by_group
from mer_lightning.studies.reproduction import BUDGETS, Experiment, find_experiments, plan
from mer_lightning.studies.runner import run_study

if TYPE_CHECKING:
    from rich.console import Console


def main(args: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="mer-lightning reproduce", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="experiments, as files or by their names (default: all)")
    parser.add_argument("--budget", choices=BUDGETS, default="quick")
    partition = "of every experiment; `all` for every fold, pooled"
    parser.add_argument("--data.partition", dest="partition", help=partition)
    parser.add_argument("--experiments", type=Path, default=Path("experiments"), help="folder of the experiments")
    parser.add_argument("--runs", type=Path, default=Path("runs/reproduce"), help="where runs are kept")
    given = parser.parse_args(args)

    from rich.console import Console

    from mer_lightning.studies.pool import ProcessPool
    from mer_lightning.studies.pooled_folds import pool_done
    from mer_lightning.studies.report.files import write_report

    console = Console()
    experiments = find_experiments(given.names, given.experiments, given.budget)
    jobs = plan(experiments, given.budget, given.runs, given.partition)
    studies = in_folds(jobs)
    parts = [part for study in studies for part in study.parts]
    _announce(console, experiments, parts, BUDGETS[given.budget].seconds)
    with study_folder(given.runs / given.budget), StudyProgress(console, parts) as progress:
        failed = run_study(parts, ProcessPool(CORES), progress)
        pool_done(studies)
    done = [job for job in jobs if job.done]
    _print_results(console, done)
    if done:
        output = given.runs / given.budget / "report"
        write_report([job.folder for job in done], "supervised", output)
        console.print(f"\nreport: {output / 'report.html'}", highlight=False)
    return 1 if failed else 0


def _announce(console: Console, experiments: list[Experiment], jobs: list[Job], seconds_each: float) -> None:
    done = sum(job.done for job in jobs)
    minutes = (len(jobs) - done) * seconds_each / 60 / CORES
    console.print(f"{len(jobs)} runs, {done} done, about {minutes:.0f} min for the others on this machine")
    twins = sorted({experiment.path.stem for experiment in experiments if experiment.synthetic})
    if twins:
        console.print(
            f"[yellow]synthetic twins[/] stand in for the data of {', '.join(twins)}: their corpora are not here"
        )


def _print_results(console: Console, jobs: list[Job]) -> None:
    """A table for each experiment: mean and deviation over its seeds."""
    import pandas as pd

    from mer_lightning.data.corpus import card_in
    from mer_lightning.evaluation.results import table
    from mer_lightning.studies.finished import read_results
    from mer_lightning.tasks import task_from_card
    from mer_lightning.training.run_folder import CORPUS

    for group, same in by_group(jobs).items():
        card = card_in(same[0].run_folder / CORPUS)
        rows = pd.concat([read_results(job.run_folder).to_pandas() for job in same], ignore_index=True)
        title = f"{card.label}: {group}, {len(same)} seeds, mean ± deviation"
        console.print()
        console.print(table(rows, task_from_card(card.task), title))

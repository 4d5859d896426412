"""`mer-lightning fit`: one fit on Lightning's command line; with several partitions, a study of their folds.

`--data.partition all` fits every fold of a corpus, `--data.partition fold-1,fold-3` some. The same command goes on
where it was ended.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from mer_lightning import output
from mer_lightning.shipped import configuration
from mer_lightning.studies.folds import in_folds, several_partitions
from mer_lightning.studies.jobs import Job

if TYPE_CHECKING:
    import pandas as pd

    from mer_lightning.studies.finished import Run


def main(args: list[str]) -> int:
    if not several_partitions(args):
        from mer_lightning.training.starting import run

        run(["fit", *args])
        return 0

    from rich.console import Console

    from mer_lightning.commands.studies import add_workers_option, run_in_folder
    from mer_lightning.studies.finished import run_in

    parser = argparse.ArgumentParser(prog="mer-lightning fit", allow_abbrev=False)
    parser.add_argument("--run_dir", type=Path)
    parser.add_argument("--name")
    parser.add_argument("--config", "-c", action="append", default=[])
    add_workers_option(parser)
    given, rest = parser.parse_known_args(args)
    arguments = (*(word for text in given.config for word in ("--config", text)), *rest)
    files = tuple(filter(None, map(configuration, given.config)))
    name = given.name or (files[0].stem if files else "fit")
    # The same command finds its folder again.
    identity = hashlib.sha256("\n".join(arguments).encode()).hexdigest()[:8]
    folder = given.run_dir or Path("runs") / f"{name}-folds" / identity
    study = in_folds([Job(folder, arguments, files, folder.name)])
    console = Console()
    if not run_in_folder(study, folder, given.workers, console):
        return 1
    pooled = run_in(study[0].job.run_folder)
    rows = pooled.results()
    output.give({"run": pooled.folder, "results": rows}, lambda: _show(pooled, rows))
    return 0


def _show(run: Run, rows: pd.DataFrame) -> None:
    from rich.console import Console

    from mer_lightning.evaluation.results import table, title_of

    console = Console()
    console.print(table(rows, run.task, title_of(rows)))
    console.print(f"[dim]{run.folder}: pooled results and predictions[/]", highlight=False)

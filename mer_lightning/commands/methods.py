"""`mer-lightning methods`: every method there is, what it does, and the experiments that use it."""

from __future__ import annotations

import argparse

from mer_lightning import output
from mer_lightning.shipped import EXPERIMENTS, shipped


def make_parser() -> argparse.ArgumentParser:
    return argparse.ArgumentParser(prog="mer-lightning methods", description=__doc__)


def main(args: list[str]) -> int:
    make_parser().parse_args(args)

    from mer_lightning.discovery import first_line
    from mer_lightning.methods.places import PLACES

    files = sorted(path.stem for path in shipped(EXPERIMENTS).glob("*.yaml"))
    rows = [
        {
            "name": name,
            "what": first_line(path),
            "experiments": [file for file in files if file.startswith(f"{name}_")],
        }
        for name, path in PLACES["model",].classes().items()
    ]

    def show() -> None:
        from rich import box
        from rich.console import Console
        from rich.table import Table

        table = Table(box=box.SIMPLE, padding=(0, 1))
        table.add_column("name", no_wrap=True)
        table.add_column("what it does")
        table.add_column("fit --config")
        for row in rows:
            table.add_row(str(row["name"]), str(row["what"]), ", ".join(row["experiments"]))
        Console().print(table)

    output.give(rows, show)
    return 0

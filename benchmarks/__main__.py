"""`make bench`: every row, on one thread, as a table here and in benchmarks/RESULTS.md."""

from __future__ import annotations

import platform
from itertools import chain
from pathlib import Path

import torch

from benchmarks.evaluation import evaluation_rows
from benchmarks.harness import Row
from benchmarks.training import cdat_rows, mmsa_rows, study_row

HEAD = (
    "| row | ratio | quartiles | CPU | wanted | what against what | seconds | note |\n|---|---|---|---|---|---|---|---|"
)


def line(row: Row) -> str:
    return (
        f"| {row.name} | **{row.ratio:.2f}** | {row.low:.2f} to {row.high:.2f} | {row.cpu_ratio:.2f} | {row.wanted} | "
        f"{row.slow} / {row.fast} | {row.slow_seconds:.3f} / {row.fast_seconds:.3f} | {row.note} |"
    )


def main() -> None:
    torch.set_num_threads(1)
    rows = []
    print(HEAD)
    for row in chain(cdat_rows(), mmsa_rows(), evaluation_rows(), study_row()):
        rows.append(row)
        print(line(row), flush=True)
    said = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}"
    text = (
        "# Benchmarks\n\n"
        "Made by `make bench`. Ratios of two things measured in turn in one run: medians over rounds, and the\n"
        f"quartiles of the paired ratios. {said}, one thread.\n"
        "On a shared machine a ratio under 1.4 may be noise.\n\n"
    )
    Path(__file__).with_name("RESULTS.md").write_text(text + "\n".join([HEAD, *map(line, rows)]) + "\n")


if __name__ == "__main__":
    main()

"""`make bench`: every row, on one thread, as a table here and in benchmarks/RESULTS.md.

`python -m benchmarks cdat memory` prints the rows of these groups and writes nothing. For `python -m benchmarks scale`
see benchmarks/scale.py, for `python -m benchmarks gpu` benchmarks/gpu.py.
"""

from __future__ import annotations

import argparse
import platform
import sys
import warnings
from pathlib import Path

import torch

from benchmarks import gpu, scale
from benchmarks.evaluation import evaluation_rows
from benchmarks.harness import Row
from benchmarks.limits import limit_rows
from benchmarks.memory import memory_rows
from benchmarks.peers import peer_rows, precision_rows, recipe_rows
from benchmarks.training import attention_rows, cdat_rows, study_row
from mer_lightning.training.machine import make_ready

GROUPS = {
    "peers": peer_rows,
    "recipes": recipe_rows,
    "precision": precision_rows,
    "limits": limit_rows,
    "attention": attention_rows,
    "cdat": cdat_rows,
    "evaluation": evaluation_rows,
    "study": study_row,
    "memory": memory_rows,
}
HEAD = "| row | ratio | quartiles | CPU | wanted | what against what | seconds (GiB) | note |\n" + 8 * "|---" + "|"


def line(row: Row) -> str:
    return (
        f"| {row.name} | **{row.ratio:.2f}** | {row.low:.2f} to {row.high:.2f} | {row.cpu_ratio:.2f} | {row.wanted} | "
        f"{row.slow} / {row.fast} | {row.slow_seconds:.3f} / {row.fast_seconds:.3f} | {row.note} |"
    )


def main() -> None:
    if sys.argv[1:2] == ["scale"]:
        scale.main(sys.argv[2:])
        return
    if sys.argv[1:] == ["gpu"]:
        sys.exit(gpu.main())
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("groups", nargs="*", help=f"of rows, among {', '.join(GROUPS)}; all are written to RESULTS.md")
    asked = parser.parse_args().groups
    if unknown := set(asked) - set(GROUPS):
        parser.error(f"no group {', '.join(unknown)} among {', '.join(GROUPS)}")
    torch.set_num_threads(1)
    make_ready()  # as every command does
    warnings.simplefilter("ignore")
    rows = []
    print(HEAD)
    for group in asked or GROUPS:
        for row in GROUPS[group]():
            rows.append(row)
            print(line(row), flush=True)
    if asked:
        return
    said = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}"
    text = (
        "# Benchmarks\n\n"
        "Made by `make bench`. Ratios of two things measured in turn in one run: medians over rounds, and the\n"
        f"quartiles of the paired ratios. {said}, one thread.\n"
        "On a shared machine a ratio under 1.4 may be noise.\n\n"
        "MMSA is the PyPI package 2.2.1: its own data set, model and trainer, patched from outside as\n"
        "benchmarks/epochs.py says. Both sides compute in float32 and call `make_ready` of training/machine.py: where\n"
        "oneDNN's products are precise enough, both use them, and both keep freed memory. Rates of dropout are the\n"
        "same, except on text in MMSA's TFN and LMF, which drop nothing there whatever their configuration says.\n"
        "Each side answers for an epoch of training, validation and a checkpoint.\n\n"
    )
    Path(__file__).with_name("RESULTS.md").write_text(text + "\n".join([HEAD, *map(line, rows)]) + "\n")


if __name__ == "__main__":
    main()

"""`make test-faults`: damaged and hostile files, and commands that are ended; writes the table of docs/reliability.md.

At least 10,000 files are read by the commands that read such files; two processes share them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.faults.costs import Costs
from tests.faults.forking import all_counted
from tests.faults.table import Row, write_rows


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=10_000, help="in all, at least")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--part", choices=("files", "ends", "both"), default="both")
    parser.add_argument("--only", default="", help="targets that have this in their name; the table is not written")
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    survived = [files(given) if given.part != "ends" else True, ends(given.seed) if given.part != "files" else True]
    return 0 if all(survived) else 1


def ends(seed: int) -> bool:
    """Whether all commands that were ended at a random moment were as good as new after another start."""
    from tests.faults.ends import tallies

    costs = Costs()
    with tempfile.TemporaryDirectory() as folder, all_counted():
        found, fresh = tallies(Path(folder), seed)
    rows = [Row(tally.fault, tally.tried, tally.survived, {}) for tally in found]
    write_rows("ends", rows, f"Seed {seed}, in {costs}. {fresh} of the commands were started as a person starts them.")
    return all(row.survived == row.tried for row in rows)


def files(given: argparse.Namespace) -> bool:
    """Whether all damaged files were survived."""
    from tests.faults.files import row
    from tests.faults.suite import TARGETS

    costs = Costs()
    shares = sum(target.share for target in TARGETS)
    asked = [
        (target.name, -(-given.inputs * target.share // shares), given.seed)
        for target in TARGETS
        if given.only in target.name
    ]
    with all_counted(), ThreadPoolExecutor(given.processes) as pool:
        rows = list(pool.map(row, asked))
    tried, survived = sum(each.tried for each in rows), sum(each.survived for each in rows)
    print(f"{survived} of {tried} survived, in {costs}")
    if not given.only:
        remark = (
            f"{tried:,} inputs, seed {given.seed}, in {costs} by {given.processes} processes. Memory: "
            "more than 4 times the files and 200 MB."
        )
        write_rows("damaged files", rows, remark)
    return survived == tried


if __name__ == "__main__":
    sys.exit(main())

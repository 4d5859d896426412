"""`make test-faults`: damaged and hostile files, and commands that are ended; writes the table of docs/reliability.md.

At least 10,000 files are read by the commands that read such files. Two processes share them. One that dies is started
again behind the input at which it died, which counts as a traceback.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.faults.table import Row, write_rows

WRONG = {
    "executed": "executed",
    "traceback": "tracebacks",
    "hang": "hangs over 5 s",
    "memory": "memory",
    "outside": "written outside",
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=10_000, help="in all, at least")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--part", choices=("files", "ends", "both"), default="both")
    parser.add_argument("--only", default="", help="targets that have this in their name; the table is not written")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--work", nargs=3, metavar=("TARGET", "FIRST", "COUNT"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        work(given.work[0], int(given.work[1]), int(given.work[2]), given.seed)
        return 0
    survived = [files(given) if given.part != "ends" else True, ends(given.seed) if given.part != "files" else True]
    return 0 if all(survived) else 1


def ends(seed: int) -> bool:
    """Whether all commands that were ended at a random moment were as good as new after another start."""
    from tests.faults.ends import tallies

    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        rows = [Row(tally.fault, tally.tried, tally.survived, {}) for tally in tallies(Path(folder), seed)]
    write_rows("ends", rows, f"Seed {seed}, in {(time.monotonic() - began) / 60:.0f} minutes.")
    return all(row.survived == row.tried for row in rows)


def files(given: argparse.Namespace) -> bool:
    """Whether all damaged files were survived."""
    from tests.faults.suite import TARGETS

    began = time.monotonic()
    shares = sum(target.share for target in TARGETS)
    asked = [
        (target.name, -(-given.inputs * target.share // shares), given.seed)
        for target in TARGETS
        if given.only in target.name
    ]
    with ThreadPoolExecutor(given.processes) as pool:
        rows = list(pool.map(_row, asked))
    minutes = (time.monotonic() - began) / 60
    tried, survived = sum(row.tried for row in rows), sum(row.survived for row in rows)
    print(f"{survived} of {tried} survived, in {minutes:.0f} min")
    if not given.only:
        remark = (
            f"{tried:,} inputs, seed {given.seed}, in {minutes:.0f} minutes by {given.processes} processes. Memory: "
            "more than 4 times the files and 200 MB."
        )
        write_rows("damaged files", rows, remark)
    return survived == tried


def work(name: str, first: int, count: int, seed: int) -> None:
    """Print one line of JSON for each input."""
    from tests.faults.suite import TARGETS, Bench
    from tests.faults.watching import watch_writes_outside

    target = next(each for each in TARGETS if each.name == name)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), [target.sample], watch_writes_outside(Path(folder)), seed)
        whole = bench.control(target)  # also imports what is imported only once
        if whole.code or whole.traceback:
            raise RuntimeError(f"the whole sample of {name} is not read: {whole}")
        for number in range(first, count):
            mutation, outcome = bench.result(target, number)
            line = json.dumps({"number": number, "mutation": mutation, **asdict(outcome)})
            print(line, file=sys.__stdout__, flush=True)


def _row(asked: tuple[str, int, int]) -> Row:
    name, count, seed = asked
    results: list[dict[str, Any]] = []
    while len(results) < count:
        part = ["--work", name, str(len(results)), str(count), "--seed", str(seed)]
        command = [sys.executable, "-m", "tests.faults", *part]
        process = subprocess.run(command, capture_output=True, text=True, check=False)
        lines = [json.loads(line) for line in process.stdout.splitlines() if line.startswith('{"number"')]
        results += lines
        if len(results) < count:
            died = {"number": len(results), "mutation": "?", "traceback": f"died: {process.stderr[-2000:]}"}
            results.append(dict.fromkeys(WRONG, False) | died)
            if not lines and len(results) > 3:
                raise RuntimeError(process.stderr)
    wrong: Counter[str] = Counter()
    for result in results:
        found = [what for what in WRONG if result[what]]
        wrong.update(found)
        if found:
            print(f"{name}, seed {seed}, {result['number']} ({result['mutation']}): {', '.join(found)}", flush=True)
            print("    " + (result["traceback"] or result["found"])[-1500:].replace("\n", "\n    "), flush=True)
    survived = sum(not any(result[what] for what in WRONG) for result in results)
    print(f"{name}: {survived} of {count} survived", flush=True)
    return Row(name, count, survived, {WRONG[what]: wrong[what] for what in WRONG})


if __name__ == "__main__":
    sys.exit(main())

"""Damaged files, each read by the command that reads such files: a row of docs/reliability.md for each target.

A process that dies is started again behind the input at which it died, which counts as a traceback.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.faults.forking import CONTEXT
from tests.faults.suite import TARGETS, Bench
from tests.faults.table import Row
from tests.faults.watching import watch_writes_outside

WRONG = {
    "executed": "executed",
    "traceback": "tracebacks",
    "hang": "hangs over 5 s",
    "memory": "memory",
    "outside": "written outside",
}


def row(asked: tuple[str, int, int]) -> Row:
    name, count, seed = asked
    with tempfile.TemporaryDirectory() as folder:
        results = _results(name, count, seed, Path(folder))
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


def _results(name: str, count: int, seed: int, folder: Path) -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = []
    file, printed = folder / "results", folder / "printed"
    while len(results) < count:
        process = CONTEXT.Process(target=work, args=(name, len(results), count, seed, file, printed))
        process.start()
        process.join()
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        results += lines
        if len(results) < count:
            last_words = printed.read_text(errors="replace")[-2000:]
            died = {"number": len(results), "mutation": "?", "traceback": f"died: {last_words}"}
            results.append(dict.fromkeys(WRONG, False) | died)
            if not lines and len(results) > 3:
                raise RuntimeError(last_words)
    return results


def work(name: str, first: int, count: int, seed: int, results: Path, printed: Path) -> None:
    """Write one line of JSON for each input; what is printed goes to another file."""
    target = next(each for each in TARGETS if each.name == name)
    with tempfile.TemporaryDirectory() as folder, results.open("w") as lines, printed.open("w") as rest:
        for number in (1, 2):
            os.dup2(rest.fileno(), number)
        bench = Bench(Path(folder), [target.sample], watch_writes_outside(Path(folder)), seed)
        whole = bench.control(target)  # also imports what is imported only once
        if whole.code or whole.traceback:
            raise RuntimeError(f"the whole sample of {name} is not read: {whole}")
        for number in range(first, count):
            mutation, outcome = bench.result(target, number)
            print(json.dumps({"number": number, "mutation": mutation, **asdict(outcome)}), file=lines, flush=True)

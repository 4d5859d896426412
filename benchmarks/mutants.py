"""`make mutants`: which small defects would the tests not notice?

A mutant is the package with one small change. It lives in the memory of a process of its own and is never written to
disk. That process is forked from one which has imported the libraries, so it starts at once. It imports the package
with the change, and runs the tests of the area that execute the changed line, the quickest first, until one fails. A
mutant that no test notices survives, and is printed with its place.

The report says what share was killed. A change that makes no difference (an equivalent mutant) counts as a survivor, so
the share is a lower bound.
"""

from __future__ import annotations

import argparse
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import Any

from benchmarks.mutation_operators import Mutant, mutants_of, mutated_tree

ROOT = Path(__file__).resolve().parents[1]
# {room of mer_lightning: what tests it, beside tests/ROOM}
AREAS: dict[str, tuple[str, ...]] = {
    "losses": (),
    "evaluation": (),
    "methods": (
        "tests/api/test_api.py",
        "tests/training/test_divergence.py",
        "tests/training/test_trust.py",
        "tests/training/test_trusted.py",
    ),
    "masks": (),
}
_DRAWINGS = "figures.py"  # whether a picture is right is seen by looking at it: no mutants there
# Imported once, before any fork; none of them imports the package.
LIBRARIES = ("torch", "lightning.pytorch", "lightning.pytorch.cli", "torchmetrics", "pandas", "sklearn.metrics")
LIBRARIES += ("scipy.stats", "jsonargparse", "pytest", "hypothesis", "safetensors.torch", "torch.optim.lr_scheduler")
_PATIENCE = 5.0  # times the seconds that the tests take without a change, after which a mutant counts as killed
_LEAST = 30.0  # seconds
_TOO_LONG = 1000  # no exit code


@dataclass
class Coverage:
    """What the tests of one area execute, without any change."""

    seconds: dict[str, float] = field(default_factory=dict)  # {test: of its call}
    tests: dict[tuple[str, int], set[str]] = field(default_factory=lambda: defaultdict(set))  # {(file, line): tests}

    def reaching(self, mutant: Mutant) -> list[str]:
        """The tests that execute any line of what was changed, the quickest first.

        What is executed on import, such as a constant, is reached by every test that executes a function of the file.
        """
        lines = range(mutant.line, mutant.end_line + 1)
        found = {test for line in lines for test in self.tests.get((mutant.file, line), ())}
        if not mutant.in_function:
            found = {test for (file, _), tests in self.tests.items() if file == mutant.file for test in tests}
        return sorted(found, key=lambda test: (self.seconds.get(test, 0.0), test))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mutants", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("places", nargs="*", help="parts of file names, such as methods/mgr; default: all areas")
    parser.add_argument("--sample", type=int, default=200, help="mutants, drawn from all of them by the seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--all", action="store_true", help="every mutant and no sample")
    given = parser.parse_args()

    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    sys.dont_write_bytecode = True
    everything = [mutant for area in AREAS for mutant in area_mutants(area, given.places)]
    chosen = everything if given.all else draw(everything, given.sample, given.seed)
    for library in LIBRARIES:
        importlib.import_module(library)
    print(f"{len(chosen)} of {len(everything)} mutants", flush=True)

    began, survivors, untested, too_long = time.monotonic(), [], [], 0
    coverage = {area: measure(area) for area in AREAS if any(mutant.area == area for mutant in chosen)}
    for mutant in chosen:
        tests = coverage[mutant.area].reaching(mutant)
        if not tests:
            untested.append(mutant)
            print(f"no test reaches  {mutant}", flush=True)
            continue
        code = exit_code(mutant, tests, sum(coverage[mutant.area].seconds.get(test, 0.0) for test in tests))
        too_long += code == _TOO_LONG
        if code == 0:
            survivors.append(mutant)
            print(f"survived  {mutant}", flush=True)
    killed = len(chosen) - len(survivors) - len(untested)
    print(f"\n{killed} of {len(chosen)} mutants killed: {100 * killed / max(len(chosen), 1):.1f} %", end="")
    print(
        f" ({len(survivors)} survived, {len(untested)} no test reaches, {too_long} killed by taking too long;", end=""
    )
    print(f" {(time.monotonic() - began) / 60:.1f} min)")
    for area in AREAS:
        of_area = sum(mutant.area == area for mutant in chosen)
        alive = sum(mutant.area == area for mutant in survivors + untested)
        if of_area:
            print(f"  {area}: {of_area - alive} of {of_area}")
    return 0


def area_mutants(area: str, places: list[str]) -> list[Mutant]:
    files = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "mer_lightning" / area).rglob("*.py"))
    wanted = [file for file in files if not places or any(place in file for place in places)]
    wanted = [file for file in wanted if not file.endswith(_DRAWINGS)]
    return [mutant for file in wanted for mutant in mutants_of(file, (ROOT / file).read_text(), area)]


def draw(everything: list[Mutant], sample: int, seed: int) -> list[Mutant]:
    """A sample in the order of the files, the same for one seed and one state of the package."""
    chosen = random.Random(seed).sample(range(len(everything)), min(sample, len(everything)))
    return [everything[number] for number in sorted(chosen)]


# --- one mutant


def exit_code(mutant: Mutant, tests: list[str], seconds: float) -> int:
    """0 where the mutant survives its tests, which take so many seconds without a change."""

    def run() -> int:
        sys.meta_path.insert(0, MutantFinder(mutant))
        return run_pytest(sorted({test.split("::")[0] for test in tests}), ChosenTests(tests), "-x")

    return in_a_fork(run, seconds * _PATIENCE + _LEAST)


class MutantFinder(importlib.abc.MetaPathFinder):
    """Lets the import system find the changed module where it asks for the file that was changed."""

    def __init__(self, mutant: Mutant) -> None:
        self.mutant, self.path = mutant, str(ROOT / mutant.file)
        name = mutant.file.removesuffix(".py").replace("/", ".")
        self.package = name.endswith(".__init__")
        self.name = name.removesuffix(".__init__")

    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> Any:
        if fullname != self.name:
            return None
        places = [str(Path(self.path).parent)] if self.package else None
        loader = MutantLoader(fullname, self.path, self.mutant)
        locate = importlib.util.spec_from_file_location
        return locate(fullname, self.path, loader=loader, submodule_search_locations=places)


class MutantLoader(importlib.machinery.SourceFileLoader):
    def __init__(self, fullname: str, path: str, mutant: Mutant) -> None:
        super().__init__(fullname, path)
        self.mutant = mutant

    def get_code(self, fullname: str) -> CodeType:
        source = Path(self.path).read_text()
        return compile(mutated_tree(source, self.mutant.number), self.path, "exec")


class ChosenTests:
    """A pytest plugin: only these tests, in this order. Where a change has renamed them, all that were collected."""

    def __init__(self, tests: list[str]) -> None:
        self.rank = {test: number for number, test in enumerate(tests)}

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        if chosen := [item for item in items if item.nodeid in self.rank]:
            items[:] = sorted(chosen, key=lambda item: self.rank[item.nodeid])


def run_pytest(paths: list[str], plugin: object, *options: str) -> int:
    import pytest

    fixed = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", "not slow", "--hypothesis-seed=0"]
    return int(pytest.main([*fixed, *options, *paths], plugins=[plugin]))


def in_a_fork(work: Callable[[], int], limit: float) -> int:
    """What ``work`` returns in a child process that prints nowhere; _TOO_LONG where it takes longer than ``limit``."""
    child = os.fork()
    if child == 0:
        os.setsid()  # a group of its own, so that what the tests start ends with it
        code = 1
        try:
            nowhere = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):
                os.dup2(nowhere, stream)
            with tempfile.TemporaryDirectory() as folder:
                os.environ["PYTEST_DEBUG_TEMPROOT"] = folder
                code = work()
        finally:
            os._exit(code)
    deadline = time.monotonic() + limit
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return _TOO_LONG
        time.sleep(0.02)


# --- which tests execute which lines


def measure(area: str) -> Coverage:
    """Run the tests of an area once, without any change, and note the lines of the area that each executes."""
    with tempfile.NamedTemporaryFile("r", suffix=".json") as file:

        def run() -> int:
            recorder = Recorder(area)
            code = run_pytest([f"tests/{area}", *AREAS[area]], recorder)
            Path(file.name).write_text(json.dumps(recorder.found()))
            return code

        if (code := in_a_fork(run, 3600.0)) != 0:
            raise SystemExit(f"tests/{area} fails without any change (pytest ended with {code}): mend that first")
        seconds, lines = json.load(file)
    coverage = Coverage(seconds)
    for test, executed in lines.items():
        for place, line in executed:
            coverage.tests[os.path.relpath(place, ROOT), line].add(test)
    print(f"{area}: {len(seconds)} tests, {sum(seconds.values()):.0f} s", flush=True)
    return coverage


class Recorder:
    """A pytest plugin that follows each test line by line.

    A fixture of a wider scope is made for one test and serves others: what a set-up executes counts for its whole file.
    """

    def __init__(self, area: str) -> None:
        self.root = f"{ROOT}/mer_lightning/{area}/"
        self.seconds: dict[str, float] = {}
        self.own: dict[str, set[tuple[str, int]]] = {}
        self.set_up: dict[str, set[tuple[str, int]]] = defaultdict(set)
        self.current: set[tuple[str, int]] = set()

    def found(self) -> tuple[dict[str, float], dict[str, list[tuple[str, int]]]]:
        return self.seconds, {test: sorted(own | self.set_up[test.split("::")[0]]) for test, own in self.own.items()}

    def pytest_runtest_setup(self, item: Any) -> None:
        self.current = self.set_up[item.nodeid.split("::")[0]]
        sys.settrace(self._call)

    def pytest_runtest_call(self, item: Any) -> None:
        self.current = self.own.setdefault(item.nodeid, set())
        sys.settrace(self._call)

    def pytest_runtest_teardown(self, item: Any) -> None:
        sys.settrace(None)

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration

    def _call(self, frame: FrameType, event: str, argument: object) -> Any:
        return self._line if frame.f_code.co_filename.startswith(self.root) else None

    def _line(self, frame: FrameType, event: str, argument: object) -> Any:
        self.current.add((frame.f_code.co_filename, frame.f_lineno))
        return self._line


if __name__ == "__main__":
    sys.exit(main())

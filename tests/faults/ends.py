"""Commands that are ended at a random moment, or lack room, or meet another one: what is left must be as good as new.

Each command runs in a process of its own, forked from one that has imported everything, so that a hundred of them take
minutes; so does the server from which a study forks its workers. One in ten of the commands that are ended is a new
Python instead, so that its end may also come while it imports. A run that was ended goes on until it is over, and its
files must be those of a run that nobody disturbed.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing import util
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import numpy as np

from mer_lightning.cli import main
from mer_lightning.methods.base import all_methods
from tests.conftest import make_raw
from tests.faults.forking import CONTEXT

LONGEST = 30.0  # seconds that a command may take to end after SIGTERM or Ctrl-C
ONE_IN = 10  # of the commands that are ended is a new Python
_PATIENCE = 300.0
_CODES = {signal.SIGKILL: {-9}, signal.SIGTERM: {143}, signal.SIGINT: {130}}


@dataclass
class Tally:
    """One row of docs/reliability.md."""

    fault: str
    tried: int = 0
    failures: list[str] = field(default_factory=list)

    @property
    def survived(self) -> int:
        return self.tried - len(self.failures)


@dataclass(frozen=True)
class Work:
    """A command that can be given again, and what it must leave."""

    name: str
    command: Callable[[Path], list[str]]  # of a folder; asks the folder whether to begin or to go on
    left: Callable[[Path], dict[str, str]]  # {name: content} of what has to be the same


class Fresh:
    """A command in a new Python, which imports everything; with what is asked of a forked process."""

    def __init__(self, args: list[str], log: Path) -> None:
        command = [sys.executable, "-m", "mer_lightning.cli", *args]
        with log.open("a") as file:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
        self.pid, self.kill = self._process.pid, self._process.kill

    @property
    def exitcode(self) -> int | None:
        return self._process.poll()

    def join(self, seconds: float | None = None) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)


def start(args: list[str], log: Path, bytes_per_file: int | None = None) -> ForkServerProcess:
    """Forks it from a process that has imported what commands import."""
    ready = CONTEXT.Event()
    process = CONTEXT.Process(target=_child, args=(args, ready, log, bytes_per_file))
    process.start()
    assert ready.wait(_PATIENCE)
    return process


def _child(args: list[str], ready: Any, log: Path, bytes_per_file: int | None) -> None:
    if bytes_per_file is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # an error of the write, as on a full disk
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        if bytes_per_file is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_per_file, bytes_per_file))
        util.spawnv_passfds = _fork_passfds  # type: ignore[assignment]
        ready.set()
        sys.exit(main(args))


def _fork_passfds(path: bytes, args: list[str], passfds: list[int]) -> int:
    """In place of a new Python that runs `-c CODE`, with which multiprocessing starts the server of a study's workers:
    a fork that runs this code, with these files open and signals as a new process has them."""
    if pid := os.fork():
        return pid
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        keep = sorted({0, 1, 2, *passfds})
        for low, high in zip(keep, [*keep[1:], os.sysconf("SC_OPEN_MAX")], strict=True):
            os.closerange(low + 1, high)
        exec(args[-1], {})
    finally:
        os._exit(0)


def finish(process: ForkServerProcess | Fresh, seconds: float = _PATIENCE) -> int | None:
    """The exit code; None after too long a time."""
    process.join(seconds)
    code = process.exitcode
    if code is None:
        process.kill()
        process.join()
    return code


class Bench:
    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.draw = folder, np.random.default_rng(seed)
        self.ends = self.fresh_ends = 0  # commands that were ended, and those of them that were a new Python
        self._known: dict[tuple[str, bool], tuple[float, dict[str, str]]] = {}

    def undisturbed(self, work: Work, fresh: bool = False) -> tuple[float, dict[str, str]]:
        """(seconds, what is left) of a run to compare with."""
        if (work.name, fresh) not in self._known:
            place = self.folder / f"{work.name} undisturbed{' and fresh' if fresh else ''}"
            process = (Fresh if fresh else start)(work.command(place), self.folder / "undisturbed.log")
            began = time.monotonic()  # the process that forks may just have been started, which takes longer than a run
            assert finish(process) == 0, place
            self._known[work.name, fresh] = time.monotonic() - began, work.left(place)
        return self._known[work.name, fresh]

    def ended(self, work: Work, number: signal.Signals, times: int, tally: Tally) -> None:
        """The signal comes ``times`` times, at most three of them to one run, each at a random moment."""
        _, expected = self.undisturbed(work)
        hits = 0
        while hits < times:
            place, log = self._fresh(work.name)
            for _ in range(min(3, times - hits)):
                fresh = self.ends % ONE_IN == ONE_IN - 1
                seconds, _ = self.undisturbed(work, fresh)
                process = (Fresh if fresh else start)(work.command(place), log)
                time.sleep(float(self.draw.uniform(0.005, seconds)))
                if process.exitcode is not None:  # too late: it is over
                    break
                os.kill(process.pid or 0, number)
                hits += 1
                tally.tried += 1
                self.ends += 1
                self.fresh_ends += fresh
                code = finish(process, LONGEST)
                if code not in _CODES[number] | {0}:
                    tally.failures.append(f"{work.name}: {number.name} ended it with {code}; {_last_line(log)}")
            self._must_recover(work, place, log, expected, tally)

    def without_room(self, work: Work, times: int, tally: Tally) -> None:
        """No file may become larger than a random number of bytes; then there is room again."""
        _, expected = self.undisturbed(work)
        for _ in range(times):
            place, log = self._fresh(work.name)
            limit = int(np.exp(self.draw.uniform(0, np.log(2e6))))
            tally.tried += 1
            code = finish(start(work.command(place), log, limit))
            unsaid = log.stat().st_size >= limit  # its own message found no room
            if code not in (0, 2) and not unsaid:
                tally.failures.append(f"{work.name}: with {limit} bytes a file it ended with {code}; {_last_line(log)}")
                continue
            self._must_recover(work, place, log, expected, tally)

    def two_at_once(self, work: Work, times: int, tally: Tally) -> None:
        """The second one is refused, or finds the first one's work done; the first one is not disturbed."""
        _, expected = self.undisturbed(work)
        for _ in range(times):
            place, log = self._fresh(work.name)
            tally.tried += 1
            command = work.command(place)
            both = [start(command, log), start(command, log)]
            codes = sorted(code if code is not None else -1 for code in map(finish, both))
            if codes[0] != 0 or codes[1] not in (0, 2):
                tally.failures.append(f"{work.name}: two at once ended with {codes}; {_last_line(log)}")
            self._must_recover(work, place, log, expected, tally)

    def _fresh(self, name: str) -> tuple[Path, Path]:
        place = self.folder / f"{name} disturbed"
        shutil.rmtree(place, ignore_errors=True)
        log = self.folder / f"{name}.log"
        log.unlink(missing_ok=True)
        return place, log

    def _must_recover(self, work: Work, place: Path, log: Path, expected: dict[str, str], tally: Tally) -> None:
        code = finish(start(work.command(place), log))
        if code != 0:
            tally.failures.append(f"{work.name}: did not go on, {code}; {_last_line(log)}")
        elif (left := work.left(place)) != expected:
            differing = [name for name in left.keys() | expected.keys() if left.get(name) != expected.get(name)]
            tally.failures.append(f"{work.name}: left another {', '.join(sorted(differing)[:3])}")


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else "it said nothing"


# --- the commands

_QUIET = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false", "--trainer.max_epochs", "4"]
_SMALL = ["--model.backbone", "early", "--model.backbone.width", "8", "--data.batch_size", "16"]


def fit_of(method: str, corpus: Path) -> Work:
    options = [
        "--model",
        method,
        *_SMALL,
        *_QUIET,
        "--data.corpus",
        str(corpus),
        "--data.masks",
        "uniform_combinations",
    ]

    def command(place: Path) -> list[str]:
        if (place / "config.yaml").is_file():
            return ["fit", "--resume", str(place)]
        return ["fit", *options, "--run_dir", str(place)]

    return Work(f"fit {method}", command, _of_runs)


def sweep_of(folder: Path, corpus: Path) -> Work:
    file = folder / "sweep.yaml"
    options = [*_SMALL, *_QUIET, "--data.corpus", str(corpus)]
    sweep = {
        "name": "s",
        "program": "mer-lightning",
        "method": "random",
        "run_cap": 4,
        "metric": {"name": "valid/score", "goal": "maximize"},
        "parameters": {"model.optimizer.lr": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-2}},
        "command": ["${program}", "fit", "--model", "supervised", *options, "${args}"],
    }
    file.write_text(json.dumps(sweep))

    def left(place: Path) -> dict[str, str]:
        return _of_runs(place) | {"trials.csv": (place / "s" / "trials.csv").read_text()}

    return Work("sweep", lambda place: ["sweep", str(file), "--workers", "2", "--runs", str(place)], left)


def reproduce_of(folder: Path, corpus: Path) -> Work:
    experiments = folder / "experiments"
    experiments.mkdir(exist_ok=True)
    for method in ("supervised", "every_combination"):
        config = {
            "model": {"class_path": method, "init_args": {"backbone": "early"}},
            "data": {"corpus": str(corpus), "batch_size": 16},
        }
        (experiments / f"{method}_tiny.yaml").write_text(json.dumps(config))
    command = ["reproduce", "--experiments", str(experiments), "--runs"]
    return Work("reproduce", lambda place: [*command, str(place)], _of_runs)


def ablate_of(folder: Path, corpus: Path) -> Work:
    full = folder / "full.yaml"
    init = {"backbone": "early", "weight": 1.0, "confidence_hidden": 8}
    full.write_text(
        json.dumps(
            {
                "model": {"class_path": "cdat", "init_args": init},
                "data": {"corpus": str(corpus), "batch_size": 16},
                "trainer": {"max_epochs": 2, "accelerator": "cpu"},
            }
        )
    )
    file = folder / "ablation.yaml"
    parts = {"transfer": {"model.preset": "baseline", "model.weight": 0}}
    file.write_text(json.dumps({"full": full.name, "repeat": {"seed_everything": [1, 2]}, "without": parts}))

    def left(place: Path) -> dict[str, str]:
        return _of_runs(place) | {"differences.csv": (place / "ablation" / "differences.csv").read_text()}

    return Work("ablate", lambda place: ["ablate", str(file), "--workers", "2", "--runs", str(place)], left)


def _of_runs(place: Path) -> dict[str, str]:
    """The results of every run below a folder, and nothing that was not to be: no run twice, no file half written."""
    found = {}
    for path in sorted(place.rglob("results.csv")):
        found[str(path.relative_to(place))] = path.read_text()
        predictions = path.with_name("predictions.parquet")
        found[str(predictions.relative_to(place))] = predictions.read_bytes().hex()
    found["left over"] = " ".join(sorted(str(path.relative_to(place)) for path in place.rglob("diverged.json")))
    return found


@contextlib.contextmanager
def corpus_in(folder: Path) -> Iterator[Path]:
    from mer_lightning.data.store import write_corpus

    folder.mkdir(parents=True, exist_ok=True)
    write_corpus(make_raw(samples=60), folder / "corpus", "tiny")
    yield folder / "corpus"


def tallies(folder: Path, seed: int, share: float = 1.0) -> tuple[list[Tally], int]:
    """All rows, and how many commands were a new Python; ``share`` of the full number of faults, at least one each."""

    def count(whole: int) -> int:
        return max(round(whole * share), 1)

    with corpus_in(folder) as corpus:
        bench = Bench(folder, seed)
        fits = [fit_of(method, corpus) for method in all_methods()]
        studies = [sweep_of(folder, corpus), reproduce_of(folder, corpus), ablate_of(folder, corpus)]
        rows = []

        def row(fault: str, action: Callable[..., None], works: list[Work], whole: int, *more: Any) -> None:
            tally = Tally(fault)
            for work in works:
                action(work, *more, count(round(whole / len(works))), tally)
            rows.append(tally)
            print(f"| {tally.fault} | {tally.tried} | {tally.survived} |", *tally.failures, sep="\n  ", flush=True)

        row("SIGKILL in `fit`, all methods and phases", bench.ended, fits, 100, signal.SIGKILL)
        for work, whole in zip(studies, (20, 20, 10), strict=True):
            row(f"SIGKILL in `{work.name}`", bench.ended, [work], whole, signal.SIGKILL)
        row("SIGTERM in `fit` and studies", bench.ended, [*fits, *studies], 40, signal.SIGTERM)
        row("Ctrl-C in `fit` and studies", bench.ended, [*fits, *studies], 40, signal.SIGINT)
        row("no room for a file, from 1 byte to 2 MB", bench.without_room, fits, 40)
        row("two commands on one folder", bench.two_at_once, [fits[0], *studies], 12)
    return rows, bench.fresh_ends


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        found, _ = tallies(Path(place), seed=int(sys.argv[1]), share=float(sys.argv[2]))
    sys.exit(1 if any(tally.failures for tally in found) else 0)

"""`python -m benchmarks scale`: how the cost of each stage grows with samples, runs, conditions and trials.

Each stage runs in a process of its own, on one thread. A row has CPU seconds and peak private memory beyond what the
imported libraries take, for each size, and the exponent of the growth: 1 is in proportion.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path

from benchmarks import scale_stages as stages

HERE = Path(__file__).parent
RESULTS = HERE / "SCALE.md"
PICTURE = HERE.parent / "docs" / "pictures" / "scale.svg"
_MEASURABLE = 0.1  # seconds; of less, what does not grow is the most part


@dataclass(frozen=True)
class Family:
    """Stages that follow each other on the same files, for each of some sizes."""

    unit: str
    sizes: tuple[int, ...]
    prepare: Callable[[Path, int], None]
    stages: tuple[Callable[[Path, int], None], ...]


FAMILIES = {
    "utterances": Family(
        "utterances",
        (2_000, 20_000, 200_000, 2_000_000),
        stages.prepare_utterances,
        (
            stages.import_file,
            stages.open_file,
            stages.epoch,
            stages.tested_under_7,
            stages.tested_under_15,
            stages.write_15,
            stages.predict,
            stages.diagnose,
            stages.report,
        ),
    ),
    "sequences": Family(
        "sequences",
        (2_000, 10_000, 50_000),
        stages.prepare_sequences,
        (stages.import_file, stages.epoch, stages.tested_under_7),
    ),
    "conditions": Family("conditions", (7, 14, 35, 70), stages.prepare_conditions, (stages.test_conditions,)),
    "runs": Family(
        "runs",
        (10, 100, 1_000, 10_000),
        stages.prepare_runs,
        (stages.first_ledger, stages.ledger_again, stages.report_runs, stages.plan_reproduction),
    ),
    "trials": Family(
        "trials", (10, 100, 1_000, 5_000), stages.prepare_nothing, (stages.random_trials, stages.bayes_trials)
    ),
}


@dataclass(frozen=True)
class Measured:
    seconds: float
    megabytes: float


@dataclass(frozen=True)
class Curve:
    """One stage over the sizes of its family."""

    family: str
    stage: str
    measured: dict[int, Measured]

    @property
    def exponent(self) -> float:
        """Of the growth between the two largest sizes that take long enough; NaN where there are no two."""
        long = [(size, each.seconds) for size, each in self.measured.items() if each.seconds >= _MEASURABLE]
        if len(long) < 2:
            return math.nan
        (few, less), (many, more) = long[-2:]
        return math.log(more / less) / math.log(many / few)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks scale", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "families", nargs="*", help=f"among {', '.join(FAMILIES)} (default: all); others keep their rows"
    )
    parser.add_argument("--most", type=int, default=10**9, help="the largest size")
    given = parser.parse_args(arguments)
    if unknown := set(given.families) - set(FAMILIES):
        parser.error(f"no {', '.join(unknown)} among {', '.join(FAMILIES)}")
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    curves = []
    for name in given.families or FAMILIES:
        family = FAMILIES[name]
        sizes = [size for size in family.sizes if size <= given.most]
        print(HEAD, flush=True)
        for curve in measure(name, family, sizes):
            curves.append(curve)
            print(line(curve), flush=True)
    if given.most >= 10**9:
        new = {curve.family for curve in curves}
        curves += [curve for curve in written() if curve.family not in new]
        curves.sort(key=lambda curve: list(FAMILIES).index(curve.family))
        RESULTS.write_text(TEXT + "\n".join([HEAD, *map(line, curves)]) + "\n")
        draw(curves)


def measure(name: str, family: Family, sizes: list[int]) -> Iterator[Curve]:
    measured: dict[str, dict[int, Measured]] = {stage.__name__: {} for stage in family.stages}
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            in_a_process(family.prepare, Path(folder), size)
            for stage in family.stages:
                measured[stage.__name__][size] = in_a_process(stage, Path(folder), size)
    for stage, of_size in measured.items():
        yield Curve(name, stage.replace("_", " "), of_size)


def in_a_process(stage: Callable[[Path, int], None], folder: Path, size: int) -> Measured:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_run, args=(stage, folder, size, there))
    process.start()
    there.close()
    for _ in watched(process, here):
        pass
    heard(process, here)
    before = peak = _private_megabytes(process.pid)
    here.send("go")
    for now in watched(process, here):
        peak = max(peak, now)
    seconds = heard(process, here)
    process.join()
    return Measured(seconds, peak - before)


def watched(process: SpawnProcess, here: Connection) -> Iterator[float]:
    """Its private memory, again and again until it says something or ends."""
    while not here.poll(0.02):
        yield _private_megabytes(process.pid)


def heard(process: SpawnProcess, here: Connection) -> float:
    try:
        return float(here.recv())
    except EOFError:
        process.join()
        raise RuntimeError(f"a stage ended with {process.exitcode}; its error stands above") from None


def _run(stage: Callable[[Path, int], None], folder: Path, size: int, parent: Connection) -> None:
    """The stage in a process of its own, once the libraries are there."""
    stages.make_ready(folder)
    parent.send(0.0)  # ready
    parent.recv()
    began = time.process_time()
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        stage(folder, size)
    parent.send(time.process_time() - began)


def _private_megabytes(pid: int | None) -> float:
    """Anonymous memory; pages of mapped files are not among it."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) for line in lines if line.startswith("RssAnon:")), 0) / 1024


HEAD = "| stage | of | CPU seconds | peak private MB | exponent |\n|---|---|---|---|---|"
TEXT = """# Scale

Made by `python -m benchmarks scale`, one thread. CPU seconds and private memory beyond the imported libraries for each
size. The exponent is that of the growth between the two largest sizes that take a tenth of a second: 1 is in
proportion, and less than 1 means that what does not grow is still the most part.

"""


def line(curve: Curve) -> str:
    sizes = ", ".join(f"{size:,}" for size in curve.measured)
    seconds = ", ".join(f"{each.seconds:.2f}" for each in curve.measured.values())
    megabytes = ", ".join(f"{each.megabytes:.0f}" for each in curve.measured.values())
    exponent = "" if math.isnan(curve.exponent) else f"{curve.exponent:.2f}"
    return f"| {curve.stage} | {sizes} {FAMILIES[curve.family].unit} | {seconds} | {megabytes} | {exponent} |"


def written() -> Iterator[Curve]:
    """What RESULTS holds, as :func:`line` has written it."""
    units = {family.unit: name for name, family in FAMILIES.items()}
    lines = RESULTS.read_text().splitlines() if RESULTS.is_file() else []
    for cells in (row.strip("| ").split(" | ") for row in lines if row.startswith("| ") and " stage " not in row):
        stage, of, seconds, megabytes = cells[:4]
        sizes, _, unit = of.rpartition(" ")
        numbers = zip(*(cell.split(", ") for cell in (sizes, seconds, megabytes)), strict=True)
        measured = {int(size.replace(",", "")): Measured(float(s), float(mb)) for size, s, mb in numbers}
        yield Curve(units[unit], stage, measured)


def draw(curves: list[Curve]) -> None:
    """One panel per family: seconds over size, both on logarithmic scales, beside the line of proportion."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    figure = Figure(figsize=(10, 8), layout="constrained")
    panels = list(figure.subplots(2, 3).flat)
    for name, axes in zip(FAMILIES, panels, strict=False):
        for curve in (each for each in curves if each.family == name):
            seconds = [max(each.seconds, 1e-3) for each in curve.measured.values()]
            axes.loglog(list(curve.measured), seconds, marker="o", markersize=3, label=curve.stage)
        sizes = FAMILIES[name].sizes
        bottom, top = axes.get_ylim()
        bottom, top = min(bottom, top / 100), top * 2  # at least two decades: what hardly grows looks flat
        axes.loglog(sizes, [top / 2 * size / sizes[-1] for size in sizes], ":", color="grey", label="in proportion")
        axes.set_ylim(bottom, top)
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.tick_params(labelsize=7)
        axes.set_xlabel(FAMILIES[name].unit)
        axes.set_ylabel("CPU seconds")
        axes.legend(fontsize=7, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.2), frameon=False)
    for axes in panels[len(FAMILIES) :]:
        axes.remove()
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, metadata={"Date": None})

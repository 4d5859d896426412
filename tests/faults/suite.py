"""Which files are damaged, how, and which command reads them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mer_lightning.cli import main
from tests.faults import mutations
from tests.faults.mutations import CANARY, Mutation, seed_of
from tests.faults.watching import Outcome, Watch, observed

Reads = Callable[[Path, Path], Any]  # (the sample, a folder for what is written)


@dataclass(frozen=True)
class Target:
    """One kind of input: files of a sample, the ways to damage them, and what reads them."""

    name: str
    sample: str
    files: str  # a pattern below the sample; "" if the sample is a file
    mutations: list[Mutation]
    reads: Reads
    share: int = 10  # of the inputs of a whole run: those that take long to read get fewer


def _import(name: str, *more: str) -> Reads:
    return lambda path, out: main(["data", "import", str(path), "--as", name, "-o", str(out / "corpus"), *more])


def _sweep(path: Path, out: Path) -> None:
    """All of a sweep but the runs."""
    from mer_lightning.studies.search import Search
    from mer_lightning.studies.sweep_file import read_sweep
    from mer_lightning.studies.sweep_trials import SweepTrials, trials_table

    sweep = read_sweep(path)
    stream = SweepTrials(
        Search(sweep, out / sweep.name, min(sweep.trials or 2, 2)), out / sweep.name, lambda result: None
    )
    for job in stream.jobs():
        stream.failed(job, "not run")
    trials_table(stream.search)


def _ablation(path: Path, out: Path) -> None:
    from mer_lightning.studies.ablation import read_ablation

    read_ablation(path).jobs(out, [])


_LIMITS = ["--trainer.fast_dev_run", "true", "--trainer.enable_progress_bar", "false"]
_FEATURES = ["--features", "text=A-UTT,audio=B-UTT,vision=C-UTT"]


def _fit(path: Path, out: Path) -> Any:
    return main(["fit", "--config", str(path / "config.yaml"), *_LIMITS, "--run_dir", str(out / "run")])


def _test(path: Path, out: Path) -> Any:
    return main(
        ["test", "--run", str(path / "1"), "--run_dir", str(out / "run"), "--trainer.enable_progress_bar", "false"]
    )


TARGETS = [
    Target("pickle of MMSA", "mmsa", "", mutations.PICKLES, _import("mosi"), 14),
    Target("pickle of MulT", "mult", "", mutations.PICKLES, _import("mosi"), 14),
    Target("pickle of MAG-BERT", "mag", "", mutations.PICKLES, _import("mosi"), 14),
    Target("GCNet: pickle of labels", "gcnet", "*.pkl", mutations.PICKLES, _import("mosi"), 10),
    Target("GCNet: .npy of features", "gcnet", "features/*/*.npy", mutations.ARRAYS, _import("mosi"), 6),
    Target("MERBench: .npz of labels", "merbench", "label.npz", mutations.ARCHIVES, _import("mosi", *_FEATURES), 8),
    Target("MERBench: .npy of features", "merbench", "features/*/*.npy", mutations.ARRAYS, _import("mosi", *_FEATURES), 4),
    Target("MMIN: HDF5", "mmin", "?/*.h5", mutations.HDF5, _import("iemocap4"), 10),
    Target("MMIN: .npy of labels", "mmin", "target/1/*.npy", mutations.ARRAYS, _import("iemocap4"), 6),
    Target("CMU SDK: HDF5", "csd", "*.csd", mutations.HDF5, _import("mosi"), 10),
    Target("CMU SDK: splits", "csd", "splits.yaml", mutations.YAML, _import("mosi"), 4),
    Target(".npz of one's own", "npz", "", mutations.ARCHIVES, _import("mosi"), 12),
    Target("corpus: card", "corpus", "card.yaml", mutations.YAML, lambda path, out: main(["data", "verify", str(path)]), 8),
    Target("corpus: tensors", "corpus", "*.safetensors", mutations.TENSORS, lambda path, out: main(["data", "verify", str(path)]), 8),
    Target("corpus: samples", "corpus", "*.parquet", mutations.TABLES, lambda path, out: main(["data", "verify", str(path)]), 6),
    Target("config of fit", "run", "config.yaml", mutations.YAML, _fit, 2),
    Target("config of a run", "run", "runs/1/config.yaml", mutations.YAML, lambda path, out: _test(path / "runs", out), 2),
    Target("checkpoint in test", "run", "runs/1/checkpoints/best.ckpt", mutations.CHECKPOINTS, lambda path, out: _test(path / "runs", out), 2),
    Target("checkpoint in fit --resume", "unfinished", "runs/1/checkpoints/last.ckpt", mutations.CHECKPOINTS, lambda path, out: main(["fit", "--resume", str(path / "runs/1"), "--test_after_fit", "false"]), 1),
    *(
        Target(f"run in report: {file}", "run", f"runs/1/{file}", kinds, lambda path, out: main(["report", str(path / "runs"), "--output", str(out / "report")]), share)
        for file, kinds, share in (
            ("config.yaml", mutations.YAML, 2),
            ("corpus.yaml", mutations.YAML, 2),
            ("phases.json", mutations.JSON, 2),
            ("results.csv", mutations.CSV, 2),
            ("predictions.parquet", mutations.TABLES, 2),
            ("logs/metrics.csv", mutations.CSV, 2),
        )
    ),
    *(
        Target(f"run in diagnose: {file}", "run", f"runs/1/{file}", kinds, lambda path, out: main(["diagnose", str(path / "runs")]), 1)
        for file, kinds in (("corpus.yaml", mutations.YAML), ("predictions.parquet", mutations.TABLES))
    ),
    Target("sweep file", "sweep", "", mutations.YAML, _sweep, 4),
    Target("ablation file", "ablation", "", mutations.YAML, _ablation, 8),
]  # fmt: skip


class Bench:
    """A folder with samples, in which one input after the other is made, read and removed."""

    def __init__(self, folder: Path, samples: dict[str, Path], watch: Watch, seed: int) -> None:
        self.folder, self.samples, self.watch, self.seed = folder, samples, watch, seed

    def control(self, target: Target) -> Outcome:
        """What the whole sample does: it must be read to its end, or nothing is learnt from damaged ones."""
        return self._observe(target, lambda files: None)

    def result(self, target: Target, number: int) -> tuple[str, Outcome]:
        """(name of the mutation, what it did) of one input, which depends on nothing but the seed and the number."""
        draw = seed_of(self.seed, target.name, number)
        mutation = target.mutations[int(draw.integers(0, len(target.mutations)))]

        def damage(files: list[Path]) -> None:
            file = files[int(draw.integers(0, len(files)))]
            file.write_bytes(mutation(file.read_bytes(), draw))

        return mutation.__name__, self._observe(target, damage)

    def _observe(self, target: Target, damage: Callable[[list[Path]], None]) -> Outcome:
        work = self.folder / "work"
        shutil.rmtree(work, ignore_errors=True)
        sample = self.samples[target.sample]
        shutil.copytree(sample if sample.is_dir() else sample.parent, work / "in")
        path = work / "in" / ("" if sample.is_dir() else sample.name)
        damage(sorted((work / "in").glob(target.files)) if target.files else [path])
        (work / "out").mkdir()
        before = os.getcwd()
        os.chdir(work / "out")
        try:
            size = sum(each.stat().st_size for each in (work / "in").rglob("*") if each.is_file())
            return observed(lambda: target.reads(path, work / "out"), self.watch, work / "out" / CANARY, size)
        finally:
            os.chdir(before)

"""Which files are damaged, how, and which command reads them."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mer_lightning.cli import main
from tests.faults import mutations_of_data as data
from tests.faults import mutations_of_texts as texts
from tests.faults.mutations import BYTES, CANARY, Mutation, seed_of
from tests.faults.samples import make
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


def _sweep(path: Path, out: Path) -> None:
    """All of a sweep but the runs."""
    from mer_lightning.studies.search import Search
    from mer_lightning.studies.sweep_file import read_sweep
    from mer_lightning.studies.sweep_storage import sweep_storage
    from mer_lightning.studies.sweep_trials import SweepTrials, trials_table

    sweep = read_sweep(path)
    search = Search(sweep, sweep_storage(None, sweep.name, out), min(sweep.trials or 2, 2))
    stream = SweepTrials(search, out / sweep.name, lambda result: None)
    for job in stream.jobs():
        stream.failed(job, "not run")
    trials_table(search)


def _ablation(path: Path, out: Path) -> None:
    from mer_lightning.studies.ablation import read_ablation

    read_ablation(path).jobs(out, [])


def _command(words: str) -> Reads:
    """A command; IN stands for the sample and OUT for the folder of what is written."""

    def read(path: Path, out: Path) -> Any:
        return main([word.replace("IN", str(path)).replace("OUT", str(out)) for word in words.split()])

    return read


_QUIET = "--trainer.enable_progress_bar false"
_MOSI, _IEMOCAP = (_command(f"data import IN --as {name} -o OUT/corpus") for name in ("mosi", "iemocap4"))
_MELD = _command("data import IN --as meld -o OUT/corpus")
_SETS = _command("data import IN --as mosi -o OUT/corpus --features text=A-UTT,audio=B-UTT,vision=C-UTT")
_INSPECT = _command("data inspect IN")
_VERIFY = _command("data verify IN")
_FIT = _command(f"fit --config IN/config.yaml --trainer.fast_dev_run true {_QUIET} --run_dir OUT/run")
_RESUME = _command(f"fit --resume IN/runs/1 --test_after_fit false {_QUIET}")
_TEST = _command(f"test --run IN/runs/1 --run_dir OUT/run {_QUIET}")
_REPORT = _command("report IN/runs --output OUT/report")
_DIAGNOSE = _command("diagnose IN/runs")
_CHECKPOINTS = "runs/1/checkpoints"

TARGETS = [
    Target("pickle of MMSA", "mmsa", "", data.PICKLES, _MOSI, 14),
    Target("pickle of MulT", "mult", "", data.PICKLES, _MOSI, 14),
    Target("pickle of MAG-BERT", "mag", "", data.PICKLES, _MOSI, 14),
    Target("GCNet: pickle of labels", "gcnet", "*.pkl", data.PICKLES, _MOSI, 10),
    Target("GCNet: .npy of features", "gcnet", "features/*/*.npy", data.ARRAYS, _MOSI, 6),
    Target("MERBench: .npz of labels", "merbench", "label.npz", data.ARCHIVES, _SETS, 8),
    Target("MERBench: .npy of features", "merbench", "features/*/*.npy", data.ARRAYS, _SETS, 4),
    Target("MMIN: HDF5", "mmin", "?/*.h5", data.HDF5, _IEMOCAP, 8),
    Target("MMIN: .npy of labels", "mmin", "target/1/*.npy", data.ARRAYS, _IEMOCAP, 4),
    Target("CMU SDK: HDF5", "csd", "*.csd", data.HDF5, _MOSI, 8),
    Target("CMU SDK: splits", "csd", "splits.yaml", texts.YAML, _MOSI, 4),
    Target(".npz of one's own", "npz", "", data.ARCHIVES, _MOSI, 12),
    Target("folder of one's own: labels", "own_folder", "labels.csv", texts.CSV, _MOSI, 6),
    Target("folder of one's own: .csv", "own_folder", "audio.csv", texts.CSV, _MOSI, 4),
    Target("folder of one's own: Parquet", "own_folder", "vision.parquet", data.TABLES, _MOSI, 4),
    Target("folder of one's own: .npy", "own_folder", "text/*.npy", data.ARRAYS, _MOSI, 4),
    Target("pickle of conversations", "conversations", "", data.PICKLES, _MOSI, 10),
    Target("tensors of torch", "tensors", "", data.CHECKPOINTS, _MOSI, 10),
    Target("arrays by split: HDF5", "split_h5", "*.h5", data.HDF5, _MOSI, 6),
    Target("datasets: Arrow", "hugging_face", "*/*.arrow", BYTES, _MOSI, 8),
    Target("datasets: Parquet", "hugging_face", "*/*.parquet", data.TABLES, _MOSI, 4),
    Target("datasets: JSON", "hugging_face", "*/*.json", texts.JSON, _MOSI, 2),
    Target("fetched CMU-MOSI: .csv", "public_mosi", "**/*.csv", texts.CSV, _MOSI, 4),
    Target("fetched MELD: .csv", "public_meld", "*.csv", texts.CSV, _MELD, 2),
    Target("fetched MELD: pickles", "public_meld", "*.pickle", data.PICKLES, _MELD, 4),
    Target("any pickle in inspect", "conversations", "", data.PICKLES, _INSPECT, 4),
    Target("any .npz in inspect", "npz", "", data.ARCHIVES, _INSPECT, 4),
    Target("any HDF5 in inspect", "csd", "*.csd", data.HDF5, _INSPECT, 2),
    Target("any tensors in inspect", "tensors", "", data.CHECKPOINTS, _INSPECT, 2),
    Target("corpus: card", "corpus", "card.yaml", texts.YAML, _VERIFY, 8),
    Target("corpus: tensors", "corpus", "*.safetensors", data.TENSORS, _VERIFY, 8),
    Target("corpus: samples", "corpus", "*.parquet", data.TABLES, _VERIFY, 3),
    Target("config in fit", "run", "config.yaml", texts.YAML, _FIT, 3),
    Target("config in test --run", "run", "runs/1/config.yaml", texts.YAML, _TEST, 2),
    Target("checkpoint in test --run", "run", f"{_CHECKPOINTS}/best.ckpt", data.CHECKPOINTS, _TEST, 2),
    Target("checkpoint in fit --resume", "unfinished", f"{_CHECKPOINTS}/last.ckpt", data.CHECKPOINTS, _RESUME, 1),
    Target("config in report", "run", "runs/1/config.yaml", texts.YAML, _REPORT, 1),
    Target("card in report", "run", "runs/1/corpus.yaml", texts.YAML, _REPORT, 1),
    Target("phases in report", "run", "runs/1/phases.json", texts.JSON, _REPORT, 2),
    Target("results in report", "run", "runs/1/results.csv", texts.CSV, _REPORT, 1),
    Target("predictions in report", "run", "runs/1/predictions.parquet", data.TABLES, _REPORT, 1),
    Target("metrics over time in report", "run", "runs/1/logs/metrics.csv", texts.CSV, _REPORT, 1),
    Target("predictions in diagnose", "run", "runs/1/predictions.parquet", data.TABLES, _DIAGNOSE, 1),
    Target("sweep file", "sweep", "", texts.YAML, _sweep, 2),
    Target("ablation file", "ablation", "", texts.YAML, _ablation, 8),
]


class Bench:
    """A folder with samples of some formats, in which one input after the other is made, read and removed."""

    def __init__(self, folder: Path, samples: list[str], watch: Watch, seed: int) -> None:
        self.folder, self.watch, self.seed = folder, watch, seed
        os.environ |= {"MER_DATA": str(folder / "data"), "XDG_CACHE_HOME": str(folder / "cache")}
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            self.samples = make(folder / "samples", samples)

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

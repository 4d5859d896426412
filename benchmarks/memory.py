"""Peak memory of training on an unaligned corpus of MOSEI's size: what the process holds beyond the mapped file."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.harness import Row

SIZES = {"train": 16326, "valid": 1871, "test": 4659}
STEPS = {"text": (768, 21), "audio": (74, 150), "vision": (35, 160)}  # width, mean steps


def memory_rows() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as place:
        corpus = Path(place, "mosei")
        _write(corpus)
        size = sum(file.stat().st_size for file in corpus.iterdir()) / 2**30
        for backbone, about in (("early", "what data and libraries take"), ("late_transformer", "and its activations")):
            options = [
                "--model", "supervised", "--model.backbone", backbone, "--data.corpus", str(corpus),
                "--trainer.max_steps", "40", "--trainer.limit_val_batches", "2", "--trainer.accelerator", "cpu",
                "--trainer.enable_progress_bar", "false", "--test_after_fit", "false",
                "--run_dir", f"{place}/{backbone}",
            ]  # fmt: skip
            peak = _peak_of([sys.executable, "-m", "mer_lightning.cli", "fit", *options])
            title = f"peak memory, MOSEI-sized, unaligned, {backbone}"
            note = f"{peak:.2f} GiB of private memory beside a mapped file of {size:.2f} GiB: {about}"
            said = ("private memory", "the mapped file")
            yield Row(title, *said, peak, size, peak / size, peak / size, peak / size, 0, "under 1.5 GB", note)


def _write(folder: Path) -> None:
    from mer_lightning.data.raw import LoadedSequences, RawCorpus
    from mer_lightning.data.store import write_corpus
    from mer_lightning.tasks import Regression

    draw = np.random.default_rng(0)
    total = sum(SIZES.values())
    features = {}
    for m, (width, mean) in STEPS.items():
        block = draw.normal(size=(1000, width)).astype(np.float32)
        lengths = np.clip(draw.gamma(4, mean / 4, total).astype(int), 1, 500)
        features[m] = LoadedSequences(lambda i, block=block, n=lengths: block[: n[i]], lengths.tolist(), width)
    split = np.repeat(np.arange(3, dtype=np.int8), list(SIZES.values()))
    raw = RawCorpus(
        "benchmark", folder, Regression(), "unaligned", features, {m: f"{m} of noise" for m in STEPS},
        draw.uniform(-3, 3, total).astype(np.float32), [f"{i}" for i in range(total)], {"official": split},
        [f"{i // 7}-{split[i]}" for i in range(total)],
    )  # fmt: skip
    write_corpus(raw, folder, "mosei")


def _peak_of(command: list[str]) -> float:
    """GiB of anonymous memory at the peak; pages of mapped files are not among it."""
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ)
    peak = 0
    while child.poll() is None:
        for line in Path(f"/proc/{child.pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                peak = max(peak, int(line.split()[1]))
        time.sleep(0.02)
    if child.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {child.returncode}")
    return peak / 2**20

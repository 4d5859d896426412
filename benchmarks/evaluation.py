"""Rows about evaluation, data and starting: protocols, first batches, Lightning's overhead, help."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger

from benchmarks.harness import Row, side_by_side
from benchmarks.training import weighted
from mer_lightning.backbones.base import all_backbones
from mer_lightning.data.corpus import open_corpus
from mer_lightning.data.datamodule import MERData
from mer_lightning.data.synthetic.twins import synthetic_corpus
from mer_lightning.evaluation.protocols import Protocol, freeze
from mer_lightning.methods.optimizing import with_fused_kernels
from mer_lightning.methods.supervised import Supervised


def protocol_rows(folder: Path) -> Iterator[Row]:
    corpus = open_corpus(synthetic_corpus("mosi", "aligned", folder, samples=1000))
    split = corpus.split("official", "test")
    batch = split.batch(torch.arange(len(split)))
    rates = [f"rate-cpm-0.{n}" for n in range(8)]
    for name in ("late_transformer", "tfn"):
        method = Supervised(corpus.dims, corpus.card.task, all_backbones()[name]).eval()
        single, seven, many = (freeze(Protocol(p), split) for p in (["tav"], ["fixed-7"], ["fixed-7", *rates]))

        def passes(frozen, method=method):
            with torch.inference_mode():
                for index in torch.arange(len(batch)).split(256):
                    method.condition_outputs(split.batch(index), frozen)

        one = ("one test pass", lambda s=single, p=passes: p(s))
        yield side_by_side(f"fixed-7, {name}", ("7 conditions", lambda s=seven, p=passes: p(s)), one, "under 1.5")
        title = f"fixed-7 and eight missing rates, {name}"
        yield side_by_side(title, ("15 conditions", lambda s=many, p=passes: p(s)), one, "under 3")


def first_batch_row(folder: Path) -> Iterator[Row]:
    """A pickle of 400 MB as MMSA has them, against the imported corpus."""
    draw = np.random.default_rng(0)
    sizes = {"train": 1000, "valid": 150, "test": 400}
    content = {}
    for split, n in sizes.items():
        content[split] = {
            "text": draw.normal(size=(n, 50, 768)).astype(np.float32),
            "audio": draw.normal(size=(n, 375, 5)).astype(np.float32),
            "vision": draw.normal(size=(n, 500, 40)).astype(np.float32),
            "audio_lengths": [375] * n,
            "vision_lengths": [500] * n,
            "id": [f"{split}{i}$_$0" for i in range(n)],
            "regression_labels": draw.uniform(-3, 3, n).astype(np.float32),
        }
    path = folder / "unaligned_50.pkl"
    with path.open("wb") as file:
        pickle.dump(content, file, protocol=4)
    del content
    command = [
        sys.executable,
        "-m",
        "mer_lightning.cli",
        "data",
        "import",
        str(path),
        "--as",
        "mosi",
        "-o",
        str(folder / "mosi"),
    ]
    subprocess.run(command, check=True, capture_output=True)

    def fresh(imports: str, work: str) -> Callable[[], tuple[float, float]]:
        """In a process of its own, as a run is: memory that was never used has to be had first."""
        code = (
            f"import time\n{imports}\nwall, cpu = time.perf_counter(), time.process_time()\n{work}\n"
            "print(time.perf_counter() - wall, time.process_time() - cpu)"
        )

        def call() -> tuple[float, float]:
            said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
            wall, cpu = map(float, said.split()[-2:])
            return wall, cpu

        return call

    unpickling = fresh("import pickle, numpy", f"with open({str(path)!r}, 'rb') as file: pickle.load(file)")
    ours = fresh(
        "from mer_lightning.data.datamodule import MERData\nfrom mer_lightning.training.machine import make_ready\n"
        "import pandas, safetensors.torch\nmake_ready()",
        f"data = MERData({str(folder / 'mosi')!r})\ndata.setup('fit')\nnext(iter(data.train_dataloader()))",
    )
    size = path.stat().st_size / 2**20
    yield side_by_side("open and first batch", ("unpickling", unpickling), ("ours", ours), "30", note=f"{size:.0f} MiB")


def overhead_row(folder: Path) -> Iterator[Row]:
    """The same model and batches under Lightning with our logging, and in a plain loop. Twenty epochs less the first
    five: what starting costs is not a step's."""
    place = synthetic_corpus("mosi", "aligned", folder, samples=1000)

    def parts() -> tuple[Supervised, MERData]:
        corpus = open_corpus(place)
        backbone = partial(all_backbones()["early"], width=8)
        return Supervised(corpus.dims, corpus.card.task, backbone), MERData(str(place))

    def lightning(epochs: int) -> float:
        method, data = parts()
        logger = CSVLogger(tempfile.mkdtemp(dir=folder))
        trainer = Trainer(
            max_epochs=epochs, accelerator="cpu", logger=logger, enable_progress_bar=False, enable_model_summary=False,
            enable_checkpointing=False, limit_val_batches=0, num_sanity_val_steps=0, use_distributed_sampler=False,
        )  # fmt: skip
        began = time.perf_counter()
        trainer.fit(method, datamodule=data)
        return time.perf_counter() - began

    def plain(epochs: int) -> float:
        method, data = parts()
        began = time.perf_counter()
        data.setup("fit")
        method.enter(method.phases()[0])
        optimizer = with_fused_kernels(torch.optim.AdamW(method.parameters(), lr=1e-3))
        loader = data.train_dataloader()
        for _ in range(epochs):
            for batch in loader:
                optimizer.zero_grad()
                weighted(method, method.inputs(batch)).backward()
                optimizer.step()
        return time.perf_counter() - began

    def steady(run: Callable[[int], float]) -> Callable[[], tuple[float, float]]:
        def measured() -> tuple[float, float]:
            cpu = time.process_time()
            seconds = run(20) - run(5)
            return seconds, (time.process_time() - cpu) * 15 / 25

        return measured

    _, data = parts()
    data.setup("fit")
    steps = 15 * len(data.train_dataloader())
    sides = ("Lightning", steady(lightning)), ("plain loop", steady(plain))
    row = side_by_side("a step under Lightning", *sides, "under 0.6 ms more", rounds=9)
    each = (row.slow_seconds - row.fast_seconds) / steps * 1000
    yield replace(row, note=f"{each:.2f} ms a step more, of {row.fast_seconds / steps * 1000:.1f} ms")


def start_rows() -> Iterator[Row]:
    def call(*words: str):
        return lambda: subprocess.run([sys.executable, *words], check=True, capture_output=True, env=os.environ)

    eager = call("-c", "import lightning, torch, pandas")
    help_ = call("-m", "mer_lightning.cli", "--help")
    yield side_by_side(
        "--help",
        ("importing lightning, torch, pandas", eager),
        ("mer-lightning --help", help_),
        "under 0.5 s",
        rounds=3,
    )


def evaluation_rows() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as place:
        yield from protocol_rows(Path(place))
        yield from overhead_row(Path(place))
        yield from first_batch_row(Path(place))
    yield from start_rows()

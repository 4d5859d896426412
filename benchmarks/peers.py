"""Rows that set whole epochs of MMSA 2.2.1 beside ours: training, validation and a checkpoint, from the same file."""

from __future__ import annotations

import importlib.metadata
import json
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.epochs import process
from benchmarks.harness import Row, side_by_side

Epochs = AbstractContextManager[Callable[[], tuple[float, float]]]  # each call: an epoch, its wall and CPU seconds

SHAPES = {
    "aligned": {"text": (50, 768), "audio": (50, 5), "vision": (50, 20)},
    "unaligned": {"text": (50, 768), "audio": (375, 5), "vision": (500, 20)},
}


@dataclass(frozen=True)
class Peer:
    """A model of MMSA and our backbone with its sizes; batch size and learning rate are those of MMSA for MOSI."""

    name: str
    backbone: str
    batch: int
    wanted: str
    alignment: str = "aligned"
    samples: int = 1284
    rounds: int = 5


PEERS = (
    Peer("TFN", "tfn", 32, "3.5"),
    Peer("LMF", "lmf", 64, "2"),
    Peer("MFN", "mfn", 128, "3", samples=640),
    Peer("MulT", "mult", 16, "2", samples=128),
    Peer("MulT", "mult", 16, "2.5", alignment="unaligned", samples=32, rounds=3),
)
MULT = ["width=50", "depth=4", "heads=10", "kernels=[5,5,5]", "attention_dropout=0.2", "dropout=0.2"]
_RATES = ("attn_dropout", "attn_dropout_a", "attn_dropout_v", "res_dropout", "embed_dropout", "relu_dropout")
OF_MMSA: dict[str, dict[str, Any]] = {
    "MFN": {"need_normalized": False},  # else it has one averaged step of audio and vision
    # Ours has no dropout on the features themselves, which theirs has on text.
    "MulT": {
        "update_epochs": 1,
        "grad_clip": -1.0,
        "text_dropout": 0.0,
        "output_dropout": 0.2,
        **dict.fromkeys(_RATES, 0.2),
    },
}


def peer_rows() -> Iterator[Row]:
    if not mmsa_is_here():
        return
    with tempfile.TemporaryDirectory() as place:
        for peer in PEERS:
            full = Path(place, f"{peer.alignment}-{peer.samples}-full")
            yield _row(peer, full, "mmsa", "the same architecture, every sample of full length")
            spoken = Path(place, f"{peer.alignment}-{peer.samples}-spoken")
            yield _row(peer, spoken, "fixed", "as each is used: lengths as in MOSI, ours reads no padding")


def recipe_rows() -> Iterator[Row]:
    """Ours trained in another way than theirs, which experiments/ablations has the scores of."""
    if not mmsa_is_here():
        return
    with tempfile.TemporaryDirectory() as place:
        for peer in PEERS:
            spoken = Path(place, f"{peer.alignment}-{peer.samples}-spoken")
            if peer.alignment == "aligned":
                yield _row(peer, spoken, "fixed", "ours has batches of like length", "--data.bucket", "true")
            if peer.backbone == "mult":
                yield _row(
                    peer, spoken, "fixed", "ours has no dropout on attention", "--model.backbone.attention_dropout", "0"
                )


def precision_rows() -> Iterator[Row]:
    """Ours alone: what 16 bits in products are worth on this processor."""
    with tempfile.TemporaryDirectory() as place:
        for peer in (peer for peer in PEERS if peer.alignment == "aligned"):
            folder = Path(place, f"{peer.alignment}-{peer.samples}-spoken")
            full, short = (
                our_epochs(peer, folder, "fixed", "--trainer.precision", precision)
                for precision in ("32-true", "bf16-mixed")
            )
            with full as slow, short as fast:
                title = f"{peer.name}, epoch, {peer.alignment}, 16 bits"
                yield side_by_side(title, ("32 bits", slow), ("bf16-mixed", fast), "", rounds=peer.rounds)


def mmsa_is_here() -> bool:
    """There are no rows without it: `pip install --no-deps MMSA==2.2.1`."""
    try:
        importlib.metadata.version("MMSA")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _row(peer: Peer, folder: Path, preset: str, note: str, *more: str) -> Row:
    with their_epochs(peer, folder) as theirs, our_epochs(peer, folder, preset, *more) as ours:
        title = " ".join([f"{peer.name}, epoch, {peer.alignment}, {preset}", *more])
        sides = ("MMSA", theirs), ("ours", ours)
        note = f"{note}; {peer.samples} samples in batches of {peer.batch}"
        return side_by_side(title, *sides, peer.wanted, rounds=peer.rounds, note=note)


def their_epochs(peer: Peer, folder: Path, device: str = "cpu") -> Epochs:
    options = {"batch_size": peer.batch, "learning_rate": 1e-3, "need_data_aligned": peer.alignment == "aligned"}
    options |= {"need_model_aligned": False, "device": device} | OF_MMSA.get(peer.name, {})
    return process("theirs", peer.name.lower(), str(_written(peer, folder)), json.dumps(options))


def our_epochs(peer: Peer, folder: Path, preset: str, *more: str) -> Epochs:
    _written(peer, folder)
    return process("ours", *_ours(peer, folder, preset), *more)


def _ours(peer: Peer, folder: Path, preset: str) -> list[str]:
    return [
        "--model", "supervised", "--model.backbone", peer.backbone, "--model.backbone.preset", preset,
        *(f"--model.backbone.{each}" for each in (MULT if peer.backbone == "mult" else ())),
        "--model.optimizer", "torch.optim.Adam", "--model.optimizer.lr", "1e-3", "--model.schedule", "constant",
        "--data.corpus", str(folder / "corpus"), "--data.batch_size", str(peer.batch),
        "--run_dir", tempfile.mkdtemp(dir=folder),
    ]  # fmt: skip


def _written(peer: Peer, folder: Path) -> Path:
    """A file as MMSA has them, and our import of it."""
    file = folder / f"{peer.alignment}_50.pkl"
    if file.exists():
        return file
    folder.mkdir()
    draw = np.random.default_rng(0)
    content = {}
    for split, n in {"train": peer.samples, "valid": peer.samples // 6, "test": 16}.items():
        # In MOSI a clip has 12 words of 50 in the median, and few have more than 30.
        words = np.full(n, 50) if folder.name.endswith("full") else np.clip(draw.gamma(3.2, 4.2, n).round(), 2, 50)
        content[split] = {
            "id": np.array([f"{split}{i}$_$0" for i in range(n)]),
            "raw_text": np.array(["words"] * n),
            "regression_labels": draw.uniform(-3, 3, n).astype(np.float32),
            "classification_labels": np.zeros(n),
        }
        for m, (steps, width) in SHAPES[peer.alignment].items():
            lengths = np.ceil(words * steps / 50).astype(int)
            values = draw.normal(size=(n, steps, width)).astype(np.float32)
            values[np.arange(steps) >= lengths[:, None]] = 0
            content[split][m] = values
            if peer.alignment == "unaligned":
                content[split][f"{m}_lengths"] = lengths.tolist()
    file.write_bytes(pickle.dumps(content, protocol=4))
    command = [sys.executable, "-m", "mer_lightning.cli", "data", "import", str(file), "--as", "mosi"]
    subprocess.run([*command, "-o", str(folder / "corpus")], check=True, capture_output=True)
    return file

"""Rows about training: CDaT's transfer step, MMSA's models, Lightning's overhead, many small runs."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from benchmarks.harness import Row, side_by_side
from benchmarks.transcription import transfer_step
from mer_lightning.backbones.base import all_backbones
from mer_lightning.batch import Batch
from mer_lightning.methods.base import MERMethod
from mer_lightning.methods.cdat import CDaT
from mer_lightning.methods.supervised import Supervised
from mer_lightning.tasks import Regression

DIMS = {"text": 768, "audio": 5, "vision": 20}


def made_batch(samples: int = 32, steps: int = 50) -> Batch:
    draw = torch.Generator().manual_seed(0)
    features = {m: torch.randn(samples, steps, d, generator=draw) for m, d in DIMS.items()}
    lengths = {m: torch.full((samples,), steps) for m in DIMS}
    target = torch.randn(samples, generator=draw)
    return Batch(features, lengths, torch.ones(samples, 3, dtype=torch.bool), target, torch.arange(samples))


def step_of(method: MERMethod, losses: Callable[[], Tensor]) -> Callable[[], None]:
    optimizer = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], lr=1e-4)

    def step() -> None:
        optimizer.zero_grad()
        losses().backward()
        optimizer.step()

    return step


def weighted(method: MERMethod, batch: Batch) -> Tensor:
    assert method.phase is not None
    total: Tensor = torch.stack([value * weight for value, weight in method.phase.losses(batch).values()]).sum()
    return total


def cdat_rows() -> Iterator[Row]:
    batch, card = made_batch(), Regression().card()
    for name in ("late_transformer", "tfn"):
        backbone = all_backbones()[name]
        ours, theirs = (CDaT(dims=DIMS, task_card=card, backbone=backbone) for _ in range(2))
        supervised = Supervised(DIMS, card, backbone)
        for method in (ours, theirs, supervised):
            method.enter(method.phases()[-1])
        step = step_of(ours, lambda ours=ours: weighted(ours, batch))
        released = step_of(theirs, lambda theirs=theirs: transfer_step(theirs, batch, 1e4))
        plain = step_of(supervised, lambda supervised=supervised: weighted(supervised, batch))
        title = f"CDaT transfer step, {name}"
        yield side_by_side(title, ("released procedure", released), ("ours", step), "4")
        yield side_by_side(f"{title}, cost", ("transfer", step), ("supervised", plain), "under 1.6")


class _PerSample(Dataset[dict[str, Tensor]]):
    """One sample at a time, as MMSA's own data set gives them to the default collation."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def __len__(self) -> int:
        return len(self.batch)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        assert self.batch.target is not None
        features = {m: f[index] for m, f in self.batch.features.items()}
        return {**features, "target": self.batch.target[index]}


MMSA_OPTIONS: dict[str, dict[str, Any]] = {
    "TFN": {"hidden_dims": [128, 32, 128], "text_out": 32, "post_fusion_dim": 64, "dropouts": [0.3, 0.3, 0.3, 0.5]},
    "LMF": {"hidden_dims": [128, 16, 128], "dropouts": [0.3, 0.3, 0.3, 0.3], "rank": 3},
    "MULT": {
        "dst_feature_dim_nheads": [50, 10], "nlevels": 4, "conv1d_kernel_size_l": 5, "conv1d_kernel_size_a": 5,
        "conv1d_kernel_size_v": 5, "attn_dropout": 0.3, "attn_dropout_a": 0.2, "attn_dropout_v": 0.0,
        "relu_dropout": 0.0, "embed_dropout": 0.2, "res_dropout": 0.2, "output_dropout": 0.1, "text_dropout": 0.1,
        "attn_mask": True,
    },
}  # fmt: skip
MODULES = {"TFN": "models.singleTask.TFN", "LMF": "models.singleTask.LMF", "MULT": "models.singleTask.MULT"}


def mmsa_rows() -> Iterator[Row]:
    """An epoch of a few batches: MMSA's class, fed sample by sample, against ours, fed by one gather."""
    import pytest

    from tests.backbones.mmsa_peer import mmsa_class

    batch = made_batch(128)
    dims = [DIMS["text"], DIMS["audio"], DIMS["vision"]]
    for name, wanted in (("TFN", "3.5"), ("LMF", "2"), ("MULT", "2")):
        try:
            cls = mmsa_class(MODULES[name], name)
        except pytest.skip.Exception:
            return
        options = SimpleNamespace(
            feature_dims=dims, train_mode="regression", num_classes=1, use_bert=False, need_data_aligned=True,
            seq_lens=[50, 50, 50], use_finetune=False, transformers="bert", pretrained="", **MMSA_OPTIONS[name],
        )  # fmt: skip
        peer: nn.Module = cls(options)
        sizes = (
            {"width": 50, "depth": 4, "heads": 10, "kernels": [5, 5, 5], "attention_dropout": 0.2}
            if name == "MULT"
            else {}
        )
        mine = Supervised(
            DIMS, Regression().card(), lambda d, n=name, s=sizes: all_backbones()[n.lower()](d, preset="mmsa", **s)
        )
        mine.enter(mine.phases()[0])
        yield side_by_side(
            f"{name}, training epoch, aligned",
            ("MMSA's class, its loop", _mmsa_epoch(peer, _averaged(batch) if name in ("TFN", "LMF") else batch)),
            ("ours", _our_epoch(mine, batch)),
            wanted,
            rounds=5,
            note="128 samples of 50 steps in batches of 32",
        )


def _averaged(batch: Batch) -> Batch:
    """For these models MMSA averages audio and vision over time once, when it loads a file."""
    features = {m: f if m == "text" else f.mean(1, keepdim=True) for m, f in batch.features.items()}
    return replace(batch, features=features)


def _mmsa_epoch(model: nn.Module, batch: Batch) -> Callable[[], None]:
    loader = DataLoader(_PerSample(batch), batch_size=32, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def epoch() -> None:
        model.train()
        for part in loader:
            optimizer.zero_grad()
            out = model(part["text"], part["audio"], part["vision"])
            said = out["M"] if isinstance(out, dict) else out
            loss = (said.view(-1) - part["target"]).abs().mean()
            loss.backward()
            optimizer.step()

    return epoch


def _our_epoch(method: Supervised, batch: Batch) -> Callable[[], None]:
    optimizer = torch.optim.Adam(method.parameters(), lr=1e-3, fused=True)

    def epoch() -> None:
        for index in torch.randperm(len(batch)).split(32):
            part = Batch(
                {m: f[index] for m, f in batch.features.items()},
                {m: n[index] for m, n in batch.lengths.items()},
                batch.present[index],
                None if batch.target is None else batch.target[index],
                index,
            )
            optimizer.zero_grad()
            weighted(method, part).backward()
            optimizer.step()

    return epoch


def study_row() -> Iterator[Row]:
    """Twelve tiny runs: a study's workers against a fresh process for each. Once each: it takes a minute."""
    with tempfile.TemporaryDirectory() as place:
        environment = os.environ | {"MER_DATA": f"{place}/data", "OMP_NUM_THREADS": "1"}
        tiny = [
            "--model",
            "supervised",
            "--model.backbone",
            "early",
            "--data.synthetic",
            "true",
            "--data.samples",
            "60",
        ]
        tiny += ["--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false", "--trainer.accelerator", "cpu"]
        fit = [sys.executable, "-m", "mer_lightning.cli", "fit", *tiny]
        subprocess.run([*fit, "--run_dir", f"{place}/first"], env=environment, check=True, capture_output=True)

        def fresh() -> None:
            for number in range(12):
                given = [*fit, "--seed_everything", str(number), "--run_dir", f"{place}/fresh-{os.urandom(4).hex()}"]
                subprocess.run(given, env=environment, check=True, capture_output=True)

        code = (
            "import sys\nfrom pathlib import Path\n"
            "from mer_lightning.studies.jobs import Job, run_silently\nfrom mer_lightning.studies.pool import run_all\n"
            "if __name__ == '__main__':\n"
            "    folder, given = Path(sys.argv[1]), sys.argv[2:]\n"
            "    jobs = [Job(folder / str(n), (*given, '--seed_everything', str(n))) for n in range(12)]\n"
            "    assert all(o.error is None for o in run_all(iter(jobs), run_silently, workers=1))\n"
        )
        Path(place, "study.py").write_text(code)

        def study() -> None:
            folder = f"{place}/study-{os.urandom(4).hex()}"
            given = [sys.executable, f"{place}/study.py", folder, *tiny]
            subprocess.run(given, env=environment, check=True, capture_output=True)

        yield side_by_side(
            "a study of 12 tiny runs, one worker",
            ("12 fresh processes", fresh),
            ("one study", study),
            "8",
            rounds=1,
            warm_up=0,
        )

"""Rows about training: CDaT's transfer step, MMSA's models, Lightning's overhead, many small runs."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.harness import Row, side_by_side
from benchmarks.transcription import transfer_step
from mer_lightning.backbones.base import BackboneFactory, all_backbones
from mer_lightning.batch import Batch
from mer_lightning.layers.dropout import Dropout
from mer_lightning.methods.base import MERMethod
from mer_lightning.methods.cdat.method import CDaT
from mer_lightning.methods.optimizing import with_fused_kernels
from mer_lightning.methods.supervised import Supervised
from mer_lightning.tasks import Regression

DIMS = {"text": 768, "audio": 5, "vision": 20}


def made_batch(samples: int = 32, steps: int = 50) -> Batch:
    draw = torch.Generator().manual_seed(0)
    features = {m: torch.randn(samples, steps, d, generator=draw) for m, d in DIMS.items()}
    lengths = {m: torch.full((samples,), steps) for m in DIMS}
    target = torch.randn(samples, generator=draw)
    return Batch(features, lengths, torch.ones(samples, 3, dtype=torch.bool), target, torch.arange(samples))


def adam(method: MERMethod) -> torch.optim.Optimizer:
    return torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], lr=1e-4)


def step_of(optimizer: torch.optim.Optimizer, losses: Callable[[], Tensor]) -> Callable[[], None]:
    def step() -> None:
        optimizer.zero_grad()
        losses().backward()
        optimizer.step()

    return step


def in_plain_torch(model: nn.Module) -> None:
    """Dropout as torch has it, in place."""
    for part in model.modules():
        for name, child in part.named_children():
            if isinstance(child, Dropout):
                setattr(part, name, nn.Dropout(child.rate))


def weighted(method: MERMethod, batch: Batch) -> Tensor:
    assert method.phase is not None
    total: Tensor = torch.stack([value * weight for value, weight in method.phase.losses(batch).values()]).sum()
    return total


def supervised_step(backbone: BackboneFactory, batch: Batch) -> Callable[[], None]:
    method = Supervised(DIMS, Regression().card(), backbone)
    method.enter(method.phases()[0])
    return step_of(with_fused_kernels(adam(method)), partial(weighted, method, batch))


def cdat_rows() -> Iterator[Row]:
    batch, card = made_batch(), Regression().card()
    for name in ("late_transformer", "tfn", "early", "bottleneck", "lmf", "lf_dnn", "lf_lstm", "mfn"):
        backbone = all_backbones()[name]
        ours, theirs = (CDaT(dims=DIMS, task_card=card, backbone=backbone) for _ in range(2))
        for method in (ours, theirs):
            method.enter(method.phases()[-1])
        step = step_of(with_fused_kernels(adam(ours)), lambda ours=ours: weighted(ours, batch))
        in_plain_torch(theirs)
        released = step_of(adam(theirs), lambda theirs=theirs: transfer_step(theirs, batch, 1e4))
        plain = supervised_step(backbone, batch)
        title = f"CDaT transfer step, {name}"
        note = "the released procedure in plain torch: its dropout, its default optimiser"
        yield side_by_side(title, ("released procedure", released), ("ours", step), "4", note=note)
        yield side_by_side(f"{title}, cost", ("transfer", step), ("supervised", plain), "under 1.6")


def attention_rows() -> Iterator[Row]:
    """Once torch's fused kernel no longer waits for oneDNN, layers/attention.py has little to do."""
    batch = made_batch()

    def by_torch(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, rate: float) -> Tensor:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=rate)

    for name in ("late_transformer", "bottleneck", "mult"):
        step = supervised_step(all_backbones()[name], batch)

        def fused_kernel(step: Callable[[], None] = step) -> None:
            with patch("mer_lightning.layers.attention.attend", by_torch):
                step()

        yield side_by_side(f"attention, {name}", ("torch's fused kernel", fused_kernel), ("ours", step), "")


def study_row() -> Iterator[Row]:
    """Twelve tiny runs: a study's workers against a fresh process for each. Three times, which takes five minutes."""
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
            "from mer_lightning.studies.jobs import Job\nfrom mer_lightning.studies.pool import ProcessPool\n"
            "from mer_lightning.studies.runner import Observer, run_study\n"
            "if __name__ == '__main__':\n"
            "    folder, given = Path(sys.argv[1]), sys.argv[2:]\n"
            "    jobs = [Job(folder / str(n), (*given, '--seed_everything', str(n))) for n in range(12)]\n"
            "    assert run_study(jobs, ProcessPool(1), Observer()) == []\n"
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
            rounds=3,
            warm_up=0,
        )

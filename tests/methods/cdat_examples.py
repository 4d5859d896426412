"""Small CDaTs in the phase that a test wants."""

from __future__ import annotations

import torch

from mer_lightning.backbones.early import Early
from mer_lightning.backbones.late_transformer import LateTransformer
from mer_lightning.contract import DIMS, TASKS
from mer_lightning.methods.cdat.method import CDaT
from mer_lightning.tasks import Task

SINGLE = TASKS["single_label"]


def make(task: Task = SINGLE, backbone=Early, **options) -> CDaT:
    torch.manual_seed(0)
    return CDaT(dims=DIMS, task_card=task.card(), backbone=backbone, **options)


def small_transformer(dims: dict[str, int]) -> LateTransformer:
    return LateTransformer(dims, width=8, depth=1)


def phase(method: CDaT, name: str) -> CDaT:
    method.enter(next(phase for phase in method.phases() if phase.name == name))
    return method.train()

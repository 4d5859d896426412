"""Metrics in a LightningModule, and the examples of their page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from mer_lightning import metrics
from mer_lightning.evaluation.metrics import evaluate
from mer_lightning.tasks import Regression, SingleLabel
from tests.metrics.test_metrics import CLASSES, PAGE, split_of


class Logging(LightningModule):
    """Hands batches to metrics and to `self.log`, as the page on metrics says."""

    def __init__(self) -> None:
        super().__init__()
        self.f1, self.accuracy = metrics.WeightedF1(), metrics.ClassAccuracy(1)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        logits, target = batch
        self.f1(logits, target)
        self.log("f1", self.f1)
        self.accuracy.update(logits, target)
        self.log("accuracy", self.accuracy, on_epoch=True)


def validated(module: LightningModule, logits: Tensor, target: Tensor, folder: Path) -> dict[str, float]:
    """What Lightning logs for one epoch of validation in three batches."""
    trainer = Trainer(accelerator="cpu", default_root_dir=folder, logger=False, enable_progress_bar=False)
    (values,) = trainer.validate(module, DataLoader(TensorDataset(logits, target), batch_size=20), verbose=False)
    return dict(values)


def test_lightning_logs_the_value_of_the_whole_epoch(tmp_path: Path) -> None:
    task = SingleLabel(CLASSES)
    logits, target = split_of(task)
    module, expected = Logging(), evaluate(task, logits, target)
    for _ in range(2):  # the second epoch starts from nothing
        values = validated(module, logits, target, tmp_path)
        assert values == pytest.approx({"f1": expected["wf1"], "accuracy": expected["1_acc"]}, abs=1e-7)


def test_the_examples_of_the_page_run(tmp_path: Path) -> None:
    section = PAGE.read_text().partition("## In a loop of your own")[2]
    loop, module = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    names: dict[str, Any] = {}
    exec(loop, names)
    logits, target = (torch.cat(each) for each in zip(*names["batches"], strict=True))
    expected = evaluate(Regression(), logits, target)
    assert {name: value.item() for name, value in names["values"].items()} == {
        "MAE": expected["mae"],
        "Acc7": expected["acc7"],
        "Non0Accuracy": expected["non0_acc2"],
    }
    exec(module, names)
    task = SingleLabel(CLASSES)
    values = validated(names["Mine"](), *split_of(task), tmp_path)
    assert values == {"valid/wf1": pytest.approx(evaluate(task, *split_of(task))["wf1"], abs=1e-7)}

"""A bar only where a person sits at a terminal."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from mer_lightning.training.progress import FitProgress


def test_where_colours_are_asked_for_without_a_terminal_there_is_no_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # as a notebook and many CIs do
    progress = FitProgress()
    assert progress._console.is_terminal  # what rich believes
    trainer: Any = SimpleNamespace(
        max_epochs=2, num_training_batches=3, current_epoch=0, global_step=0, callback_metrics={}, lightning_module=None
    )
    progress._trainer = trainer
    progress.on_train_start(trainer, None)
    progress.on_train_epoch_start(trainer, None)
    progress.on_train_end(trainer, None)
    assert capsys.readouterr().out.startswith("fit 1/2")

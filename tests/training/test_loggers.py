"""One flag per logger; W&B without a key writes offline and asks nobody."""

from __future__ import annotations

from pathlib import Path

import pytest

from mer_lightning.cli import main


@pytest.mark.parametrize(
    ("logger", "package", "pattern"),
    [("wandb", "wandb", "wandb/offline-run-*/*.wandb"), ("tensorboard", "tensorboard", "logs/events.out.*")],
)
def test_logger_writes_into_the_run_folder(
    logger: str, package: str, pattern: str, tiny_corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(package, reason=f"{package} is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))  # no key of the person who runs the tests
    monkeypatch.setenv("WANDB_SILENT", "true")
    for name in ("WANDB_API_KEY", "WANDB_MODE"):  # the second is restored afterwards, too
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    given = ["fit", "--model", "supervised", "--model.backbone", "early", "--data.corpus", str(tiny_corpus())]
    given += ["--logger", logger, "--run_dir", "run", "--trainer.max_epochs", "1", "--trainer.accelerator", "cpu"]
    assert main([*given, "--trainer.enable_progress_bar", "false"]) == 0
    assert list((tmp_path / "run").glob(pattern))

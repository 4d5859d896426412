"""One flag per logger; W&B without a key writes offline and asks nobody."""

from __future__ import annotations

from pathlib import Path

import pytest

from mer_lightning.cli import main
from mer_lightning.studies.ledger import open_ledger


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
    (run,) = open_ledger([tmp_path / "run"]).runs
    assert len(run.facts.curve) == 1  # the report has the curve, wherever else it was sent
    assert f"test/tav/{run.task.score[0]}" in run.metrics_over_time()


def test_without_a_logger_nothing_is_logged(tiny_corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = ["fit", "--model", "supervised", "--model.backbone", "early", "--data.corpus", str(tiny_corpus())]
    given += ["--trainer.logger", "false", "--run_dir", "run", "--trainer.max_epochs", "1"]
    assert main([*given, "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]) == 0
    assert not list((tmp_path / "run").rglob("metrics.csv"))

"""Every experiment in experiments/ runs: two steps of training and one of validation on a small synthetic twin."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from mer_lightning.cli import main

FOLDER = Path(__file__).resolve().parents[1] / "experiments"
EXPERIMENTS = sorted(path for path in FOLDER.rglob("*.yaml") if path.parent.name not in ("ablations", "sweeps"))


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=[str(path.relative_to(FOLDER)) for path in EXPERIMENTS])
def test_runs_on_the_synthetic_twin(
    experiment: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MER_DATA", str(tmp_path_factory.getbasetemp() / "data"))  # twins are made once per session
    monkeypatch.chdir(tmp_path)
    given = ["fit", "--config", str(experiment), "--data.synthetic", "true", "--data.samples", "60"]
    given += ["--trainer.limit_train_batches", "2", "--trainer.limit_val_batches", "1", "--trainer.max_epochs", "1"]
    given += ["--trainer.enable_progress_bar", "false", "--run_dir", "run", "--data.batch_size", "4"]
    given += ["--trainer.accelerator", "cpu", "--trainer.accumulate_grad_batches", "1"]
    assert main(given) == 0
    assert (tmp_path / "run" / "results.csv").is_file()


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=[str(path.relative_to(FOLDER)) for path in EXPERIMENTS])
def test_states_only_what_differs(experiment: Path) -> None:
    content = yaml.safe_load(experiment.read_text())
    assert experiment.read_text().startswith("#"), "an experiment begins by saying what it is"
    assert set(content) <= {"model", "data", "trainer", "protocol", "patience", "name", "seed_everything"}

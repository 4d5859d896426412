"""Every experiment in experiments/ runs: two steps of training and one of validation on a small synthetic twin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from mer_lightning.cli import main
from mer_lightning.data.synthetic.twins import SHAPES

FOLDER = Path(__file__).resolve().parents[1] / "experiments"
EXPERIMENTS = sorted(path for path in FOLDER.rglob("*.yaml") if path.parent.name not in ("ablations", "sweeps"))
SHORT = ["--trainer.limit_train_batches", "2", "--trainer.limit_val_batches", "1", "--trainer.max_epochs", "1"]
SHORT += ["--trainer.enable_progress_bar", "false", "--trainer.accelerator", "cpu"]
SHORT += ["--trainer.accumulate_grad_batches", "1"]


NO_TWIN = [path for path in EXPERIMENTS if yaml.safe_load(path.read_text())["data"]["corpus"] not in SHAPES]
TWINS = [path for path in EXPERIMENTS if path not in NO_TWIN]


def by_speed(paths: list[Path], ending: str) -> list[Any]:
    """Experiments of backbones on one corpus wait for the slow suite: what they name runs quickly on another one."""
    return [
        pytest.param(
            path,
            id=str(path.relative_to(FOLDER)),
            marks=[pytest.mark.slow] * (path.parent.name == "backbones" and path.stem.endswith(ending)),
        )
        for path in paths
    ]


@pytest.mark.parametrize("experiment", by_speed(TWINS, "_mosei"))
def test_runs_on_the_synthetic_twin(
    experiment: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MER_DATA", str(tmp_path_factory.getbasetemp() / "data"))  # twins are made once per session
    monkeypatch.chdir(tmp_path)
    given = ["fit", "--config", str(experiment), "--data.synthetic", "true", "--data.samples", "60"]
    assert main([*given, *SHORT, "--run_dir", "run", "--data.batch_size", "4"]) == 0
    assert (tmp_path / "run" / "results.csv").is_file()


@pytest.fixture(scope="module")
def two_modalities(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An aligned corpus of text and vision in three classes, whose samples lack vision here and there."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("two")
    label, lengths = np.arange(48) % 3, rng.integers(2, 6, 48)
    values = {m: rng.normal(size=(48, 5, width)) for m, width in (("text", 6), ("vision", 4))}
    np.savez(
        folder / "two.npz",
        ids=np.array([f"clip{i}" for i in range(48)]),
        **values,
        text_lengths=lengths,
        vision_lengths=np.where(np.arange(48) % 5, lengths, 0),
        label=label,
        classes=np.array(["sad", "glad", "calm"]),
        split=np.array(["train"] * 30 + ["valid"] * 9 + ["test"] * 9),
    )
    assert main(["data", "import", str(folder / "two.npz"), "--as", "two", "-o", str(folder / "two")]) == 0
    return folder / "two"


ON_TWO = [*(path for path in EXPERIMENTS if path.stem.endswith("_mosi")), *NO_TWIN]


@pytest.mark.parametrize("experiment", by_speed(ON_TWO, "_mosi"))
def test_runs_on_two_modalities(
    experiment: Path, two_modalities: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each method and each backbone has an experiment on MOSI."""
    monkeypatch.chdir(tmp_path)
    given = ["fit", "--config", str(experiment), "--data.corpus", str(two_modalities), *SHORT]
    assert main([*given, "--run_dir", "run", "--data.batch_size", "4"]) == 0
    results = pd.read_csv(tmp_path / "run" / "results.csv")
    assert {"t", "v", "tv", "mean-3", "v natural-subset", "tv natural-subset"} == set(results["condition"])


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=[str(path.relative_to(FOLDER)) for path in EXPERIMENTS])
def test_states_only_what_differs(experiment: Path) -> None:
    content = yaml.safe_load(experiment.read_text())
    assert experiment.read_text().startswith("#"), "an experiment begins by saying what it is"
    assert set(content) <= {"model", "data", "trainer", "protocol", "patience", "name", "seed_everything"}

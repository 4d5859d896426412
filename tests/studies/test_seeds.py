"""How often studies repeat a run, and with which seeds: what a reader of their tables is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from mer_lightning.studies.ablation import read_ablation
from mer_lightning.studies.reproduction import find_experiments, plan

FIVE = [1111, 1112, 1113, 1114, 1115]


@pytest.fixture
def experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MER_DATA", str(tmp_path / "data"))
    path = tmp_path / "tiny.yaml"
    path.write_text("data: {corpus: mosi}\n")
    return path


@pytest.mark.parametrize(("budget", "seeds"), [("quick", FIVE[:3]), ("paper", FIVE)])
def test_a_reproduction_has_three_or_five_seeds(budget: str, seeds: list[int], experiment: Path) -> None:
    jobs = plan(find_experiments([str(experiment)], experiment.parent, budget), budget, Path("runs"))
    given = [job.arguments[job.arguments.index("--seed_everything") + 1] for job in jobs]
    assert given == [str(seed) for seed in seeds]


def test_an_ablation_that_does_not_say_has_five_seeds(experiment: Path) -> None:
    file = experiment.parent / "parts.yaml"
    file.write_text("full: tiny.yaml\nwithout: {transfer: {model.preset: baseline}}\n")
    assert read_ablation(file).repeat == tuple({"seed_everything": seed} for seed in FIVE)

"""`mer-lightning reproduce`: all runs, done ones skipped, one table per corpus."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from mer_lightning.cli import main
from mer_lightning.studies import reproduce

EXPERIMENT = """# A tiny experiment.
model:
  class_path: supervised
  init_args:
    backbone: {class_path: early, init_args: {width: 8}}
data: {corpus: mosi, samples: 60}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MER_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    budget = reproduce.Budget(epochs=1, seeds=2, seconds=1)
    monkeypatch.setitem(reproduce.BUDGETS, "quick", budget)
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "tiny.yaml").write_text(EXPERIMENT)
    return tmp_path


def in_this_process(console, jobs) -> None:
    for job in jobs:
        job.run()


def test_runs_once_and_reports(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reproduce, "_run_all", in_this_process)  # a worker would not see the small budget
    assert main(["reproduce"]) == 0
    said = capsys.readouterr().out
    assert "2 runs, 0 done" in said
    assert "mosi-aligned (synthetic)" in said
    assert "constant" in said
    runs = sorted((folder / "runs/reproduce/quick/tiny-synthetic").iterdir())
    assert [run.name for run in runs] == ["seed-1111", "seed-1112"]
    mean = pd.concat([pd.read_csv(run / "results.csv") for run in runs]).query("condition == 'tav' and metric == 'mae'")
    expected = f"{mean['value'].mean():.3f}±{mean['value'].std():.3f}".replace("0.", ".")
    assert expected in said

    stamps = [(run / "results.csv").stat().st_mtime_ns for run in runs]
    assert main(["reproduce", "tiny"]) == 0
    assert "2 runs, 2 done" in capsys.readouterr().out
    assert [(run / "results.csv").stat().st_mtime_ns for run in runs] == stamps


def test_an_edited_experiment_runs_again(folder: Path) -> None:
    job = reproduce.Job(folder / "experiments/tiny.yaml", 1111, True, "quick", folder / "runs")
    job.run()
    assert job.done
    (folder / "experiments/tiny.yaml").write_text(EXPERIMENT.replace("width: 8", "width: 9"))
    assert not job.done


def test_an_interrupted_run_is_not_done(folder: Path) -> None:
    job = reproduce.Job(folder / "experiments/tiny.yaml", 1111, True, "quick", folder / "runs")
    job.run()
    (job.folder / "results.csv").unlink()
    assert not job.done


def test_worker_processes_do_the_same(folder: Path) -> None:
    from rich.console import Console

    jobs = [reproduce.Job(folder / "experiments/tiny.yaml", seed, True, "quick", folder / "runs") for seed in (1, 2)]
    reproduce._run_all(Console(quiet=True), jobs)
    assert all(pd.read_csv(job.folder / "results.csv")["seed"].eq(job.seed).all() for job in jobs)


def test_unknown_experiment_names_those_there_are(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "tny"]) == 2
    assert "tiny" in capsys.readouterr().err

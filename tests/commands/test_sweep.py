"""`mer-lightning sweep`: every trial once, in spite of kills; chosen on validation; pruned where Hyperband says so."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

from mer_lightning.cli import main

BASE = """# A tiny experiment.
model:
  class_path: supervised
  init_args:
    backbone: {class_path: early, init_args: {width: 8}}
data: {corpus: mosi, samples: 60, synthetic: true}
trainer: {max_epochs: 1, accelerator: cpu}
"""
COMMAND = ["${env}", "mer-lightning", "fit", "--config", "base.yaml", "--config", "${args_json_file}"]
METRIC = {"name": "valid/score", "goal": "maximize"}
RATE = {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-1}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("optuna")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MER_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (tmp_path / "base.yaml").write_text(BASE)
    return tmp_path


def write(folder: Path, **content) -> str:
    (folder / "tiny.yaml").write_text(yaml.safe_dump({"command": COMMAND, "metric": METRIC} | content))
    return "tiny.yaml"


def trials(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "runs/sweeps/tiny/trials.csv").sort_values("trial")


def test_a_grid_runs_once_and_is_chosen_by_validation(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(
        folder,
        method="grid",
        parameters={"model.optimizer.lr": {"values": [0.0, 1e-2]}, "data.batch_size": {"values": [8, 16]}},
    )
    assert main(["sweep", file, "--workers", "2"]) == 0
    table = trials(folder)
    assert table["state"].tolist() == ["complete"] * 4
    points = list(zip(table["data.batch_size"], table["model.optimizer.lr"], strict=True))
    assert points == [(8, 0.0), (8, 0.01), (16, 0.0), (16, 0.01)]
    for _, row in table.iterrows():
        log = pd.read_csv(folder / f"runs/sweeps/tiny/trial-{row['trial']:04d}/run/logs/metrics.csv")
        assert row["valid/score"] == pytest.approx(log["valid/score"].max())
    assert "test scores played no part" in capsys.readouterr().out
    stamps = [path.stat().st_mtime_ns for path in sorted(folder.rglob("results.csv"))]
    assert main(["sweep", file]) == 0
    assert [path.stat().st_mtime_ns for path in sorted(folder.rglob("results.csv"))] == stamps


def test_a_trial_is_repeated_and_its_score_is_the_mean(folder: Path) -> None:
    parameters = {"model.optimizer.lr": RATE, "seed_everything": {"values": [1, 2]}}
    assert main(["sweep", write(folder, method="random", run_cap=1, parameters=parameters)]) == 0
    logs = [pd.read_csv(path)["valid/score"].max() for path in sorted(folder.rglob("metrics.csv"))]
    assert len(logs) == 2
    assert logs[0] != logs[1]
    assert trials(folder)["valid/score"].tolist() == pytest.approx([sum(logs) / 2])


def test_a_failed_trial_is_reported_and_the_others_go_on(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", write(folder, method="grid", parameters={"data.batch_size": {"values": [1, 8]}})]) == 0
    assert trials(folder)["state"].tolist() == ["fail", "complete"]
    printed = " ".join(capsys.readouterr().out.split())
    assert "trial 0: failed: --data.batch_size: expected 2 or more; found 1" in printed
    assert "trial 1: valid/score -" in printed


def test_a_mistake_in_the_file_starts_no_trial(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", write(folder, method="grid", parameters={"data.batchsize": {"values": [4, 8]}})]) == 2
    assert "did you mean --data.batch_size?" in capsys.readouterr().err
    assert not list(folder.rglob("*.log"))


def test_a_sweep_without_a_trial_that_succeeded_has_failed(folder: Path) -> None:
    assert main(["sweep", write(folder, method="grid", parameters={"data.batch_size": {"values": [1]}})]) == 1


@pytest.mark.slow
def test_hyperband_stops_the_worst(folder: Path) -> None:
    """Training with a learning rate of ten does not settle: it is stopped early, and the others are not."""
    rates = {"model.optimizer.lr": {"values": [1e-2, 3e-3, 1e-3, 10.0, 10.0, 10.0, 10.0, 10.0]}}
    early = {"type": "hyperband", "min_iter": 1, "max_iter": 9, "eta": 3}
    file = write(folder, method="grid", parameters=rates, early_terminate=early)
    (folder / "base.yaml").write_text(BASE.replace("max_epochs: 1", "max_epochs: 9") + "patience: 20\n")
    assert main(["sweep", file, "--workers", "1"]) == 0
    table = trials(folder)
    pruned = table[table["state"] == "pruned"]
    assert len(table) == 8
    assert len(pruned) >= 2
    assert set(pruned["model.optimizer.lr"]) == {10.0}


@pytest.mark.slow
def test_a_sweep_whose_process_is_killed(folder: Path) -> None:
    """60 trials with 2 workers: the study is killed with SIGKILL, then a worker of the second start, then its server.

    The server is the process that starts the workers.
    """
    file = write(folder, method="random", run_cap=60, parameters={"model.optimizer.lr": RATE})
    command = [sys.executable, "-m", "mer_lightning.cli", "sweep", file, "--workers", "2"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}

    def wait_for(count: int, study: subprocess.Popen) -> None:
        while len(list(folder.rglob("results.csv"))) < count:
            assert study.poll() is None
            time.sleep(0.1)

    study = subprocess.Popen(command, env=environment, cwd=folder, stdout=subprocess.DEVNULL)
    wait_for(20, study)
    study.kill()
    study.wait()
    study = subprocess.Popen(command, env=environment, cwd=folder, stdout=subprocess.DEVNULL)
    wait_for(35, study)
    parents = forkserver_processes(folder)
    (server,) = [pid for pid, parent in parents.items() if parent not in parents]
    workers = [pid for pid, parent in parents.items() if parent == server]
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)
    wait_for(45, study)
    os.kill(server, signal.SIGKILL)
    assert study.wait(timeout=300) == 0
    table = trials(folder)
    assert table["trial"].tolist() == list(range(60))
    assert table["state"].tolist() == ["complete"] * 60
    assert table["model.optimizer.lr"].nunique() == 60


def forkserver_processes(folder: Path) -> dict[int, int]:
    """{process: its parent} of the server that starts a study's workers, and of the workers."""
    listed = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
    processes = (line.split(maxsplit=2) for line in listed.splitlines()[1:])
    return {
        int(pid): int(parent)
        for pid, parent, command in processes
        if "forkserver" in command and Path(f"/proc/{pid}/cwd").resolve() == folder.resolve()
    }

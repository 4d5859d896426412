"""A sweep: every trial once, in spite of kills; chosen on validation; pruned where Hyperband says so."""

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
from mer_lightning.studies.search import Search
from mer_lightning.studies.sweep_file import read_sweep

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
    found = trials(folder)
    assert found["state"].tolist() == ["complete"] * 4
    points = list(zip(found["data.batch_size"], found["model.optimizer.lr"], strict=True))
    assert points == [(8, 0.0), (8, 0.01), (16, 0.0), (16, 0.01)]
    for _, row in found.iterrows():
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


def test_another_content_of_the_file_is_another_sweep(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Search(
        read_sweep(Path(write(folder, method="random", run_cap=1, parameters={"model.optimizer.lr": RATE}))),
        Path("x"),
        1,
    )
    changed = read_sweep(Path(write(folder, method="random", run_cap=2, parameters={"model.optimizer.lr": RATE})))
    with pytest.raises(Exception, match="another content"):
        Search(changed, Path("x"), 1)


def test_a_failed_trial_is_told_and_the_others_go_on(folder: Path) -> None:
    assert main(["sweep", write(folder, method="grid", parameters={"data.batch_size": {"values": [1, 8]}})]) == 0
    assert trials(folder)["state"].tolist() == ["fail", "complete"]


def pretend(search: Search, scores: dict[int, float], until: int) -> list[int]:
    """Hands out trials and tells their scores, until somebody kills it."""
    numbers = []
    for trial in search.waiting():
        numbers.append(trial.number)
        if len(numbers) == until:
            return numbers
        search.tell(trial, scores.setdefault(trial.number, -((trial.overrides["x"] - 0.3) ** 2)), pruned=False)
    return numbers


@pytest.mark.parametrize("method", ["random", "bayes"])
def test_sixty_trials_none_twice(folder: Path, method: str) -> None:
    """Killed after every seventh trial, with one trial handed out and not told each time."""
    sweep = read_sweep(Path(write(folder, method=method, run_cap=60, parameters={"x": {"min": 0.0, "max": 1.0}})))
    scores: dict[int, float] = {}
    handed: list[int] = []
    for _ in range(30):
        handed += pretend(Search(sweep, folder / "study", 60), scores, until=7)
    finished = Search(sweep, folder / "study", 60).finished()
    assert [trial.number for trial, _, _ in finished] == list(range(60))
    assert {state for _, state, _ in finished} == {"complete"}
    assert sorted(scores) == list(range(60))
    # A killed trial is handed out a second time, under its own number and with its own values.
    assert len(handed) > 60
    assert len({trial.overrides["x"] for trial, _, _ in finished}) == 60


def test_random_trials_are_the_same_after_a_kill(folder: Path) -> None:
    sweep = read_sweep(Path(write(folder, method="random", run_cap=9, parameters={"x": {"min": 0.0, "max": 1.0}})))
    whole = Search(sweep, folder / "whole", 9)
    pretend(whole, {}, until=99)
    for _ in range(4):
        broken = Search(sweep, folder / "broken", 9)
        pretend(broken, {}, until=4)
    values = [[trial.overrides["x"] for trial, _, _ in search.finished()] for search in (whole, broken)]
    assert values[0] == values[1] == [sweep.random_point(n)["x"] for n in range(9)]


def test_bayes_looks_where_it_is_good(folder: Path) -> None:
    sweep = read_sweep(Path(write(folder, method="bayes", run_cap=60, parameters={"x": {"min": 0.0, "max": 1.0}})))
    search = Search(sweep, folder / "study", 60)
    pretend(search, {}, until=99)
    late = [trial.overrides["x"] for trial, _, _ in search.finished()][40:]
    assert sum(abs(x - 0.3) < 0.1 for x in late) > 10  # 4 by chance


def test_every_kind_of_parameter_survives_the_storage(folder: Path) -> None:
    parameters = {
        "list": {"values": [[1, 2], [3]]},
        "nothing": {"values": [None]},
        "flag": {"values": [True, False]},
        "whole": {"min": 1, "max": 5},
        "step": {"distribution": "q_uniform", "min": 0.0, "max": 1.0, "q": 0.25},
        "power": {"distribution": "q_log_uniform_values", "min": 16, "max": 256, "q": 16},
        "rate": RATE,
        "normal": {"distribution": "normal", "mu": 1.0, "sigma": 0.1},
    }
    sweep = read_sweep(Path(write(folder, method="random", run_cap=8, parameters=parameters)))
    search = Search(sweep, folder / "study", 8)
    found = [trial.overrides for trial in search.waiting()]
    assert found == [sweep.random_point(number) for number in range(8)]
    assert all(isinstance(point["power"], int) for point in found)


def test_hyperband_stops_the_worst(folder: Path) -> None:
    """A learning rate of ten leaps about: it is given up early, and the others are not."""
    rates = {"model.optimizer.lr": {"values": [1e-2, 3e-3, 1e-3, 10.0, 10.0, 10.0, 10.0, 10.0]}}
    early = {"type": "hyperband", "min_iter": 1, "max_iter": 9, "eta": 3}
    file = write(folder, method="grid", parameters=rates, early_terminate=early)
    (folder / "base.yaml").write_text(BASE.replace("max_epochs: 1", "max_epochs: 9") + "patience: 20\n")
    assert main(["sweep", file, "--workers", "1"]) == 0
    found = trials(folder)
    pruned = found[found["state"] == "pruned"]
    assert len(found) == 8
    assert len(pruned) >= 2
    assert set(pruned["model.optimizer.lr"]) == {10.0}


@pytest.mark.slow
def test_a_sweep_whose_process_is_killed(folder: Path) -> None:
    """60 trials with 2 workers: the study is killed half-way with SIGKILL, then a worker of the second start is."""
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
    wait_for(40, study)
    for line in subprocess.run(
        ["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True
    ).stdout.splitlines():
        pid, _, said = line.strip().partition(" ")
        if "forkserver" in said and str(folder) in Path(f"/proc/{pid}/cwd").resolve().as_posix():
            os.kill(int(pid), signal.SIGKILL)
            break
    assert study.wait(timeout=300) == 0
    found = trials(folder)
    assert found["trial"].tolist() == list(range(60))
    assert found["state"].tolist() == ["complete"] * 60
    assert found["model.optimizer.lr"].nunique() == 60

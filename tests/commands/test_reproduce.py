"""`mer-lightning reproduce`: all runs, done ones skipped, one table per corpus."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from mer_lightning.cli import main
from mer_lightning.studies.reproduction import BUDGETS, Budget

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
    monkeypatch.setitem(BUDGETS, "quick", Budget(2, 2, (), ("--data.samples", "60"), seconds=1))
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "tiny.yaml").write_text(EXPERIMENT)
    return tmp_path


def test_runs_once_and_reports(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce"]) == 0
    printed = capsys.readouterr().out
    assert "2 runs, 0 done" in printed
    assert "mosi-aligned (synthetic)" in printed
    assert "constant" in printed
    results = sorted((folder / "runs/reproduce/quick/tiny-synthetic").rglob("results.csv"))
    assert [path.parts[-3] for path in results] == ["seed-1111", "seed-1112"]
    mean = pd.concat(map(pd.read_csv, results)).query("condition == 'tav' and metric == 'mae'")
    expected = f"{mean['value'].mean():.3f}±{mean['value'].std():.3f}".replace("0.", ".")
    assert expected in printed

    stamps = [path.stat().st_mtime_ns for path in results]
    assert main(["reproduce", "tiny"]) == 0
    assert "2 runs, 2 done" in capsys.readouterr().out
    assert [path.stat().st_mtime_ns for path in results] == stamps


def test_an_unknown_name_lists_what_there_is(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "tinny"]) == 2
    assert "tiny" in capsys.readouterr().err


def test_a_failed_run_is_reported_and_the_others_go_on(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "experiments" / "wrong.yaml").write_text(EXPERIMENT.replace("width: 8", "width: 8.5"))
    assert main(["reproduce"]) == 1
    printed = capsys.readouterr().out
    assert printed.count("failed: ") == 2
    assert printed.count("8.5") == 2  # the reason
    assert "mosi-aligned (synthetic), test split of official" in " ".join(printed.split())


@pytest.mark.slow
def test_killed_ten_times_and_started_again(folder: Path) -> None:
    """SIGKILL at ten random moments of a study of three phases: the same results as of an undisturbed one."""
    cdat = EXPERIMENT.replace("supervised", "cdat").replace("init_args:\n", "init_args:\n    weight: 1.0\n", 1)
    (folder / "experiments" / "cdat.yaml").write_text(cdat)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}

    def start(runs: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "mer_lightning.cli", "reproduce", "--runs", runs]
        return subprocess.Popen(command, env=environment, cwd=folder, stdout=subprocess.DEVNULL)

    assert start("whole").wait(timeout=300) == 0
    draw, kills = random.Random(0), 0
    for _ in range(10):
        study = start("killed")
        try:
            study.wait(timeout=draw.uniform(2, 9))
        except subprocess.TimeoutExpired:
            study.kill()
            study.wait()
            kills += 1
    assert kills >= 3
    assert start("killed").wait(timeout=300) == 0
    whole = {path.relative_to(folder / "whole"): path.read_text() for path in (folder / "whole").rglob("results.csv")}
    killed = {
        path.relative_to(folder / "killed"): path.read_text() for path in (folder / "killed").rglob("results.csv")
    }
    assert len(whole) == 6
    assert whole == killed
    scores = [pd.read_csv(folder / name / "quick/report/scores.csv") for name in ("whole", "killed")]
    pd.testing.assert_frame_equal(*scores)

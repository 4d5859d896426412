"""The scripts of docs/how-to/slurm.md on a controller of SLURM: a run that is requeued, and a sweep by an array."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.studies.test_many_machines import database as database

pytestmark = pytest.mark.slow
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "slurm.md"
FIT = "--data.synthetic true --data.samples 400 --model.backbone early --trainer.max_epochs 30 --patience 30"


def asked(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout


if not shutil.which("sinfo") or subprocess.run(["sinfo"], capture_output=True).returncode:
    pytest.skip("needs a running SLURM", allow_module_level=True)


@pytest.fixture
def scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return re.findall(r"```bash\n(.*?)```", PAGE.read_text(), re.DOTALL)


def submit(name: str, script: str) -> str:
    Path(name).write_text(script)
    return asked("sbatch", "--parsable", name).strip()


def wait(job: str, seconds: float = 240) -> None:
    """Until it is over; one whose requeuing is delayed is let go at once."""
    until = time.monotonic() + seconds
    while asked("squeue", "-h", "-j", job, "-o", "%T").strip():
        assert time.monotonic() < until, Path(".").glob("*.log")
        subprocess.run(["scontrol", "update", f"jobid={job}", "starttime=now"], capture_output=True)
        time.sleep(1)


def test_a_run_that_is_requeued_ends_as_one_that_nobody_disturbed(scripts: list[str]) -> None:
    script = scripts[0].replace("--data.synthetic true", FIT)
    job = submit("cdat.sh", script)
    last = Path("runs/cdat/1/checkpoints/fusion/last.ckpt")
    until = time.monotonic() + 120
    while not last.is_file():
        assert time.monotonic() < until, Path("cdat.log").read_text()
        time.sleep(0.2)
    asked("scontrol", "requeue", job)
    wait(job)
    assert "runs/cdat/1: config, checkpoints, results, predictions" in Path("cdat.log").read_text()
    undisturbed = script.replace("runs/cdat/1", "runs/cdat/2").replace("cdat.log", "other.log")
    wait(submit("other.sh", undisturbed))
    assert Path("runs/cdat/1/results.csv").read_bytes() == Path("runs/cdat/2/results.csv").read_bytes()


def test_a_sweep_by_an_array_draws_each_trial_once(scripts: list[str], database: str) -> None:
    Path("small.yaml").write_text(
        "name: slurm\nmethod: random\nmetric: {name: valid/score, goal: maximize}\nrun_cap: 6\n"
        "command: [mer-lightning, fit, --config, base.yaml, --config, '${args_json_file}']\n"
        "parameters:\n  model.optimizer.lr: {min: 0.001, max: 0.01}\n"
    )
    Path("base.yaml").write_text(
        "model: {class_path: supervised, init_args: {backbone: early}}\n"
        "data: {corpus: mosi, synthetic: true, samples: 60}\ntrainer: {max_epochs: 2}\n"
    )
    script = scripts[1].replace("cdat_weight", "small.yaml").replace("postgresql://mer@database/sweeps", database)
    wait(submit("sweep.sh", script.replace("--array=0-3", "--array=0-1")))
    folders = list(Path("runs").glob("sweep-*/slurm/*/run/results.csv"))
    assert len(folders) == 6, Path("sweep-0.log").read_text()
    assert len({path.parts[3] for path in folders}) == 6

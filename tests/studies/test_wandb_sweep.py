"""A sweep file under the real `wandb sweep` and `wandb agent`, against a stand-in for W&B's server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.studies.sweep_server import SweepServer, sweep_server

pytest.importorskip("wandb")

BASE = """
model:
  class_path: supervised
  init_args: {backbone: {class_path: early}}
data: {synthetic: true, samples: 60}
trainer: {max_epochs: 1, accelerator: cpu, enable_progress_bar: false, logger: true}
"""
COMMAND = ["${env}", sys.executable, "-m", "mer_lightning.cli", "fit", "--config", "base.yaml"]
COMMAND += ["--config", "${args_json_file}", "--logger", "wandb"]
RATES = [-1.0, 0.01]  # no optimiser takes the first


def wandb_client(folder: Path, server: SweepServer, *words: str) -> str:
    places = {f"WANDB_{name}": str(folder / "wandb-places" / name) for name in ("CACHE_DIR", "CONFIG_DIR", "DATA_DIR")}
    environment = os.environ | places | {
        "WANDB_BASE_URL": server.url,
        "WANDB_API_KEY": "0" * 40,
        "WANDB_ENTITY": "nobody",
        "WANDB_PROJECT": "tests",
        "WANDB_ERROR_REPORTING": "false",
        "WANDB_MODE": "offline",  # of the runs: the stand-in knows nothing of their files
        "MER_DATA": str(folder / "data"),
        "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-m", "wandb", *words], cwd=folder, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    ) as client:  # fmt: skip
        try:
            printed, _ = client.communicate(timeout=300)
        except subprocess.TimeoutExpired:
            os.killpg(client.pid, 9)
            raise
    assert client.returncode == 0, printed
    return printed


@pytest.mark.slow
def test_the_same_file_runs_under_wandb(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(BASE)
    content = {
        "name": "tiny",
        "method": "grid",
        "metric": {"name": "valid/score", "goal": "maximize"},
        "command": COMMAND,
        "parameters": {"model.optimizer.lr": {"values": RATES}, "seed_everything": {"values": [7]}},
    }
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(content))
    with sweep_server() as server:
        assert "wandb agent nobody/tests/s1" in wandb_client(tmp_path, server, "sweep", "sweep.yaml")
        assert server.config == content
        printed = wandb_client(tmp_path, server, "agent", "nobody/tests/s1")
    assert server.unknown == []
    points = [{"model.optimizer.lr": rate, "seed_everything": 7} for rate in RATES]
    assert list(server.started.values()) == points  # the second came after the first had failed
    assert "learning rate" in printed
    (results,) = tmp_path.rglob("results.csv")
    assert set(pd.read_csv(results)["seed"]) == {7}
    config = yaml.safe_load((results.parent / "config.yaml").read_text())
    assert config["model"]["init_args"]["optimizer"]["init_args"]["lr"] == RATES[1]
    (log,) = tmp_path.rglob("run-run1.wandb")  # the agent's name for the run: it belongs to the sweep
    assert log.stat().st_size > 0

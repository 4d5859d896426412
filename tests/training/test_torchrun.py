"""Two agents of torchrun, as on two machines, fit to the digits of one agent with two processes."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pytestmark = pytest.mark.slow

FIT = (
    *("fit", "--model", "supervised", "--model.backbone", "early", "--data.synthetic", "true", "--data.samples", "120"),
    *("--data.batch_size", "16", "--trainer.max_epochs", "2", "--trainer.accelerator", "cpu"),
    *("--trainer.strategy", "ddp", "--trainer.enable_progress_bar", "false"),
)


def agent(node: int, port: int, folder: Path) -> subprocess.Popen[bytes]:
    place = ["--nnodes", "2", "--nproc_per_node", "1", "--node_rank", str(node)]
    meeting = ["--master_addr", "127.0.0.1", "--master_port", str(port)]
    shares = ["--trainer.num_nodes", "2", "--trainer.devices", "1", "--run_dir", "two"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", *place, *meeting, "-m", "mer_lightning.cli"]
    return subprocess.Popen([*torchrun, *FIT, *shares], cwd=folder)


def test_two_agents_give_the_digits_of_one(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    agents = [agent(node, port, tmp_path) for node in range(2)]
    assert [each.wait(timeout=240) for each in agents] == [0, 0]
    command = [sys.executable, "-m", "mer_lightning.cli", *FIT, "--trainer.devices", "2", "--run_dir", "one"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=240)
    assert (tmp_path / "two" / "results.csv").read_bytes() == (tmp_path / "one" / "results.csv").read_bytes()
    two, one = (pd.read_parquet(tmp_path / run / "predictions.parquet") for run in ("two", "one"))
    np.testing.assert_allclose(two["prediction"], one["prediction"], atol=1e-6)

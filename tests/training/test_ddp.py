"""Two processes say what one says, digit for digit, through the command line as a user types it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from lightning.fabric.plugins.environments.lightning import find_free_network_port

from mer_lightning.cli import main

OPTIONS = [
    "--model",
    "supervised",
    "--model.backbone",
    "early",
    "--trainer.max_epochs",
    "2",
    "--trainer.accelerator",
    "cpu",
    "--trainer.enable_progress_bar",
    "false",
    "--data.masks",
    "uniform_combinations",
]


# What would make a command a process that another one has started, or give it the port of another one.
OF_OTHERS = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def command(*args: str, cwd: Path, by: tuple[str, ...] = ()) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in OF_OTHERS}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, *by, "-m", "mer_lightning.cli", *args],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr


def test_two_processes_test_like_one(tiny_corpus, tmp_path: Path) -> None:
    corpus = [
        "--data.corpus",
        str(tiny_corpus(samples=66)),
        "--data.eval_batch_size",
        "4",
    ]  # 11 test samples, 3 batches
    both = ["--trainer.strategy", "ddp", "--trainer.devices", "2"]
    command("fit", *OPTIONS, *corpus, *both, "--run_dir", "two", cwd=tmp_path)
    alone = ["--trainer.strategy", "auto", "--trainer.devices", "1"]
    assert main(["test", "--run", str(tmp_path / "two"), *alone, "--run_dir", str(tmp_path / "one")]) == 0
    assert (tmp_path / "two" / "results.csv").read_text() == (tmp_path / "one" / "results.csv").read_text()
    two, one = (pd.read_parquet(tmp_path / run / "predictions.parquet") for run in ("two", "one"))
    pd.testing.assert_frame_equal(two, one, check_exact=True)
    assert len(one) == 11 * 7


@pytest.mark.slow
def test_a_process_without_a_batch_does_not_hang(tiny_corpus, tmp_path: Path) -> None:
    corpus = ["--data.corpus", str(tiny_corpus())]  # 10 test samples are one batch: the second process has none
    command(
        "fit",
        *OPTIONS,
        *corpus,
        "--trainer.strategy",
        "ddp",
        "--trainer.devices",
        "2",
        "--run_dir",
        "two",
        cwd=tmp_path,
    )
    assert pd.read_csv(tmp_path / "two" / "results.csv")["samples"].unique().tolist() == [10]


def test_a_run_leaves_no_process_group_to_the_next_one(tiny_corpus, tmp_path: Path) -> None:
    """In one process, as the trials of a sweep run: the second one must not take itself for a part of the first."""
    before = {name: os.environ.get(name) for name in OF_OTHERS}
    options = [*OPTIONS, "--data.corpus", str(tiny_corpus()), "--trainer.devices", "1", "--test_after_fit", "false"]
    for run in ("first", "second"):
        assert main(["fit", *options, "--trainer.strategy", "ddp", "--run_dir", str(tmp_path / run)]) == 0
        assert {name: os.environ.get(name) for name in OF_OTHERS} == before
        assert not torch.distributed.is_initialized()


@pytest.mark.slow
@pytest.mark.parametrize("agent", [["--standalone"], ["--master_port", "0"]])
def test_processes_of_torchrun_agree_on_a_folder(agent: list[str], tiny_corpus, tmp_path: Path) -> None:
    if agent[-1] == "0":
        agent = ["--master_port", str(find_free_network_port())]
    torchrun = ("-m", "torch.distributed.run", *agent, "--nproc_per_node", "2")
    options = [*OPTIONS, "--data.corpus", str(tiny_corpus()), "--name", "x"]
    command("fit", *options, "--trainer.strategy", "ddp", "--trainer.devices", "2", cwd=tmp_path, by=torchrun)
    assert [path.name for path in (tmp_path / "runs" / "x").iterdir()] == ["1"]
    assert (tmp_path / "runs" / "x" / "1" / "results.csv").is_file()

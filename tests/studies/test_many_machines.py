"""One sweep in a PostgreSQL database, on which several commands work: none loses a trial, none runs one twice."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from mer_lightning.errors import Refusal
from mer_lightning.studies.search import Search
from mer_lightning.studies.sweep_file import read_sweep
from mer_lightning.studies.sweep_storage import sweep_storage

pytest.importorskip("optuna")
pytest.importorskip("psycopg")

PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
ROOT = os.geteuid() == 0 if hasattr(os, "geteuid") else False
# PostgreSQL refuses to run as root.
AS_POSTGRES = ["runuser", "-u", "postgres", "--"] if ROOT else []

if not PROGRAMS or (ROOT and not shutil.which("runuser")):
    pytest.skip("needs PostgreSQL: apt-get install postgresql", allow_module_level=True)


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """The URL of a server on the loopback address, without password."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)

    def program(name: str, *options: str) -> None:
        done = subprocess.run(
            [*AS_POSTGRES, str(PROGRAMS[-1] / name), "-D", str(folder / "data"), *options],
            cwd="/tmp",
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program("initdb", "--auth", "trust", "--username", "mer", "--no-sync")
    listen = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={folder} -c fsync=off"
    program("pg_ctl", "start", "-w", "-l", str(folder / "log"), "-o", listen)
    yield f"postgresql://mer@127.0.0.1:{port}/postgres"
    program("pg_ctl", "stop", "-m", "immediate")
    shutil.rmtree(folder)


def sweep_file(folder: Path, method: str, trials: int, command: list[str], parameter: str = "x") -> Path:
    content = {
        "name": folder.name,
        "method": method,
        "metric": {"name": "valid/score", "goal": "maximize"},
        "run_cap": trials,
        "parameters": {parameter: {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-2}},
        "command": command,
    }
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


COMMAND = ["${env}", "mer-lightning", "fit", "--config", "base.yaml", "--config", "${args_json_file}"]


@pytest.mark.parametrize("method", ["random", "bayes"])
def test_two_commands_draw_every_trial_once(database: str, tmp_path: Path, method: str) -> None:
    sweep = read_sweep(sweep_file(tmp_path, method, 9, COMMAND))
    mine, other = (Search(sweep, sweep_storage(database, sweep.name, tmp_path), 9) for _ in range(2))
    ours, theirs = mine.trials_to_run(), other.trials_to_run()
    drawn = [next(each) for each in (ours, theirs, theirs, ours, ours)]
    assert [trial.number for trial in drawn] == [0, 1, 2, 3, 4]
    assert len({trial.overrides["x"] for trial in drawn}) == 5
    mine.record(drawn[0], 0.5, pruned=False)

    other.storage._life.close()  # the other command dies, with trials 1 and 2
    rest = list(ours)
    assert [trial.number for trial in rest] == [1, 2, 5, 6, 7, 8]
    assert [trial.overrides for trial in rest[:2]] == [trial.overrides for trial in drawn[1:3]]
    if method == "random":
        assert [trial.overrides for trial in rest] == [sweep.random_point(trial.number) for trial in rest]
    for trial in [*drawn[3:], *rest]:
        mine.record(trial, 0.1, pruned=False)
    assert not mine.wait_for_others()
    assert [(trial.number, state) for trial, state, _ in mine.all_trials()] == [(n, "complete") for n in range(9)]


def test_a_result_of_a_trial_that_was_taken_over_does_not_count(database: str, tmp_path: Path) -> None:
    sweep = read_sweep(sweep_file(tmp_path, "random", 1, COMMAND))
    slow = Search(sweep, sweep_storage(database, sweep.name, tmp_path), 1)
    trial = next(slow.trials_to_run())
    # Its connection breaks for a moment, and it comes back under a lock of its own.
    slow.storage._ask("pg_advisory_unlock", slow.storage.command)
    other = Search(sweep, sweep_storage(database, sweep.name, tmp_path), 1)
    assert [each.number for each in other.trials_to_run()] == [0]
    slow.record(trial, 7.0, pruned=False)
    other.record(trial, 0.25, pruned=False)
    assert [score for _, _, score in other.all_trials()] == [0.25]


def test_a_command_waits_for_the_trials_of_others(database: str, tmp_path: Path) -> None:
    sweep = read_sweep(sweep_file(tmp_path, "random", 1, COMMAND))
    other = Search(sweep, sweep_storage(database, sweep.name, tmp_path), 1)
    next(other.trials_to_run())
    mine = Search(sweep, sweep_storage(database, sweep.name, tmp_path), 1)
    assert list(mine.trials_to_run()) == []
    other.storage._life.close()
    assert mine.wait_for_others()
    assert [trial.number for trial in mine.trials_to_run()] == [0]


def test_mistakes_are_named(database: str, tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="without a password; found one with a password"):
        sweep_storage(database.replace("mer@", "mer:secret@"), "x", tmp_path)
    with pytest.raises(Refusal, match="postgresql://USER@HOST/DATABASE; found mysql://x"):
        sweep_storage("mysql://x", "x", tmp_path)
    with pytest.raises(Refusal, match="expected a PostgreSQL database"):
        sweep_storage("postgresql://mer@127.0.0.1:1/postgres", "x", tmp_path)
    lost = sweep_storage(database, "x", tmp_path)
    lost._life.close()
    with pytest.raises(Refusal, match="a lost connection"), lost.drawing():
        pass


@pytest.mark.slow
def test_two_hundred_trials_though_two_of_four_commands_are_killed(database: str, tmp_path: Path) -> None:
    fit = ["--model", "supervised", "--model.backbone", "early", "--model.backbone.width", "4"]
    fit += ["--data.corpus", "mosi", "--data.synthetic", "true", "--data.samples", "40", "--trainer.max_epochs", "1"]
    fit += ["--trainer.accelerator", "cpu", "--test_after_fit", "false", "--config", "${args_json_file}"]
    path = sweep_file(tmp_path, "random", 200, ["${env}", "mer-lightning", "fit", *fit], "model.optimizer.init_args.lr")

    def start(number: int) -> subprocess.Popen[bytes]:
        options = ["--storage", database, "--workers", "1", "--runs", str(tmp_path / f"machine-{number}")]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "MER_DATA": str(tmp_path / "data")}
        command = [sys.executable, "-m", "mer_lightning.cli", "sweep", str(path), *options]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, env=environment, cwd=tmp_path, **quiet)

    commands = [start(number) for number in range(4)]
    search = Search(read_sweep(path), sweep_storage(database, tmp_path.name, tmp_path), 200)
    for command, trials in ((commands[0], 40), (commands[1], 90)):
        while len(search.all_trials()) < trials:
            assert command.poll() is None, command.stderr.read() if command.stderr else ""
            time.sleep(0.2)
        command.send_signal(signal.SIGKILL)
    assert [command.wait(1200) for command in commands[2:]] == [0, 0]
    trials = search.all_trials()
    assert [trial.number for trial, _, _ in trials] == list(range(200))
    assert {state for _, state, _ in trials} == {"complete"}
    assert len({trial.overrides["model.optimizer.init_args.lr"] for trial, _, _ in trials}) == 200
    finished = [path.parent.parent.name for path in tmp_path.glob("machine-*/*/trial-*/run/phases.json")]
    twice = {name for name in finished if finished.count(name) > 1}
    assert len(set(finished)) == 200
    # A trial whose run was over, and whose score was not stored yet when its command was killed, runs again: at most
    # one for each worker that was killed.
    assert len(twice) <= 2

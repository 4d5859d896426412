"""The Ray executor: on a cluster of one process, and on two nodes of which a worker, or the whole second node, dies."""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from mer_lightning.data.places import data_root
from mer_lightning.studies.ray_executor import RayCluster, _attempt_at, _Place

pytest.importorskip("optuna")
WITHOUT_RAY = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="needs Ray: pip install 'mer-lightning[ray]'"
)

TRIALS = 6
SWEEP = """
name: s
method: random
metric: {name: valid/score, goal: maximize}
run_cap: 6
command: [mer-lightning, fit, --config, base.yaml, --config, '${args_json_file}']
parameters:
  model.optimizer.lr: {distribution: log_uniform_values, min: 0.001, max: 0.01}
"""
# Long enough to be killed in the middle, after the first checkpoint.
BASE = """
model: {class_path: supervised, init_args: {backbone: {class_path: early, init_args: {width: 8}}}}
data: {corpus: mosi, synthetic: true, samples: 100}
trainer: {max_epochs: 20, accelerator: cpu}
patience: 20
"""


def test_work_is_done_where_the_study_was_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # both are put back in the end
    monkeypatch.setenv("MER_DATA", "of the machine")
    (tmp_path / "study").mkdir()
    where = _attempt_at(_Place(tmp_path / "study", "corpora"), lambda item: (Path.cwd(), data_root()), 1, None)
    assert where == ((tmp_path / "study", Path("corpora")), None)
    assert _attempt_at(_Place(tmp_path, None), lambda item: data_root(), 1, None) == (Path("data"), None)
    _, error = _attempt_at(_Place(tmp_path / "elsewhere", None), lambda item: item, 1, None)
    assert "elsewhere: expected this folder on" in str(error)


@WITHOUT_RAY
@pytest.mark.slow
def test_every_item_once_and_errors_are_returned() -> None:
    def work(number: int) -> int:
        if number == 3:
            raise ValueError("three")
        return number * number

    started: list[int] = []
    cluster = RayCluster(workers=2, address=None, gpus=0.0)
    results = {result.item: result for result in cluster.run(iter(range(1, 6)), work, started.append)}
    assert {item: result.value for item, result in results.items()} == {1: 1, 2: 4, 3: None, 4: 16, 5: 25}
    assert "ValueError: three" in str(results[3].error)
    assert started == [1, 2, 3, 4, 5]


@dataclass(frozen=True)
class Nodes:
    """Two nodes on this machine with one core each; ``raylets`` are the processes that start their workers."""

    address: str
    raylets: tuple[int, int]
    environment: dict[str, str]


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    place = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # short: names of sockets may have 107 letters
    token = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
    }  # Ray runs what anybody sends to its port
    environment = os.environ | token | {"OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    head = ["--head", "--port", address.rpartition(":")[2], "--include-dashboard=false", "--temp-dir", str(place)]
    started = []
    try:
        for name, options in (("first", head), ("second", ["--address", address])):
            folder = tmp_path / name  # neither node is in the folder of the command
            folder.mkdir()
            options += ["--num-cpus", "1", "--object-store-memory", str(80 * 2**20), "--node-ip-address", "127.0.0.1"]
            command = [str(Path(sys.executable).with_name("ray")), "start", "--block", *options]
            with (folder / "log").open("w") as log:
                process = subprocess.Popen(
                    command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
                )
            started.append(process)
            wait_until(lambda log=folder / "log": "runtime started" in log.read_text(), process)
        first, second = (child_of(process.pid, "raylet") for process in started)
        yield Nodes(address, (first, second), environment)
    finally:
        for process in reversed(started):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        shutil.rmtree(place)


def wait_until(condition: Callable[[], object], alive: subprocess.Popen[bytes], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert alive.poll() is None, "it has ended"
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.02)


def child_of(parent: int, name: str) -> int:
    """The process number of the child whose program has that name."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return next(int(child) for child in children if Path(f"/proc/{child}/comm").read_text().strip() == name)


def parent_of(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def at_work(run: Path) -> int | None:
    """The process that holds a run's folder, as its lock says."""
    try:
        words = (run / ".lock").read_text().split()
    except FileNotFoundError:
        return None
    return int(words[1]) if words else None


def sweep_command(folder: Path, *options: str) -> list[str]:
    folder.mkdir(exist_ok=True)
    (folder / "s.yaml").write_text(SWEEP)
    (folder / "base.yaml").write_text(BASE)
    return [sys.executable, "-m", "mer_lightning.cli", "sweep", "s.yaml", "--runs", "runs", "--workers", "2", *options]


@pytest.fixture(scope="module")
def without_ray(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    folder = tmp_path_factory.mktemp("local")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MER_DATA": "corpora"}
    subprocess.run(sweep_command(folder), cwd=folder, env=environment, check=True, capture_output=True)
    return pd.read_csv(folder / "runs" / "s" / "trials.csv")


@WITHOUT_RAY
@pytest.mark.slow
@pytest.mark.parametrize("dies", ["worker", "node", "command"])
def test_a_trial_goes_on_though_its_worker_its_node_or_the_command_dies(
    dies: str, nodes: Nodes, without_ray: pd.DataFrame, tmp_path: Path
) -> None:
    folder = tmp_path / "command"
    command = sweep_command(folder, "--executor", "ray", "--address", nodes.address)
    out = tmp_path / "out"

    def begin() -> subprocess.Popen[bytes]:
        with out.open("w") as file:
            environment = nodes.environment | {"MER_DATA": "corpora"}
            return subprocess.Popen(command, cwd=folder, env=environment, stdout=file, stderr=file)

    runs = folder / "runs" / "s"
    disturbed: list[tuple[Path, int]] = []

    def in_the_middle_on_the_second_node() -> bool:
        for run in runs.glob("trial-*/run"):
            process = at_work(run)
            if process and parent_of(process) == nodes.raylets[1] and list(run.glob("checkpoints/**/last.ckpt")):
                disturbed.append((run, process))
        return bool(disturbed)

    sweep = begin()
    wait_until(in_the_middle_on_the_second_node, sweep)
    run, worker = disturbed[0]
    over = out.read_text().count("\n[") if dies == "command" else 0
    os.kill({"worker": worker, "node": nodes.raylets[1], "command": sweep.pid}[dies], signal.SIGKILL)
    if dies == "command":
        sweep.wait()
        sweep = begin()
    wait_until(lambda: at_work(run) not in (None, worker), sweep)
    if dies == "node":
        assert parent_of(at_work(run) or 0) == nodes.raylets[0]
    assert sweep.wait(300) == 0, out.read_text()

    begun, resumed = (pd.read_csv(path)["epoch"] for path in sorted(run.glob("logs/**/metrics.csv")))
    assert begun.min() == 0
    assert resumed.min() > 0  # from the last saved epoch
    lines = [line for line in out.read_text().splitlines() if line.startswith("[") and "trial" in line]
    assert [line.split("]")[0] for line in lines] == [f"[{number}/{TRIALS}" for number in range(over + 1, TRIALS + 1)]
    assert len({line.split("trial ")[1].split(":")[0] for line in lines}) == TRIALS - over
    pd.testing.assert_frame_equal(pd.read_csv(runs / "trials.csv"), without_ray, check_exact=True)


@WITHOUT_RAY
@pytest.mark.slow
def test_addresses_without_a_cluster_are_refused(tmp_path: Path) -> None:
    for address, expected in (("127.0.0.1:1", "a Ray cluster at 127.0.0.1:1"), ("head", "HOST:PORT")):
        command = sweep_command(tmp_path, "--executor", "ray", "--address", address)
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert f"--address: expected {expected}" in done.stderr
        assert "ray start --head" in done.stderr

"""Workers of this machine: every item once, in spite of errors and of workers that are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from mer_lightning.studies import pool
from mer_lightning.studies.executor import WorkResult
from mer_lightning.studies.pool import ProcessPool

processes = pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")


def run(items: Iterable[Any], work: Callable[[Any], Any], workers: int) -> Generator[WorkResult[Any], None, None]:
    return ProcessPool(workers).run(iter(items), work, lambda item: None)


def square(number: int) -> int:
    return number * number


def refuse_odd(number: int) -> int:
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number


def leave(number: int) -> None:
    sys.exit(f"{number} leaves")


def die_once(path: str) -> str:
    """Killed the first time that it sees a path, as the system does with a process that takes too much memory."""
    if not Path(path).exists():
        Path(path).write_text("seen")
        os.kill(os.getpid(), signal.SIGKILL)
    return path


def interrupted(number: int) -> int:
    os.kill(os.getpid(), signal.SIGINT)
    return number


def always_die(number: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_beside(path: str) -> int:
    """One item is killed twice while another is at work, which counts how often it was begun."""
    place = Path(path)
    if place.name == "dies":
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGKILL)
    with place.open("a") as file:
        file.write("begun\n")
    time.sleep(2)
    return len(place.read_text().splitlines())


def threads(number: int) -> int:
    """How many there are; the item then asks for more."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    return before


def worker_id(number: int) -> int:
    return os.getpid()


def sleep_short_or_long(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def test_every_item_once() -> None:
    results = list(run(range(7), square, workers=2))
    assert sorted((result.item, result.value) for result in results) == [(n, n * n) for n in range(7)]


def test_results_come_in_the_order_of_completion() -> None:
    assert [result.value for result in run([1.5, 0.0, 0.1], sleep_short_or_long, workers=2)] == [0.0, 0.1, 1.5]


def test_every_item_begins_on_one_thread() -> None:
    assert [result.value for result in run(range(3), threads, workers=1)] == [1, 1, 1]


def test_a_worker_is_used_again() -> None:
    assert len({result.value for result in run(range(5), worker_id, workers=1)}) == 1


def test_an_interrupt_is_for_the_parent(capfd: pytest.CaptureFixture[str]) -> None:
    assert [result.value for result in run([3], interrupted, workers=1)] == [3]
    assert "KeyboardInterrupt" not in capfd.readouterr().err


def test_an_error_is_returned_and_the_others_go_on() -> None:
    results = {result.item: result for result in run(range(4), refuse_odd, workers=2)}
    assert [results[n].error is None for n in range(4)] == [True, False, True, False]
    assert "ValueError: 3 is odd" in str(results[3].error)


def test_an_item_that_exits_fails_and_does_not_end_the_study() -> None:
    (result,) = run([1], leave, workers=1)
    assert str(result.error).endswith("SystemExit: 1 leaves\n")


def test_a_killed_worker_costs_one_more_try(tmp_path: Path) -> None:
    paths = [str(tmp_path / str(n)) for n in range(3)]
    started: list[str] = []
    results = list(ProcessPool(2).run(iter(paths), die_once, started.append))
    assert sorted(result.value for result in results) == paths
    assert started == paths  # a second try is not reported as a second start


def test_a_killed_worker_costs_the_others_nothing(tmp_path: Path) -> None:
    paths = [str(tmp_path / name) for name in ("lives", "dies")]
    results = {Path(result.item).name: result for result in run(paths, die_beside, workers=2)}
    assert results["lives"].value == 1
    assert "died 2 times" in str(results["dies"].error)


def test_a_worker_that_dies_between_two_items_is_replaced() -> None:
    dead: list[int] = []

    def source() -> Iterator[int]:
        yield 0
        os.kill(dead[0], signal.SIGKILL)
        time.sleep(0.5)
        yield 1

    for result in run(source(), worker_id, workers=1):
        assert result.error is None
        assert result.value not in dead
        dead.append(result.value)
    assert len(dead) == 2


def test_an_item_that_kills_its_worker_is_given_up() -> None:
    first, second = run([1, 2], always_die, workers=1)
    assert "died 2 times" in str(first.error)
    assert "died 2 times" in str(second.error)


def test_items_are_asked_for_only_when_a_worker_is_free() -> None:
    asked: list[int] = []

    def source() -> Iterator[int]:
        for number in range(6):
            asked.append(number)
            yield number

    running = ProcessPool(2).run(source(), square, lambda item: None)
    next(running)
    assert len(asked) <= 4
    running.close()


@pytest.mark.parametrize(
    ("count", "visible", "expected"),
    [(0, None, None), (2, None, ["0", "1", "0"]), (2, "5,7", ["5", "7", "5"]), (1, "GPU-a", ["GPU-a"] * 3)],
)
def test_gpus_are_taken_in_turn(
    count: int, visible: str | None, expected: list[str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    for number in range(3):
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        pool._choose_gpu(number)
        assert os.environ.get("CUDA_VISIBLE_DEVICES") == (expected[number] if expected else None)


STUDY = """
import os, sys, time
from pathlib import Path
from mer_lightning.studies.pool import ProcessPool

def linger(path):
    Path(path).write_text(str(os.getpid()))
    time.sleep(60)

if __name__ == "__main__":
    list(ProcessPool(1).run(iter(sys.argv[1:]), linger, lambda item: None))
"""


@processes
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["killed", "Ctrl-C"])
def test_workers_end_with_their_study(number: signal.Signals, tmp_path: Path) -> None:
    """A study that is started again must not find workers of the first one, still writing."""
    (tmp_path / "study.py").write_text(STUDY)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    study = subprocess.Popen(
        [sys.executable, str(tmp_path / "study.py"), str(tmp_path / "pid")],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not ((tmp_path / "pid").exists() and (tmp_path / "pid").read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    worker = int((tmp_path / "pid").read_text())
    if number == signal.SIGINT:
        os.killpg(study.pid, number)  # a terminal sends it to every process of the command
    else:
        study.send_signal(number)
    _, printed = study.communicate(timeout=20)
    while Path(f"/proc/{worker}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{worker}").exists()
    if number == signal.SIGINT:
        assert printed.count("Traceback") == 1  # the study's own

"""Workers: every item once, in spite of errors and of workers that are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mer_lightning.studies.pool import run_all


def square(number: int) -> int:
    return number * number


def refuse_odd(number: int) -> int:
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number


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


def test_every_item_once() -> None:
    outcomes = list(run_all(iter(range(7)), square, workers=2))
    assert sorted((outcome.item, outcome.result) for outcome in outcomes) == [(n, n * n) for n in range(7)]


def test_an_interrupt_is_for_the_parent(capfd: pytest.CaptureFixture[str]) -> None:
    assert [outcome.result for outcome in run_all(iter([3]), interrupted, workers=1)] == [3]
    assert "KeyboardInterrupt" not in capfd.readouterr().err


def test_an_error_is_told_and_the_others_go_on() -> None:
    outcomes = {outcome.item: outcome for outcome in run_all(iter(range(4)), refuse_odd, workers=2)}
    assert [outcomes[n].error is None for n in range(4)] == [True, False, True, False]
    assert "ValueError: 3 is odd" in str(outcomes[3].error)


def test_a_killed_worker_costs_one_more_try(tmp_path: Path) -> None:
    paths = [str(tmp_path / str(n)) for n in range(3)]
    outcomes = list(run_all(iter(paths), die_once, workers=2))
    assert sorted(outcome.result for outcome in outcomes) == paths


def test_an_item_that_kills_its_worker_is_given_up() -> None:
    (outcome,) = run_all(iter([1]), always_die, workers=1)
    assert "died 2 times" in str(outcome.error)


def test_items_are_asked_for_only_when_a_worker_is_free() -> None:
    asked: list[int] = []

    def source():
        for number in range(6):
            asked.append(number)
            yield number

    running = run_all(source(), square, workers=2)
    next(running)
    assert len(asked) <= 4
    running.close()


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_workers_end_with_their_study(tmp_path: Path) -> None:
    """Whoever starts a killed study again must not meet its orphans."""
    code = (
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from mer_lightning.studies.pool import run_all\n"
        "def linger(path):\n    Path(path).write_text(str(os.getpid()))\n    time.sleep(60)\n"
        "if __name__ == '__main__':\n    list(run_all(iter(sys.argv[1:]), linger, workers=1))\n"
    )
    (tmp_path / "study.py").write_text(code)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    study = subprocess.Popen([sys.executable, str(tmp_path / "study.py"), str(tmp_path / "pid")], env=environment)
    deadline = time.monotonic() + 60
    while not (tmp_path / "pid").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    worker = int((tmp_path / "pid").read_text())
    study.kill()
    study.wait()
    while Path(f"/proc/{worker}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{worker}").exists()

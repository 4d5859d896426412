"""The runner: done jobs are skipped, each other job runs once, and an observer hears of all of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from mer_lightning.studies.executor import WorkResult, attempt
from mer_lightning.studies.jobs import Job
from mer_lightning.studies.runner import Observer, run_quietly, run_stream, run_study


class InOrder:
    """An executor in this process, one item after the other."""

    closed = False

    def run(
        self, items: Iterator[Any], work: Callable[[Any], Any], started: Callable[[Any], None]
    ) -> Generator[WorkResult[Any], None, None]:
        try:
            for item in items:
                started(item)
                yield WorkResult(item, *attempt(work, item, None))
        finally:
            self.closed = True


class Recorder(Observer):
    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []

    def skipped(self, job: Job) -> None:
        self.events.append(("skipped", job.label))

    def started(self, job: Job) -> None:
        self.events.append(("started", job.label))

    def ended(self, job: Job, seconds: float) -> None:
        assert seconds >= 0
        self.events.append(("ended", job.label))

    def failed(self, job: Job, reason: str) -> None:
        self.events.append(("failed", f"{job.label}: {reason}"))


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """Four jobs that write their results at once; the third fails."""

    def run(self: Job) -> None:
        print(f"{self.label} runs")
        if self.label == "a/3":
            raise ValueError("no such\nbackbone")
        self.run_folder.mkdir(parents=True)
        (self.folder / "job.json").write_text(json.dumps(self._identity()))
        self.results.write_text("")

    monkeypatch.setattr(Job, "run", run)
    return [Job(tmp_path / "a" / str(number), (), group="a") for number in range(1, 5)]


def test_jobs_that_are_done_are_skipped_first(jobs: list[Job]) -> None:
    jobs[1].run()
    first, second = Recorder(), Recorder()
    assert run_study(jobs, InOrder(), first) == [jobs[2]]
    assert first.events == [
        ("skipped", "a/2"),
        ("started", "a/1"),
        ("ended", "a/1"),
        ("started", "a/3"),
        ("failed", "a/3: backbone"),
        ("started", "a/4"),
        ("ended", "a/4"),
    ]
    assert run_study(jobs, InOrder(), second) == [jobs[2]]
    assert second.events[:4] == [("skipped", "a/1"), ("skipped", "a/2"), ("skipped", "a/4"), ("started", "a/3")]


def test_a_stream_is_planned_while_it_runs(jobs: list[Job]) -> None:
    recorder = Recorder()

    def stream() -> Iterator[Job]:
        for number, job in enumerate(jobs[:2]):
            assert len(recorder.events) == 2 * number  # the one before has ended
            yield job

    assert run_stream(stream(), InOrder(), recorder) == []


def test_the_workers_end_when_the_study_breaks_off(jobs: list[Job]) -> None:
    """By Ctrl-C, or an error of the observer: at once, not when the garbage collector comes by."""

    class Interrupted(Observer):
        def ended(self, job: Job, seconds: float) -> None:
            raise KeyboardInterrupt

    executor = InOrder()
    try:
        run_study(jobs, executor, Interrupted())
    except KeyboardInterrupt:  # its traceback holds the frames with the generator
        assert executor.closed
    else:
        raise AssertionError("the interrupt was lost")


def test_a_log_has_what_the_run_printed_and_the_traceback(jobs: list[Job], capsys: pytest.CaptureFixture[str]) -> None:
    run_quietly(jobs[0])
    assert jobs[0].log.read_text() == "a/1 runs\n"
    with pytest.raises(ValueError, match="backbone"):
        run_quietly(jobs[2])
    log = (jobs[2].folder.parent / "3.log").read_text()
    assert log.startswith("a/3 runs\nTraceback")
    assert "ValueError: no such" in log
    assert capsys.readouterr() == ("", "")

"""What the commands of studies share: the lines of progress, and the option for workers."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from mer_lightning.cli import main
from mer_lightning.commands.studies import StudyProgress
from mer_lightning.studies.jobs import Job


def job(folder: Path, name: str, score: float | None) -> Job:
    made = Job(folder / name, (), group="cdat")
    made.run_folder.mkdir(parents=True)
    (made.run_folder / "phases.json").write_text(json.dumps({"first": {"score": 9.0}, "last": {"score": score}}))
    return made


def text(progress: StudyProgress) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(progress._table())
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_counts_and_lines(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), width=200)
    jobs = [job(tmp_path, name, score) for name, score in (("a", -0.5), ("b", -0.25), ("c", None), ("d", -0.75))]
    with StudyProgress(console, jobs) as progress:
        progress.skipped(jobs[0])
        progress.started(jobs[1])
        assert text(progress).splitlines()[-2].split() == ["cdat", "1", "1", "2", "-0.5000"]
        progress.ended(jobs[1], 61.4)
        progress.started(jobs[2])
        progress.failed(jobs[2], "expected one of ['a', 'b'], found [red]; [/]")
        progress.started(jobs[3])
        progress.ended(jobs[3], 0.2)
    assert console.file.getvalue().splitlines() == [  # type: ignore[attr-defined]
        "[2/4] cdat/b: 61 s",
        "[3/4] cdat/c failed: expected one of ['a', 'b'], found [red]; [/]",
        "[4/4] cdat/d: 0 s",
    ]
    assert text(progress).splitlines()[-2].split() == ["cdat", "3", "(1", "failed)", "-0.2500"]


@pytest.mark.parametrize("command", ["ablate", "sweep"])
@pytest.mark.parametrize("workers", ["0", "-1", "two"])
def test_a_study_has_at_least_one_worker(command: str, workers: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([command, "file.yaml", "--workers", workers])
    assert f"--workers: expected 1 or more; found {workers}" in capsys.readouterr().err

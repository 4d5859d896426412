"""A job runs once, is resumed where it was killed, and runs again when its arguments, files or version have changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mer_lightning.methods.base import MERMethod
from mer_lightning.studies.jobs import Job
from mer_lightning.training.phases import LastCheckpoint

CONFIG = "model: {class_path: supervised, init_args: {backbone: {class_path: early, init_args: {width: 8}}}}\n"


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    monkeypatch.setenv("MER_DATA", str(tmp_path / "data"))
    config = tmp_path / "tiny.yaml"
    config.write_text(CONFIG)
    given = ("--config", str(config), "--data.synthetic", "true", "--data.samples", "60", "--trainer.max_epochs", "3")
    return Job(tmp_path / "job", given, (config,))


def stamp(job: Job) -> int:
    return job.results.stat().st_mtime_ns


def test_a_job_that_is_done_does_not_run_again(job: Job) -> None:
    assert not job.done
    job.run()
    assert job.done
    before = stamp(job)
    job.run()
    assert stamp(job) == before


def test_another_file_argument_or_version_is_another_job(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    job.run()
    before = stamp(job)
    job.configs[0].write_text(CONFIG.replace("8", "9"))
    assert not job.done
    job.run()
    assert job.done
    assert stamp(job) != before
    assert not Job(job.folder, (*job.arguments, "--seed_everything", "5"), job.configs).done
    assert Job(job.folder, job.arguments, job.configs, group="another").done
    monkeypatch.setattr("mer_lightning.__version__", "0.0.0")
    assert not job.done


@pytest.mark.parametrize("after", [0, 4])
def test_a_killed_job_is_resumed(job: Job, after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in the first step, before any checkpoint, or in the third epoch."""
    monkeypatch.setattr(LastCheckpoint, "_SHARE", 1.0)  # every epoch is saved, however short
    whole = Job(job.folder.parent / "whole", job.arguments, job.configs)
    whole.run()
    step, done = MERMethod.training_step, []

    def breaking(self: MERMethod, *args: Any) -> Any:
        if len(done) == after:
            raise ConnectionError("killed")
        done.append(1)
        return step(self, *args)

    monkeypatch.setattr(MERMethod, "training_step", breaking)
    with pytest.raises(ConnectionError):
        job.run()
    assert not job.done
    done.clear()
    epochs = []

    def counting(self: MERMethod, *args: Any) -> Any:
        epochs.append(self.current_epoch)
        return step(self, *args)

    monkeypatch.setattr(MERMethod, "training_step", counting)
    job.run()
    assert job.results.read_text() == whole.results.read_text()
    assert min(epochs) == (2 if after else 0)

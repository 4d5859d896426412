"""Numbered folders, whole files, and the same folder for all processes of one run."""

from __future__ import annotations

from pathlib import Path

import pytest

from mer_lightning.training.run_folder import (
    environment,
    forget_run_folder,
    metrics_over_time,
    new_run_folder,
)


@pytest.fixture(autouse=True)
def _no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MER_RUN_FOLDER", raising=False)
    yield
    forget_run_folder()


def test_runs_are_numbered(tmp_path: Path) -> None:
    for expected in ("1", "2", "3"):
        folder = new_run_folder(None, tmp_path / "x")
        assert folder.name == expected
        (folder / "config.yaml").touch()  # an empty one would be removed
        forget_run_folder()


def test_processes_of_one_run_share_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = new_run_folder(None, tmp_path / "x")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert new_run_folder(None, tmp_path / "x") == first


def test_environment_names_versions_and_device() -> None:
    found = environment()
    assert found["packages"]["lightning"].startswith("2.6.")
    assert found["packages"]["torch"]
    assert found["devices"]


def test_logs_of_a_fit_that_was_killed_as_it_began_to_write(tmp_path: Path) -> None:
    assert metrics_over_time(tmp_path).empty
    for part, text in (
        ("", "epoch,valid/score\n0,-1.5\n"),
        ("resumed-1", ""),
        ("resumed-2", "epoch,valid/score\n1,-1.2\n"),
    ):
        folder = tmp_path / "logs" / part
        folder.mkdir(exist_ok=True, parents=True)
        (folder / "metrics.csv").write_text(text)
    assert metrics_over_time(tmp_path)["valid/score"].tolist() == [-1.5, -1.2]

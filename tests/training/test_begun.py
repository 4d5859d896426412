"""A fit goes on with what it was begun with, or not at all; and in a folder that nobody else works in."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest

from mer_lightning import locks
from mer_lightning.cli import main
from mer_lightning.errors import Refusal
from mer_lightning.locks import LOCK, locked
from mer_lightning.training import run_folder
from mer_lightning.training.callbacks import WriteResults

FIT = ["--model", "supervised", "--model.backbone", "early", "--trainer.max_epochs", "1", "--data.batch_size", "16"]
FIT += ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]


@pytest.fixture
def unfinished(tiny_corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run whose folder was left before its results were written."""
    monkeypatch.chdir(tmp_path)
    tiny_corpus().rename("corpus")
    options = [*FIT, "--data.corpus", "corpus", "--run_dir", "run", "--test_after_fit", "false"]
    assert main(["fit", *options]) == 0
    return Path("run")


def refused(args: list[str], capfd: pytest.CaptureFixture[str]) -> str:
    capfd.readouterr()
    assert main(args) == 2
    return capfd.readouterr().err.strip()


def test_the_same_corpus_and_configuration_go_on(unfinished: Path) -> None:
    assert main(["fit", "--resume", "run", "--test_after_fit", "true"]) == 0
    assert (unfinished / "results.csv").is_file()


def test_another_corpus_under_the_same_name(unfinished: Path, tiny_corpus, capfd: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree("corpus")
    tiny_corpus(seed=1).rename("corpus")
    line = refused(["fit", "--resume", "run"], capfd)
    assert line.startswith(
        "mer-lightning: run: regression-unaligned: expected the corpus that the fit was begun with, "
    )
    assert line.endswith("begin another run, without --resume")
    assert "\n" not in line


@pytest.mark.parametrize("change", ["cut", "edited", "cut before batch_size"])
def test_another_configuration_in_its_file(change: str, unfinished: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = unfinished / "config.yaml"
    text = path.read_text()
    changed = {
        "cut": text[: len(text) // 2],
        "edited": text.replace("batch_size: 16", "batch_size: 8"),
        "cut before batch_size": text[: text.index("  batch_size")],
    }[change]
    assert changed != text
    path.write_text(changed)
    assert "run/config.yaml: expected the configuration that the fit was begun with" in refused(
        ["fit", "--resume", "run"], capfd
    )


def test_another_configuration_on_the_command_line(unfinished: Path, capfd: pytest.CaptureFixture[str]) -> None:
    line = refused(["fit", "--resume", "run", "--data.batch_size", "8"], capfd)
    assert line == (
        "mer-lightning: --data.batch_size: expected 16, as the fit in run was begun; found 8; "
        "begin another run, without --resume"
    )


def test_a_run_of_an_older_version_goes_on(unfinished: Path) -> None:
    (unfinished / run_folder.BEGUN).unlink()
    assert main(["fit", "--resume", "run"]) == 0


def test_a_finished_run_says_so(unfinished: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--resume", "run", "--test_after_fit", "true"]) == 0
    capfd.readouterr()
    before = (unfinished / "results.csv").read_bytes()
    assert main(["fit", "--resume", "run"]) == 0
    assert capfd.readouterr().out == "run: finished, its results are in run/results.csv\n"
    assert (unfinished / "results.csv").read_bytes() == before


def test_a_refused_command_leaves_no_empty_folder(unfinished: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (unfinished / "checkpoints" / "best.ckpt").write_bytes(b"no checkpoint")
    assert "expected a checkpoint" in refused(["test", "--run", "run"], capfd)
    assert not Path("runs").exists()
    Path("mine").mkdir()  # a folder that was there before stays
    refused(["test", "--run", "run", "--run_dir", "mine"], capfd)
    assert Path("mine").is_dir()
    refused(["test", "--run", "run", "--run_dir", "a/b"], capfd)
    assert not Path("a").exists()


def test_the_second_of_two_fits_in_one_folder_is_refused(
    tiny_corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(locks, "_PATIENCE", 0.0)
    options = ["fit", *FIT, "--data.corpus", str(tiny_corpus()), "--run_dir", str(tmp_path / "run")]
    lines = []

    def second(*_: object) -> None:
        held = run_folder._taken.pop_all()  # the second one is another process, and knows nothing of the first
        with monkeypatch.context() as patch:
            patch.delenv("MER_RUN_FOLDER")
            with pytest.raises(Refusal) as caught:
                run_folder.new_run_folder(str(tmp_path / "run"), tmp_path)
        run_folder._taken = held
        lines.append(str(caught.value))

    monkeypatch.setattr(WriteResults, "on_test_start", second)
    assert main(options) == 0
    (line,) = lines
    assert "expected a folder that no other command works in; found process " in line
    assert not (tmp_path / "run" / LOCK).exists()


@pytest.mark.parametrize("place", ["/proc/mine/run", "file/run"])
def test_a_place_where_no_folder_can_be(place: str, unfinished: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Path("file").touch()
    line = refused(["test", "--run", "run", "--run_dir", place], capfd)
    assert f"{place}: expected a place where a folder can be made; found " in line


def test_a_lock_that_nobody_holds_is_taken(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text("process 1 on a machine that was switched off\n")
    with locked(tmp_path):
        assert "switched off" not in (tmp_path / LOCK).read_text()
    assert not (tmp_path / LOCK).exists()


def test_a_lock_is_waited_for_a_moment(tmp_path: Path) -> None:
    """As after a command that was killed, while its children end."""
    taken = locked(tmp_path)
    taken.__enter__()
    threading.Timer(0.3, lambda: taken.__exit__(None, None, None)).start()
    with locked(tmp_path):
        assert (tmp_path / LOCK).is_file()

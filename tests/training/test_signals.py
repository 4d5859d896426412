"""SIGTERM and Ctrl-C end a command at once, wherever it is, with a code that says so; what it left goes on."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from mer_lightning import signals
from mer_lightning.cli import main
from mer_lightning.methods.supervised import Supervised
from mer_lightning.signals import Terminated, code_of_signal, ending_on_signals
from mer_lightning.training.callbacks import WriteResults

FIT = ["fit", "--model", "supervised", "--model.backbone", "early", "--trainer.max_epochs", "2", "--data.batch_size"]
FIT += ["16", "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
CODES = [(signal.SIGTERM, 143), (signal.SIGINT, 130)]


@pytest.mark.parametrize(("number", "code"), CODES)
@pytest.mark.parametrize("when", ["training", "writing results"])
def test_a_run_that_is_ended_goes_on_to_the_same_results(
    when: str, number: signal.Signals, code: int, tiny_corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not at the next step of training, as Lightning would: a test that writes its results has none."""
    place = {"training": (Supervised, "training_losses"), "writing results": (WriteResults, "_write")}[when]
    undisturbed = getattr(*place)
    handlers = [signal.getsignal(each) for each, _ in CODES]
    corpus = ["--data.corpus", str(tiny_corpus())]

    def disturbed(self, *given):
        if getattr(self, "current_epoch", 1) == 1:
            os.kill(os.getpid(), number)
        return undisturbed(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(*place, disturbed)
        assert main([*FIT, *corpus, "--run_dir", str(tmp_path / "ended")]) == code
    assert [signal.getsignal(each) for each, _ in CODES] == handlers
    assert not (tmp_path / "ended" / "results.csv").exists()
    assert main(["fit", "--resume", str(tmp_path / "ended")]) == 0
    assert main([*FIT, *corpus, "--run_dir", str(tmp_path / "whole")]) == 0
    assert (tmp_path / "ended" / "results.csv").read_text() == (tmp_path / "whole" / "results.csv").read_text()


def test_an_error_on_the_way_out_hides_no_signal() -> None:

    def end() -> None:
        try:
            raise Terminated
        finally:
            raise ValueError("a file could not be closed")

    with pytest.raises(ValueError, match="could not be closed") as caught:
        end()
    assert code_of_signal(caught.value) == 143
    assert code_of_signal(ValueError()) is None
    assert code_of_signal(SystemExit(1)) is None


def test_a_command_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where Python swallows the exception."""
    ended = threading.Event()
    monkeypatch.setattr(signals, "_LONGEST", 0.05)
    monkeypatch.setattr(os, "_exit", lambda code: ended.set() if code == 143 else None)
    with ending_on_signals():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except Terminated:
            assert ended.wait(5)


def test_the_timer_ends_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "_LONGEST", 60.0)
    with pytest.raises(Terminated), ending_on_signals():
        os.kill(os.getpid(), signal.SIGTERM)
    assert signals._last_word is not None
    signals._last_word.join(5)
    assert not signals._last_word.is_alive()


def test_a_command_in_a_thread_leaves_signals_alone() -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def work() -> None:
        with ending_on_signals():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]

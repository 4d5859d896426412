"""One fit of several phases, and what becomes of it when it is killed anywhere and started again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

from mer_lightning.cli import main
from mer_lightning.methods.base import MERMethod
from mer_lightning.randomness import name_key
from mer_lightning.training.phases import EpochSeeds, LastCheckpoint

OPTIONS = ["--model", "cdat", "--model.backbone", "early", "--model.backbone.width", "8", "--model.weight", "1"]
OPTIONS += ["--model.confidence_hidden", "8", "--model.confidence_epochs", "1.5", "--trainer.max_epochs", "14"]
OPTIONS += ["--trainer.enable_progress_bar", "false", "--trainer.accelerator", "cpu", "--data.batch_size", "16"]
STEPS = 3  # per epoch: 35 training samples in batches of 16


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fit that nobody disturbed: 4 epochs of fusion, 6 of confidence, 4 of transfer."""
    folder = tmp_path_factory.mktemp("whole")
    assert main(["fit", *OPTIONS, *corpus(folder), "--run_dir", str(folder / "run")]) == 0
    return folder / "run"


def corpus(folder: Path) -> list[str]:
    """The same synthetic samples for all runs of this file."""
    os.environ["MER_DATA"] = str(folder.parent / "data")
    return ["--data.corpus", "mosi", "--data.synthetic", "true", "--data.samples", "60"]


def weights(run: Path, which: str = "best", of: str = "") -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints" / of / f"{which}.ckpt", weights_only=True)["state_dict"]


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor], part: str = "") -> bool:
    names = [name for name in first if name.startswith(part)]
    return bool(names) and all(torch.equal(first[name], second[name]) for name in names)


def test_each_phase_has_its_checkpoints_and_its_line(whole: Path) -> None:
    done = json.loads((whole / "phases.json").read_text())
    assert {name: phase["epochs"] for name, phase in done.items()} == {"fusion": 4, "confidence": 6, "transfer": 4}
    for folder in ("fusion", "confidence", ""):
        assert (whole / "checkpoints" / folder / "best.ckpt").is_file()
    logged = (whole / "logs" / "metrics.csv").read_text().splitlines()[0]
    for name in ("fusion/valid/score", "confidence/valid/score", "valid/score", "transfer/confidence_std"):
        assert name in logged.split(",")


def test_confidence_leaves_the_model_as_fusion_left_it(whole: Path) -> None:
    fusion, confidence = weights(whole, of="fusion"), weights(whole, of="confidence")
    assert same(fusion, confidence, "backbone.")
    assert same(fusion, confidence, "head.")
    assert not same(fusion, confidence, "confidence.layers.0")
    assert not same(fusion, weights(whole), "backbone.")


def test_transfer_starts_from_the_best_weights(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit: what the confidence phase found best, on top of what fusion found best."""
    starts: dict[str, dict[str, torch.Tensor]] = {}

    def on_train_start(self: MERMethod) -> None:
        starts[self.phase.name] = {name: value.clone() for name, value in self.state_dict().items()}

    monkeypatch.setattr(MERMethod, "on_train_start", on_train_start)
    run = tmp_path / "run"
    assert main(["fit", *OPTIONS, *corpus(whole.parent), "--run_dir", str(run)]) == 0
    assert same(starts["confidence"], weights(run, of="fusion"))
    assert same(starts["transfer"], weights(run, of="confidence"))
    assert not same(starts["fusion"], starts["confidence"])


# With every epoch saved: before anything was; in the middle of each phase; in the first step of the second and of the
# third. With the first and the last epoch of a phase saved, only the middle of a phase starts from other checkpoints.
MIDDLES = [2 * STEPS + 1, 7 * STEPS + 2, 12 * STEPS + 1]


@pytest.mark.parametrize(
    ("share", "after"),
    [
        *(pytest.param(1.0, after, id=f"every epoch-{after}") for after in [1, 4 * STEPS, 10 * STEPS, *MIDDLES]),
        *(pytest.param(1e-9, after, id=f"first and last-{after}") for after in MIDDLES),
    ],
)
def test_a_fit_that_broke_off_ends_as_if_it_had_not(
    share: float, after: int, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, step = tmp_path / "run", MERMethod.training_step
    done = 0
    monkeypatch.setattr(LastCheckpoint, "_SHARE", share)

    def breaking(self: MERMethod, *args: Any) -> torch.Tensor:
        nonlocal done
        if done == after:
            raise ConnectionError("pulled the plug")
        done += 1
        return step(self, *args)

    monkeypatch.setattr(MERMethod, "training_step", breaking)
    with pytest.raises(ConnectionError):
        main(["fit", *OPTIONS, *corpus(whole.parent), "--run_dir", str(run)])
    monkeypatch.undo()
    assert main(["fit", "--resume", str(run)]) == 0
    assert same(weights(run), weights(whole))
    assert same(weights(run, "last"), weights(whole, "last"))
    assert (run / "results.csv").read_text() == (whole / "results.csv").read_text()
    assert (run / "config.yaml").read_text().replace(str(run), "") == (whole / "config.yaml").read_text().replace(
        str(whole), ""
    )


def test_saving_takes_a_small_share_of_the_time(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve epochs of a few milliseconds, and saving that takes a fifth of a second."""
    saved, save = [], Trainer.save_checkpoint

    def slowly(self: Trainer, path: str, *options: Any) -> None:
        saved.append((Path(path).stem, self.current_epoch))
        time.sleep(0.2)
        save(self, path, *options)

    monkeypatch.setattr(Trainer, "save_checkpoint", slowly)
    options = ["fit", "--model", "supervised", "--model.backbone", "early", *corpus(whole.parent), "--patience", "12"]
    options += ["--model.optimizer", "torch.optim.SGD", "--model.optimizer.lr", "0.0"]
    options += ["--trainer.enable_progress_bar", "false", "--trainer.accelerator", "cpu", "--test_after_fit", "false"]
    assert main([*options, "--trainer.max_epochs", "12", "--run_dir", str(tmp_path / "run")]) == 0
    lasts = [epoch for name, epoch in saved if name == "last"]
    assert lasts[0] == 0
    assert len(lasts) == 2
    assert torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 12 * 2


def test_a_fit_that_broke_off_between_its_end_and_the_test(whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = [*OPTIONS, *corpus(whole.parent), "--run_dir", str(run), "--test_after_fit", "false"]
    assert main(["fit", *options]) == 0
    assert not (run / "results.csv").exists()
    assert main(["fit", "--resume", str(run), "--test_after_fit", "true"]) == 0
    assert (run / "results.csv").read_text() == (whole / "results.csv").read_text()


def test_early_stopping_survives_a_break(tmp_path: Path, whole: Path) -> None:
    """Killed after the epoch that ended it, a fit must not train another one."""
    options = ["fit", "--model", "supervised", "--model.backbone", "early", *corpus(whole.parent), "--patience", "1"]
    options += ["--model.optimizer", "torch.optim.SGD", "--model.optimizer.lr", "0.0", "--trainer.max_epochs", "30"]
    options += ["--trainer.enable_progress_bar", "false", "--trainer.accelerator", "cpu", "--test_after_fit", "false"]
    run = tmp_path / "run"
    assert main([*options, "--run_dir", str(run)]) == 0
    assert json.loads((run / "phases.json").read_text())["fit"]["epochs"] == 2
    before = weights(run, "last")
    (run / "phases.json").unlink()  # killed just before this was written
    assert main(["fit", "--resume", str(run)]) == 0
    assert json.loads((run / "phases.json").read_text())["fit"]["epochs"] == 2
    assert same(before, weights(run, "last"))


def test_a_fit_ended_by_sigkill_is_resumed_to_the_same_weights(whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-m", "mer_lightning.cli", "fit", *OPTIONS, *corpus(whole.parent), "--run_dir", str(run)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (run / "checkpoints" / "confidence" / "last.ckpt").exists() and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (run / "results.csv").exists()
    assert main(["fit", "--resume", str(run)]) == 0
    assert same(weights(run), weights(whole))


def test_an_unfinished_folder_is_not_trained_over(tmp_path: Path, whole: Path, capsys) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    assert main(["fit", *OPTIONS, *corpus(whole.parent), "--run_dir", str(tmp_path / "run")]) == 2
    assert "--resume" in capsys.readouterr().err


def test_progress_and_prefix_belong_to_the_phase(tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, list[float]] = {}
    step = MERMethod.training_step

    def watching(self: MERMethod, *args: Any) -> torch.Tensor:
        seen.setdefault(self.prefix, []).append(self.progress)
        return step(self, *args)

    monkeypatch.setattr(MERMethod, "training_step", watching)
    assert main(["fit", *OPTIONS, *corpus(whole.parent), "--run_dir", str(tmp_path / "run")]) == 0
    assert list(seen) == ["fusion/", "confidence/", ""]
    assert seen["confidence/"] == pytest.approx([i / (6 * STEPS) for i in range(6 * STEPS)])


def test_random_numbers_of_an_epoch_depend_on_seed_phase_epoch_and_process() -> None:
    """Frozen: a fit that goes on under a later version draws what it would have drawn."""

    def seed_of(seed: int, phase: str, epoch: int = 0, process: int = 0, step: int = 0) -> int:
        torch.manual_seed(-1)
        trainer: Any = SimpleNamespace(current_epoch=epoch, global_rank=process)
        EpochSeeds(seed, name_key(phase)).on_train_batch_start(trainer, None, None, step)
        return torch.initial_seed()

    untouched = torch.manual_seed(-1).initial_seed()
    assert seed_of(1111, "fit") == 1749730111938698
    assert seed_of(1111, "fit", step=1) == untouched
    others = [(1112, "fit", 0, 0), (1111, "transfer", 0, 0), (1111, "fit", 1, 0), (1111, "fit", 0, 1)]
    assert len({seed_of(1111, "fit"), *(seed_of(*other) for other in others)}) == 5

"""A number that is NaN or infinite ends a run with exit code 3 and a line that says where; what was good is kept."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Tensor

from mer_lightning.backbones.early import Early
from mer_lightning.batch import Batch
from mer_lightning.cli import main
from mer_lightning.contract import DIMS
from mer_lightning.contract import example_batch as make_batch
from mer_lightning.data.datamodule import MERData
from mer_lightning.errors import Diverged, Refusal, error_text
from mer_lightning.methods import divergence
from mer_lightning.methods.conditional_evaluation import ConditionalEvaluation
from mer_lightning.methods.divergence import WatchedStep, first_bad
from mer_lightning.methods.supervised import Supervised
from mer_lightning.studies.jobs import Job
from mer_lightning.studies.ledger import open_ledger
from mer_lightning.tasks import Regression
from mer_lightning.training import run_folder
from mer_lightning.training.phases import LastCheckpoint

FIT = ["fit", "--model", "supervised", "--model.backbone", "early", "--trainer.max_epochs", "3", "--data.batch_size"]
FIT += ["16", "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]  # 3 steps per epoch


@pytest.fixture
def fit(tiny_corpus, tmp_path: Path):
    options = ["--data.corpus", str(tiny_corpus()), "--run_dir", str(tmp_path / "run")]
    return lambda *more: main([*FIT, *options, *more])


def mark(run: Path) -> dict:
    return json.loads((run / run_folder.DIVERGED).read_text())


def test_a_rate_without_bounds(fit, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit("--model.optimizer", "SGD", "--model.optimizer.lr", "1e10") == 3
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("mer-lightning: diverged in phase fit, step ")
    assert "loss task is " in line
    run = tmp_path / "run"
    assert mark(run)["line"] == line.removeprefix("mer-lightning: ")
    assert not (run / "results.csv").exists()
    assert not (run / "phases.json").exists()
    # It is not done, and ends in the same way when it is tried again.
    assert main(["fit", "--resume", str(run)]) == 3


def nan_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    losses = Supervised.training_losses

    def training_losses(self: Supervised, batch: Batch):
        found = losses(self, batch)
        bad = self.trainer.global_step == step
        return {**found, "extra": (found["task"][0] * (math.inf if bad else 1.0), 0.5)}

    monkeypatch.setattr(Supervised, "training_losses", training_losses)


@pytest.mark.parametrize("at_once", [True, False])
def test_the_last_good_checkpoint_is_kept_and_resuming_takes_the_mark_away(
    at_once: bool, fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where steps are looked at together, as on an accelerator."""
    if not at_once:
        monkeypatch.setattr(Supervised, "_processes", 2)
        monkeypatch.setattr(
            "lightning.pytorch.strategies.SingleDeviceStrategy.reduce_boolean_decision",
            lambda _, decision, all=True: decision,
        )
        monkeypatch.setattr(torch.distributed, "all_gather_object", lambda facts, own: facts.__setitem__(0, own))
    monkeypatch.setattr(LastCheckpoint, "_SHARE", math.inf)  # after each epoch
    with monkeypatch.context() as patch:
        nan_at(patch, step=7)  # the second of the third epoch
        assert fit() == 3
    run = tmp_path / "run"
    found = mark(run)
    assert (found["phase"], found["step"], found["epoch"], found["what"]) == ("fit", 7, 2, "loss extra is inf")
    assert found["kept"] == str(run / "checkpoints" / "last.ckpt")
    kept = torch.load(found["kept"], weights_only=True)
    assert kept["epoch"] == 1
    assert all(value.isfinite().all() for value in kept["state_dict"].values())
    assert "the last good checkpoint is" in capsys.readouterr().err
    assert main(["fit", "--resume", str(run)]) == 0
    assert not (run / run_folder.DIVERGED).exists()
    assert (run / "results.csv").is_file()


def test_a_bad_frame_is_named_with_its_modality_and_sample(
    fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = MERData.setup

    def with_a_nan(self: MERData, stage: str) -> None:
        setup(self, stage)
        split = self.split("train")
        gather = type(split).batch

        def batch(split, index: Tensor, *rest):
            found = gather(split, index, *rest)
            found.features["audio"][found.index == 11] = math.nan
            return found

        monkeypatch.setattr(type(split), "batch", batch)

    monkeypatch.setattr(MERData, "setup", with_a_nan)
    assert fit() == 3
    found = mark(tmp_path / "run")
    assert found["epoch"] == 0
    assert list(found["origin"]) == ["audio"]
    (sample,) = found["origin"]["audio"]
    assert f"audio of {sample}" in found["line"]


def test_a_bad_label_is_named() -> None:
    method = small_method()
    batch = make_batch(task=Regression())
    batch.target[2] = math.inf
    with pytest.raises(Diverged) as caught:
        method.training_step(batch, 0)
    assert caught.value.origin == {"target": ["2"]}
    assert caught.value.what == "loss task is inf"


def test_a_modality_that_is_bad_in_every_sample_is_named_without_them() -> None:
    method, batch = small_method(), make_batch(task=Regression())
    batch.features["audio"][:] = math.nan
    with pytest.raises(Diverged) as caught:
        method.training_step(batch, 0)
    assert caught.value.origin == {"audio": []}


def test_weights_that_are_no_numbers_accuse_no_sample() -> None:
    method = small_method()
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.fill_(math.nan)
    with pytest.raises(Diverged) as caught:
        method.training_step(make_batch(task=Regression()), 0)
    assert caught.value.origin == {}


def small_method() -> Supervised:
    method = Supervised(dims=DIMS, task_card=Regression().card(), backbone=Early)
    method.enter(method.phases()[0])
    return method


def test_the_first_of_many_steps_is_found() -> None:
    def step(number: int, total: float, part: float) -> WatchedStep:
        losses = {"task": torch.tensor(part), divergence.TOTAL: torch.tensor(total)}
        return WatchedStep(number, 0, losses, None, torch.arange(2))

    assert first_bad([step(0, 1.0, 1.0), step(1, 2.0, 2.0)]) is None
    bad = first_bad([step(0, 1.0, 1.0), step(1, math.inf, 3e38), step(2, math.nan, math.nan)])
    assert bad is not None
    assert bad.step == 1
    assert bad.reason() == "loss loss is inf"  # the parts are finite, their sum is not


@pytest.mark.parametrize(("split", "phase"), [("test", "test"), ("valid", "fit")])
def test_predictions_that_are_no_numbers(
    split: str, phase: str, fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = ConditionalEvaluation.condition_outputs

    def condition_outputs(self: ConditionalEvaluation, batch: Batch, frozen):
        logits, extras = outputs(self, batch, frozen)
        logits = logits.clone()
        if self._split == split:
            logits[3, 0] = math.nan
        return logits, extras

    monkeypatch.setattr(ConditionalEvaluation, "condition_outputs", condition_outputs)
    assert fit() == 3
    found = mark(tmp_path / "run")
    assert found["phase"] == phase
    condition = "t" if split == "test" else "tav"
    assert found["what"].startswith(f"predictions of the {split} split are not finite under {condition}: video")
    assert not (tmp_path / "run" / "results.csv").exists()
    assert bool(found["kept"]) == (split == "test")


def test_a_study_says_why_and_does_not_count_the_run_as_done(tiny_corpus, tmp_path: Path) -> None:
    options = ["--data.corpus", str(tiny_corpus()), "--model.optimizer", "SGD", "--model.optimizer.lr", "1e10"]
    job = Job(tmp_path / "job", (*FIT[1:], *options))
    with pytest.raises(Diverged) as caught:
        job.run()
    assert error_text(caught.value).startswith("diverged in phase fit, step ")
    assert not job.done
    assert (job.run_folder / run_folder.DIVERGED).is_file()


def test_a_report_names_the_runs_that_diverged(fit, tmp_path: Path) -> None:
    assert fit("--run_dir", str(tmp_path / "runs" / "good")) == 0
    rate = ["--model.optimizer", "SGD", "--model.optimizer.lr", "1e10"]
    assert fit("--run_dir", str(tmp_path / "runs" / "bad"), *rate) == 3
    output = tmp_path / "report"
    assert main(["report", str(tmp_path / "runs"), "--output", str(output)]) == 0
    for name in ("report.md", "report.html"):
        text = (output / name).read_text()
        assert "diverged in phase fit, step " in text
        assert "bad" in text
    assert set(pd.read_parquet(output / "ledger.parquet")["run"]) == {str(tmp_path / "runs" / "good")}
    with pytest.raises(Refusal, match="found 1 that diverged, and no other"):
        open_ledger([tmp_path / "runs" / "bad"])

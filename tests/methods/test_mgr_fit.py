"""MGR in a fit: statistics of the training split, what is logged, going on after a break, and several processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from lightning.pytorch import Trainer

from mer_lightning.cli import main
from mer_lightning.data.datamodule import MERData
from mer_lightning.errors import Refusal
from mer_lightning.evaluation.probes import effective_rank
from mer_lightning.masks.training import ModalityDropout
from mer_lightning.methods.base import MERMethod
from mer_lightning.methods.loading import load_method
from mer_lightning.methods.mgr import method as mgr
from tests.data.test_corpus import absent
from tests.methods.test_mgr import make

OPTIONS = ["--model", "mgr", "--model.backbone", "early", "--model.backbone.width", "8", "--trainer.max_epochs", "3"]
OPTIONS += ["--data.masks", "uniform_combinations", "--model.select_under", "fixed-7", "--data.batch_size", "8"]
OPTIONS += ["--trainer.enable_progress_bar", "false", "--trainer.accelerator", "cpu"]
STEPS = 5  # per epoch: 40 training samples in batches of 8


def fitted(data: MERData, epochs: int = 1) -> tuple[mgr.MGR, Trainer]:
    trainer = Trainer(
        max_epochs=epochs,
        logger=False,
        enable_checkpointing=False,
        accelerator="cpu",
        enable_progress_bar=False,
    )
    method = make()
    trainer.fit(method, datamodule=data)
    return method, trainer


def test_codes_are_standardised_by_the_whole_training_split_without_dropout(tiny_raw, tmp_path: Path) -> None:
    """By the weights that are evaluated, over what samples have by nature, whatever the masks of training hide."""
    from mer_lightning.data.store import write_corpus

    write_corpus(absent(tiny_raw(), "audio", range(0, 30)), tmp_path / "corpus", "corpus")
    data = MERData(str(tmp_path / "corpus"), masks=ModalityDropout(0.5), batch_size=16)
    method, trainer = fitted(data, epochs=2)
    train = data.corpus.split(data.partition, "train")
    batch = train.batch(torch.arange(len(train)))
    assert 2 < int(batch.available[:, 1].sum()) < len(train) - 2
    method.eval()
    with torch.no_grad():
        _, shared, private = method._raw(method.backbone.encode(method.inputs(batch)))
    for number, name in enumerate(("text", "audio", "vision")):
        rows = shared[batch.available[:, number], number]
        torch.testing.assert_close(method.standardise_shared.mean[0, number], rows.mean(0))
        torch.testing.assert_close(method.standardise_shared.variance[0, number], rows.var(0, unbiased=False))
        deviation, rank = (trainer.callback_metrics[f"codes/{name}_{what}"].item() for what in ("deviation", "rank"))
        assert deviation == pytest.approx(rows.std(0, unbiased=False).mean().item(), rel=1e-4)
        assert rank == pytest.approx(effective_rank(rows).item(), rel=1e-4)
    together = private[batch.available]
    torch.testing.assert_close(method.standardise_private.mean[0, 0], together.mean(0))
    torch.testing.assert_close(method.standardise_private.variance[0, 0], together.var(0, unbiased=False))


def test_of_a_large_split_evenly_spaced_samples_are_enough(tiny_corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mgr, "_FOR_STATISTICS", 20)
    data = MERData(str(tiny_corpus()), batch_size=16)
    method, _ = fitted(data)
    train = data.corpus.split(data.partition, "train")
    with torch.no_grad():
        batch = method.inputs(train.batch(torch.arange(0, len(train), 2)))
        _, shared, _ = method.eval()._raw(method.backbone.encode(batch))
    assert len(shared) == 20
    torch.testing.assert_close(method.standardise_shared.mean[0], shared.mean(0))


def test_evaluation_alone_leaves_the_statistics(tiny_corpus) -> None:
    data = MERData(str(tiny_corpus()), batch_size=16)
    method, trainer = fitted(data)
    before = method.standardise_shared.mean.clone()
    with torch.no_grad():
        method.share[-1].bias += 1
    trainer.validate(method, datamodule=data, verbose=False)
    assert torch.equal(method.standardise_shared.mean, before)


def test_the_mean_contribution_of_what_is_there_is_logged(tiny_corpus) -> None:
    """One batch is the whole epoch, and in its first tenth all weights are even."""
    data = MERData(str(tiny_corpus()), masks=ModalityDropout(0.5), batch_size=100)
    _, trainer = fitted(data)
    found = [trainer.callback_metrics[f"contribution/{m}"].item() for m in ("text", "audio", "vision")]
    assert found == pytest.approx([1 / 3] * 3)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    os.environ["MER_DATA"] = str(tmp_path_factory.mktemp("data"))
    return ["--data.corpus", "mosi", "--data.synthetic", "true", "--data.samples", "68"]


def state(run: Path, which: str = "last") -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints" / f"{which}.ckpt", weights_only=True)["state_dict"]


@pytest.mark.parametrize("after", [STEPS + 2, 2 * STEPS])
def test_a_fit_that_broke_off_ends_as_if_it_had_not(
    after: int, corpus: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the referee, its bank and Adam's moments, contributions and statistics, to the last bit."""
    assert main(["fit", *OPTIONS, *corpus, "--run_dir", str(tmp_path / "whole")]) == 0
    step, done = MERMethod.training_step, 0

    def breaking(self: MERMethod, *args: Any) -> torch.Tensor:
        nonlocal done
        done += 1
        if done > after:
            raise ConnectionError("pulled the plug")
        return step(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(MERMethod, "training_step", breaking)
        patch.setattr("mer_lightning.training.phases.LastCheckpoint._SHARE", 1.0)
        with pytest.raises(ConnectionError):
            main(["fit", *OPTIONS, *corpus, "--run_dir", str(tmp_path / "broken")])
    assert main(["fit", "--resume", str(tmp_path / "broken")]) == 0
    for which in ("last", "best"):
        whole, broken = (state(tmp_path / run, which) for run in ("whole", "broken"))
        assert [name for name in whole if not torch.equal(whole[name], broken[name])] == []
    assert whole["referee.steps"] > 0
    assert (tmp_path / "broken" / "results.csv").read_text() == (tmp_path / "whole" / "results.csv").read_text()


def test_a_checkpoint_of_the_first_reconstruction_is_refused_in_one_line(corpus: list[str], tmp_path: Path) -> None:
    assert main(["fit", *OPTIONS, *corpus, "--trainer.max_epochs", "1", "--run_dir", str(tmp_path / "run")]) == 0
    path = tmp_path / "run" / "checkpoints" / "best.ckpt"
    load_method(path)
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["hyper_parameters"] |= {"width": 64, "guidance": "confusion", "probabilistic": True}
    torch.save(checkpoint, path)
    with pytest.raises(Refusal, match="train it again") as refused:
        load_method(path)
    assert "\n" not in str(refused.value)


TWO = """
import sys
import torch
from lightning.pytorch import Callback, Trainer
from mer_lightning.data.datamodule import MERData
from mer_lightning.masks.training import UniformCombinations
from tests.methods.test_mgr import make

class Same(Callback):
    def on_train_start(self, trainer, method):
        torch.manual_seed(trainer.global_rank)  # of dropout, as in a run

    def on_train_epoch_end(self, trainer, method):
        state = method.referee.state_dict() | method.contribution.state_dict() | method.standardise_shared.state_dict()
        for name, value in state.items():
            first, second = method.all_gather(value.float())
            assert torch.equal(first, second), name
        codes = method.referee.bank[method.referee.filled]
        assert method.referee.bank.shape[1] == 16, "the samples of both processes"
        assert len(codes.unique(dim=0)) > len(codes) // 2
        with open(f"{sys.argv[1]}/../process-{trainer.global_rank}", "a") as file:
            file.write(f"{trainer.current_epoch}\\n")

if __name__ == "__main__":
    data = MERData(sys.argv[1], masks=UniformCombinations(), batch_size=8)
    options = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "use_distributed_sampler"), False)
    trainer = Trainer(max_epochs=2, accelerator="cpu", devices=2, strategy="ddp", callbacks=[Same()], **options)
    trainer.fit(make(), datamodule=data)
"""


@pytest.mark.slow
def test_two_processes_have_one_referee(tiny_corpus, tmp_path: Path) -> None:
    (tmp_path / "two.py").write_text(TWO)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([os.getcwd(), *sys.path])}
    command = [sys.executable, str(tmp_path / "two.py"), str(tiny_corpus())]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for process in range(2):
        assert (tmp_path / f"process-{process}").read_text().split() == ["0", "1"]


@pytest.mark.parametrize("kind", ["single_label", "multi_label"])
def test_a_whole_run_of_other_tasks(kind: str, tiny_corpus, tmp_path: Path) -> None:
    from mer_lightning.contract import TASKS

    given = ["fit", *OPTIONS, "--data.corpus", str(tiny_corpus(task=TASKS[kind]))]
    assert main([*given, "--trainer.max_epochs", "1", "--run_dir", str(tmp_path / "run")]) == 0
    values = pd.read_csv(tmp_path / "run" / "results.csv")["value"]
    assert len(values)
    assert values.notna().all()

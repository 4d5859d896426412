"""The Python work of a run does not grow with its samples: tensors do what is done for each of them.

What is counted are lines of this package that Python executes, loops included; no clock is asked.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch

import mer_lightning
from mer_lightning.cli import main
from mer_lightning.contract import TASKS
from mer_lightning.data.corpus import open_corpus
from mer_lightning.data.datamodule import MERData
from mer_lightning.evaluation.metrics import evaluate
from mer_lightning.evaluation.predictions import Predictions, prediction_table
from mer_lightning.tasks import Task

PACKAGE = str(Path(mer_lightning.__file__).parent)
FEW, MANY = 60, 660  # a sixth of them are test samples
SLACK = 50  # lines, that numbers of other lengths or a chunk more may cost; one line per test sample would be 100


def lines_of(action: Callable[[], Any]) -> Counter[str]:
    """{file:line: how often it was executed}, of lines of this package; a loop on one line counts each round."""
    found: Counter[str] = Counter()

    def inside(frame: FrameType, event: str, arg: Any) -> Any:
        if event == "line":
            found[f"{frame.f_code.co_filename.removeprefix(PACKAGE)}:{frame.f_lineno}"] += 1
        return inside

    def called(frame: FrameType, event: str, arg: Any) -> Any:
        return inside if frame.f_code.co_filename.startswith(PACKAGE) else None

    before = sys.gettrace()
    sys.settrace(called)
    try:
        action()
    finally:
        sys.settrace(before)
    return found


def assert_no_growth(few: Counter[str], many: Counter[str]) -> None:
    assert few.total() > 10
    more = many - few
    assert more.total() <= SLACK, more.most_common(5)


def test_the_count_sees_loops() -> None:
    """On one line or on several, in this package and nowhere else."""
    code = compile("total = [i for i in range(n)]\nfor i in total:\n    pass\n", f"{PACKAGE}/example.py", "exec")
    few, many = (lines_of(lambda n=n: exec(code, {"n": n})) for n in (10, 300))
    assert (many - few).total() >= 2 * 290
    elsewhere = compile("total = [i for i in range(n)]", "elsewhere.py", "exec")
    assert not lines_of(lambda: exec(elsewhere, {"n": 300}))
    with pytest.raises(AssertionError):
        assert_no_growth(few, many)


@pytest.mark.parametrize("method", ["supervised", "cdat", "mgr", "mcur"])
def test_a_run_works_no_more_for_more_samples(
    tiny_corpus: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """One epoch of one batch, the test under seven conditions, and what is written, predicted and printed."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # without linear models of another test

    def whole_run(samples: int) -> Counter[str]:
        corpus = str(tiny_corpus(samples=samples))
        size = ["--data.batch_size", str(MANY), "--data.eval_batch_size", str(MANY)]
        quiet = ["--trainer.enable_progress_bar", "false", "--trainer.accelerator", "cpu"]
        folder = str(tmp_path / f"{method}-{samples}")
        fit = ["fit", "--model", method, "--model.backbone", "early", "--data.corpus", corpus, *size, *quiet]
        predict = ["predict", "--run", folder, "--output", f"{folder}.csv", "--run_dir", f"{folder}-predict"]

        def run() -> None:
            assert main([*fit, "--trainer.max_epochs", "1", "--run_dir", folder]) == 0
            assert main(predict) == 0

        return lines_of(run)

    # What is imported and cached once is counted with the few, and so never as growth.
    assert_no_growth(whole_run(FEW), whole_run(MANY))


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
@pytest.mark.parametrize("alignment", ["utterance", "unaligned"])
def test_data_and_tables_work_no_more_for_more_samples(
    tiny_corpus: Callable[..., Path], task: Task, alignment: str
) -> None:
    def served(samples: int) -> Counter[str]:
        folder = str(tiny_corpus(task=task, alignment=alignment, samples=samples))
        draw = torch.Generator().manual_seed(0)

        def serve() -> None:
            for options in ({}, {"resident": True}, {"bucket": True}, {"balanced": True}):
                data = MERData(corpus=folder, batch_size=MANY, eval_batch_size=MANY, **options)
                data.setup("fit")
                assert len(list(data.train_dataloader())) == 1
                data.feature_statistics()
                data.training_frames("text")
            data.teardown("fit")
            data.setup("test")
            split = data.split("test")
            logits = torch.randn(len(split), 2, task.outputs, generator=draw)
            assert split.target is not None
            predictions = Predictions(logits, split.target, torch.arange(len(split)))
            rows = prediction_table(predictions, task, ["t", "tav"], split.ids)
            assert len(rows) == 2 * len(split)
            evaluate(task, predictions.under(0), split.target)

        return lines_of(serve)

    assert_no_growth(served(FEW), served(MANY))


def test_ids_are_read_once(tiny_corpus: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    split = open_corpus(tiny_corpus()).split("official", "test")
    ids = split.ids
    assert ids == [f"video{i // 5}$_${i}" for i in range(60) if i % 6 == 5]
    monkeypatch.setattr(split, "corpus", None)  # nothing is asked a second time
    assert split.ids is ids

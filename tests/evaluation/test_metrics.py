"""What all metrics have in common: description, selection, precision, batches and processes."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import pytest
import torch

from mer_lightning.evaluation.metrics import METRICS_VERSION, describe, evaluate, score
from mer_lightning.evaluation.predictions import PredictionStore
from mer_lightning.tasks import MultiLabel, Regression, SingleLabel, Task

TASKS = [
    Regression(),
    Regression(limit=1.0),
    SingleLabel(("happy", "sad", "neutral", "angry")),
    MultiLabel(("happy", "sad", "anger", "surprise", "disgust", "fear")),
    MultiLabel(("neutral", "happy", "sad", "angry")),
]
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"


def _split(task: Task, samples: int = 53, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(samples, task.outputs, generator=draw)
    if task.kind == "regression":
        return logits, torch.randn(samples, generator=draw).clamp(-1, 1)
    if task.kind == "single_label":
        return logits, torch.randint(0, task.outputs, (samples,), generator=draw)
    return logits, torch.randint(0, 2, (samples, task.outputs), generator=draw).float()


def test_the_version_and_the_page_agree():
    """Raise both when the definition of a column changes: every row of results has the version."""
    assert METRICS_VERSION == 1
    assert f"`METRICS_VERSION` (now {METRICS_VERSION})" in PAGE.read_text()


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_every_column_is_described_and_measured(task):
    values = evaluate(task, *_split(task))
    columns = describe(task)
    assert list(values) == list(columns)
    assert all(type(value) is float and math.isfinite(value) for value in values.values())
    assert task.score[0] in columns
    assert task.score[1] == columns[task.score[0]].direction
    assert {metric for metric, info in columns.items() if info.direction == "min"} <= {"mae", "mag_mae", "hamming"}
    titles = [info.title for info in columns.values()]
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_every_column_is_in_the_reference(task):
    page = PAGE.read_text()
    for metric in describe(task):
        general = metric
        for name in getattr(task, "classes", ()):
            general = f"<class>_{metric.removeprefix(name + '_')}" if metric.startswith(f"{name}_") else general
        assert f"`{general}`" in page, general


HEADLINES = [
    ["mae", "corr", "acc7", "non0_acc2", "non0_f1", "has0_acc2"],
    ["mae", "corr", "acc2", "f1", "acc3", "acc5"],
    ["wa", "ua", "wf1"],
    ["jaccard", "micro_f1", "macro_f1", "gap"],
    ["jaccard", "micro_f1", "macro_f1", "gap", "binary_average_acc", "binary_average_f1"],
]


@pytest.mark.parametrize(("task", "headline"), list(zip(TASKS, HEADLINES, strict=True)), ids=str)
def test_headline(task, headline):
    assert [metric for metric, info in describe(task).items() if info.headline] == headline


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_the_order_of_samples_does_not_matter(task):
    logits, target = _split(task)
    order = torch.randperm(len(target), generator=torch.Generator().manual_seed(1))
    assert evaluate(task, logits[order], target[order]) == pytest.approx(evaluate(task, logits, target), abs=1e-12)


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_a_perfect_model_reaches_the_best(task):
    _, target = _split(task)
    if task.kind == "regression":
        logits = target.unsqueeze(1)
    elif task.kind == "single_label":
        logits = torch.nn.functional.one_hot(target, task.outputs).float()
    else:
        logits = 2 * target - 1
    for metric, info in describe(task).items():
        value = evaluate(task, logits, target)[metric]
        if metric == "jaccard":  # a sample without labels counts 0
            assert value == pytest.approx(float(target.any(1).double().mean()))
        else:
            assert value == pytest.approx(0 if info.direction == "min" else 1), metric


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_a_diverged_model_has_no_score(task):
    logits, target = _split(task)
    logits[7, 0] = math.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = evaluate(task, logits, target)
    assert list(values) == list(describe(task))
    assert all(math.isnan(value) for value in values.values())
    assert score(task, values) == -math.inf


def test_score_is_higher_for_the_better_model():
    assert score(Regression(), {"mae": 0.7}) == -0.7 > score(Regression(), {"mae": 0.8})
    assert score(SingleLabel(("a", "b")), {"wf1": 0.7}) == 0.7
    assert score(MultiLabel(("a", "b")), {"micro_f1": 0.6, "hamming": 0.1}) == 0.6
    assert score(Regression(), {"mae": math.nan}) == -math.inf


def test_half_precision_logits_are_cast_before_thresholds():
    """A logit of 1e-4 is a positive decision, and its bfloat16 sigmoid is exactly .5."""
    logits = torch.tensor([[1e-4], [-1e-4], [3e-3]], dtype=torch.bfloat16)
    assert (logits.sigmoid() == 0.5).all()
    assert evaluate(MultiLabel(("happy",)), logits, torch.tensor([[1.0], [0.0], [1.0]]))["exact"] == 1


def test_has0_and_mae_of_bfloat16_equal_those_of_their_float32_values():
    task = Regression()
    logits, target = _split(task)
    half = logits.bfloat16()
    assert evaluate(task, half, target) == evaluate(task, half.float(), target)


def _batches(task: Task) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """The split in shuffled batches of unequal size, in which some samples occur twice (a sampler's padding)."""
    logits, target = _split(task)
    order = torch.randperm(len(target), generator=torch.Generator().manual_seed(2))
    order = torch.cat([order, order[:3]])
    return [(logits[rows].unsqueeze(1), target[rows], rows) for rows in order.split([20, 20, 9, 1, 6])]


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_batches_are_concatenated_and_each_sample_counts_once(task):
    logits, target = _split(task)
    whole = evaluate(task, logits, target)
    store = PredictionStore()
    for batch in _batches(task):
        store.update(*batch)
    predictions = store.gather()
    assert torch.equal(predictions.index, torch.arange(len(target)))
    assert evaluate(task, predictions.under(0), predictions.target) == whole
    each = [evaluate(task, one.squeeze(1), truth) for one, truth, _ in _batches(task)]
    metric = "corr" if task.kind == "regression" else "macro_f1"
    averaged = sum(values[metric] for values in each) / len(each)
    assert averaged != pytest.approx(whole[metric], abs=1e-3), "averages over batches equal the whole on this split"


def _one_process(rank: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    task = TASKS[2]
    store = PredictionStore()
    batches = _batches(task)
    for batch in batches[:1] if rank else batches[1:]:
        store.update(*batch)
    predictions = store.gather()
    torch.save(evaluate(task, predictions.under(0), predictions.target), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_see_the_whole_split(tmp_path):
    torch.multiprocessing.spawn(_one_process, (str(tmp_path),), nprocs=2)
    whole = evaluate(TASKS[2], *_split(TASKS[2]))
    for rank in range(2):
        assert torch.load(tmp_path / f"{rank}.pt", weights_only=True) == whole

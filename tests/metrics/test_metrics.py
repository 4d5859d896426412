"""Metrics as torchmetrics: the digits of the pure functions on any batches and processes, and all that torchmetrics do.

Shapes: N samples of the split, C classes.
"""

from __future__ import annotations

import math
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchmetrics import MetricCollection

from mer_lightning import metrics
from mer_lightning.errors import Refusal
from mer_lightning.evaluation.metrics import describe, evaluate
from mer_lightning.evaluation.metrics_regression import concordance
from mer_lightning.metrics.base import OneClassMetric, SplitMetric, gather_tensors
from mer_lightning.metrics.multi_label import MultiLabelMetric
from mer_lightning.metrics.regression import RegressionMetric, SIMSMetric
from mer_lightning.metrics.single_label import SingleLabelMetric
from mer_lightning.tasks import MultiLabel, Regression, SingleLabel, Task

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"
CLASSES = tuple("0123")
FAMILIES: dict[type[SplitMetric], Task] = {
    RegressionMetric: Regression(),
    SIMSMetric: Regression(limit=1.0),
    SingleLabelMetric: SingleLabel(CLASSES),
    MultiLabelMetric: MultiLabel(CLASSES),
}
OFFERED: dict[str, type[SplitMetric]] = {name: getattr(metrics, name) for name in metrics.__all__}


def family(cls: type[SplitMetric]) -> type[SplitMetric]:
    return next(base for base in FAMILIES if issubclass(cls, base))


def made(cls: type[SplitMetric], number: int = 2) -> SplitMetric:
    return cls(number) if issubclass(cls, OneClassMetric) else cls()


def split_of(task: Task, samples: int = 53) -> tuple[Tensor, Tensor]:
    """(logits, target) of a model that knows something; a class number is missing from the truth of few samples."""
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(samples, task.outputs, generator=draw)
    if task.kind == "regression":
        target = (logits[:, 0] + torch.randn(samples, generator=draw)).mul(2).round().div(2)
        return logits, target.clamp(-3, 3)
    if task.kind == "single_label":
        return logits, torch.randint(0, task.outputs, (samples,), generator=draw)
    return logits, (logits + torch.randn(logits.shape, generator=draw) > 0).float()


def value_of(cls: type[SplitMetric], logits: Tensor, target: Tensor) -> float:
    """What the pure functions give."""
    if cls is metrics.CCC:
        return float(concordance(target.double(), logits[:, 0].double()))
    metric = made(cls)
    return evaluate(metric.task(logits.shape[1]), logits, target)[metric.column_name]


# --- the same numbers


@pytest.mark.parametrize("sizes", [[53], [20, 20, 13], [1] * 53, [50, 1, 2]], ids=str)
@pytest.mark.parametrize("name", OFFERED)
def test_digits_are_those_of_the_pure_functions_on_any_batches(name: str, sizes: list[int]) -> None:
    metric = made(OFFERED[name])
    logits, target = split_of(FAMILIES[family(OFFERED[name])])
    for rows in torch.arange(53).split(sizes):
        metric.update(logits[rows], target[rows])
    expected = value_of(OFFERED[name], logits, target)
    assert math.isfinite(expected)
    assert metric.compute().item() == expected


@pytest.mark.parametrize("task", FAMILIES.values(), ids=str)
def test_every_column_has_a_class(task: Task) -> None:
    base = next(each for each, known in FAMILIES.items() if known == task)
    offered = [cls for cls in OFFERED.values() if family(cls) is base and cls is not metrics.CCC]
    columns = [
        made(cls, number).column_name
        for cls in offered
        for number in range(4 if issubclass(cls, OneClassMetric) else 1)
    ]
    assert sorted(columns) == sorted(describe(task))


@pytest.mark.parametrize("name", OFFERED)
def test_a_class_says_what_its_column_says(name: str) -> None:
    cls = OFFERED[name]
    assert cls.__doc__ is not None
    assert cls.full_state_update is cls.is_differentiable is False
    if cls is metrics.CCC:
        assert cls.higher_is_better
        return
    info = describe(FAMILIES[family(cls)])[made(cls).column_name]
    assert cls.higher_is_better == (info.direction == "max")
    assert info.variant in cls.__doc__
    if not issubclass(cls, OneClassMetric):
        assert info.definition in cls.__doc__


def test_every_class_number_can_be_measured() -> None:
    logits, target = split_of(SingleLabel(CLASSES))
    for number in range(4):
        metric = metrics.ClassF1(number)
        metric.update(logits, target)
        assert metric.compute().item() == evaluate(SingleLabel(CLASSES), logits, target)[f"{number}_f1"]


def test_a_threshold_of_label_sets() -> None:
    logits, target = split_of(MultiLabel(CLASSES))
    for threshold in (0.35, 0.5):
        metric = metrics.MicroF1(threshold=threshold)
        metric.update(logits, target)
        assert metric.compute().item() == evaluate(MultiLabel(CLASSES, threshold), logits, target)["micro_f1"]


def test_numbers_come_with_or_without_a_second_dimension_and_keep_their_precision() -> None:
    target = torch.tensor([0.1, -1.3, 2.7], dtype=torch.float64)
    logits = torch.tensor([0.5, -1.0, 3.0], dtype=torch.bfloat16)
    flat, column = metrics.MAE(), metrics.MAE()
    flat.update(logits, target)
    column.update(logits.unsqueeze(1), target)
    expected = (target - logits.double()).abs().mean().item()
    assert flat.compute().item() == column.compute().item() == expected
    assert flat.compute().dtype == torch.float64


def test_a_diverged_model_has_no_score() -> None:
    for cls in (metrics.Acc7, metrics.CCC):
        metric = cls()
        metric.update(torch.tensor([1.0, math.nan]), torch.tensor([1.0, 2.0]))
        assert math.isnan(metric.compute().item())


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_no_samples_have_no_score() -> None:
    for cls in OFFERED.values():
        assert math.isnan(made(cls).compute().item())


def test_a_sample_that_comes_twice_counts_once_where_its_row_is_given() -> None:
    logits, target = split_of(SingleLabel(CLASSES))
    order = torch.randperm(53, generator=torch.Generator().manual_seed(1))
    metric = metrics.WeightedF1()
    for rows in torch.cat([order, order[:7]]).split(20):
        metric.update(logits[rows], target[rows], index=rows)
    assert metric.compute().item() == evaluate(SingleLabel(CLASSES), logits, target)["wf1"]


# --- concordance


def test_concordance_by_hand_and_by_numpy() -> None:
    t, p = torch.tensor([1.0, 2.0, 3.0]).double(), torch.tensor([2.0, 2.0, 5.0]).double()
    # Centred: (-1, 0, 1) and (-1, -1, 2); products sum to 3, squares to 2 and 6; the means differ by 1, three times.
    assert concordance(t, p).item() == pytest.approx(2 * 3 / (2 + 6 + 3))
    draw = np.random.default_rng(0)
    t, p = draw.normal(size=400), draw.normal(size=400) + 0.3
    p += t
    expected = 2 * np.cov(t, p, bias=True)[0, 1] / (t.var() + p.var() + (t.mean() - p.mean()) ** 2)
    assert concordance(torch.tensor(t), torch.tensor(p)).item() == pytest.approx(expected, abs=1e-12)


def test_concordance_laws() -> None:
    t = torch.randn(100, generator=torch.Generator().manual_seed(0)).double()
    assert concordance(t, t).item() == pytest.approx(1)
    assert concordance(t, 2 * t.mean() - t).item() == pytest.approx(-1)
    assert concordance(t, t + 1).item() < 0.9 < concordance(t, t + 0.1).item() < 1
    constant = torch.full_like(t, 0.1)
    assert concordance(t, constant).item() == concordance(constant, t).item() == 0
    assert concordance(constant, constant + 1).item() == 0
    assert math.isnan(concordance(constant, constant).item())
    assert math.isnan(concordance(t[:0], t[:0]).item())


# --- what torchmetrics do


@pytest.mark.parametrize("name", OFFERED)
def test_reset_forgets_and_a_copy_remembers(name: str) -> None:
    task = FAMILIES[family(OFFERED[name])]
    logits, target = split_of(task)
    metric = made(OFFERED[name])
    metric.update(logits[:30], target[:30])
    restored = pickle.loads(pickle.dumps(metric))
    restored.update(logits[30:], target[30:])
    assert restored.compute().item() == value_of(OFFERED[name], logits, target)
    metric.reset()
    metric.update(logits[20:], target[20:])
    assert metric.compute().item() == value_of(OFFERED[name], logits[20:], target[20:])


def test_calling_a_metric_gives_the_batch_and_adds_to_the_whole() -> None:
    logits, target = split_of(Regression())
    metric = metrics.MAE()
    task = Regression()
    for rows in torch.arange(53).split(20):
        assert metric(logits[rows], target[rows]).item() == evaluate(task, logits[rows], target[rows])["mae"]
    assert metric.compute().item() == evaluate(task, logits, target)["mae"]


@pytest.mark.parametrize("base", FAMILIES)
def test_a_collection_keeps_one_state_for_all(base: type[SplitMetric]) -> None:
    names = [name for name, cls in OFFERED.items() if family(cls) is base]
    collection = MetricCollection({name: made(OFFERED[name]) for name in names})
    logits, target = split_of(FAMILIES[base])
    for rows in torch.arange(53).split(20):
        collection.update(logits[rows], target[rows])
    assert [sorted(group) for group in collection.compute_groups.values()] == [sorted(names)]
    expected = {name: value_of(OFFERED[name], logits, target) for name in names}
    assert {name: value.item() for name, value in collection.compute().items()} == expected


# --- processes


def _collections() -> dict[type[SplitMetric], MetricCollection]:
    """All metrics, those of one kind of label with one state: gathering is slow."""
    return {
        base: MetricCollection({name: made(cls) for name, cls in OFFERED.items() if family(cls) is base})
        for base in FAMILIES
    }


def _one_process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    found: dict[str, list[float]] = {name: [] for name in OFFERED}

    def compute(metric: MetricCollection) -> None:
        for name, value in metric.compute().items():
            found[name].append(value.item())

    halves, idle, repeated = _collections(), _collections(), _collections()
    for base, task in FAMILIES.items():
        logits, target = split_of(task)
        for rows in torch.arange(53).split(30)[rank].split(8):
            halves[base].update(logits[rows], target[rows])
        compute(halves[base])
        if rank == 1:  # the other process sees nothing
            idle[base].update(logits, target)
        compute(idle[base])
        for rows in torch.cat([torch.arange(53), torch.zeros(1, dtype=torch.int64)])[rank::2].split(10):
            repeated[base].update(logits[rows], target[rows], index=rows)
        compute(repeated[base])
    torch.save(found, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
@pytest.mark.slow
def test_two_processes_have_the_digits_of_one(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_one_process, (str(tmp_path),), nprocs=2)
    expected = {name: [value_of(cls, *split_of(FAMILIES[family(cls)]))] * 3 for name, cls in OFFERED.items()}
    for rank in range(2):
        assert torch.load(tmp_path / f"{rank}.pt", weights_only=True) == expected


def test_a_process_goes_on_with_its_own_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes of which the other one has no batch: its tensor has another type and shape, and changes nothing."""

    def gather(found: list[Any], own: Tensor, group: Any) -> None:
        found[:] = [torch.zeros(0), own]

    monkeypatch.setattr(torch.distributed, "get_world_size", lambda group: 2)
    monkeypatch.setattr(torch.distributed, "all_gather_object", gather)
    rows = torch.tensor([2**24 + 1, 2**24])  # float32 cannot tell them apart
    assert torch.equal(torch.cat(gather_tensors(rows)), rows)
    assert gather_tensors(torch.zeros(0))[0].shape == (0,)
    metric = metrics.MAE(distributed_available_fn=lambda: True)
    metric.update(torch.zeros(2), torch.tensor([1.0, 3.0]), index=rows)
    assert metric.compute().item() == 2
    assert len(metric.target) == 1
    assert isinstance(metric.target, list)


# --- what cannot be measured


@pytest.mark.parametrize(
    ("metric", "logits", "target", "words"),
    [
        (metrics.WeightedF1(), (8,), (8,), r"WeightedF1: expected logits \(B, C\) and target \(B,\); found logits"),
        (metrics.WeightedF1(), (8, 4), (8, 4), r"target \(B,\); found logits \(8, 4\) and target \(8, 4\)"),
        (metrics.MAE(), (8, 4), (8,), r"\(B, 1\) or \(B,\)"),
        (metrics.MAE(), (8,), (8, 1), r"\(B, 1\) or \(B,\)"),
        (metrics.GAP(), (8, 4), (8,), r"target \(B, C\)"),
        (metrics.ClassF1(4), (8, 4), (8,), r"a class number from 0 to 3; found 4"),
        (metrics.ClassF1(-1), (8, 4), (8,), r"a class number from 0 to 3; found -1"),
    ],
)
def test_other_shapes_are_refused(metric: Any, logits: tuple[int, ...], target: tuple[int, ...], words: str) -> None:
    with pytest.raises(Refusal, match=words):
        metric.update(torch.zeros(logits), torch.zeros(target))


def test_rows_are_given_always_or_never() -> None:
    for first, second in ((torch.arange(2), None), (None, torch.arange(2))):
        metric = metrics.MAE()
        metric.update(torch.zeros(2), torch.zeros(2), index=first)
        with pytest.raises(Refusal, match="index in every update or in none"):
            metric.update(torch.zeros(2), torch.zeros(2), index=second)


# --- the page, and what is not loaded


def test_the_page_names_every_class() -> None:
    words = set(re.findall(r"`(\w+)", PAGE.read_text()))
    assert set(metrics.__all__) <= words


def test_the_package_is_imported_without_torchmetrics() -> None:
    code = "import sys, mer_lightning; print([m for m in ('torch', 'torchmetrics') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

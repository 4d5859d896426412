"""Paired tests: resampled scores equal the metrics, and p-values are uniform where nothing differs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from mer_lightning.contract import TASKS
from mer_lightning.evaluation.metrics import evaluate, score
from mer_lightning.evaluation.significance import (
    SURE,
    Difference,
    compare,
    corrected,
    holm,
    resampled_scores,
)
from mer_lightning.tasks import MultiLabel, Regression, SingleLabel, Task


def made(task: Task, samples: int, seed: int) -> tuple[Tensor, Tensor]:
    """Logits and targets of a model that is better than chance."""
    draw = torch.Generator().manual_seed(seed)
    if isinstance(task, Regression):
        target = torch.randn(samples, generator=draw)
        return (target + torch.randn(samples, generator=draw)).unsqueeze(1), target
    if isinstance(task, SingleLabel):
        target = torch.randint(0, task.outputs, (samples,), generator=draw)
        return torch.randn(samples, task.outputs, generator=draw) + torch.eye(task.outputs)[target], target
    target = torch.randint(0, 2, (samples, task.outputs), generator=draw).float()
    return torch.randn(samples, task.outputs, generator=draw) + target, target


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_a_resample_scores_as_the_same_samples_do(task: Task) -> None:
    logits, target = made(task, 50, 0)
    drawn = torch.randint(50, (4, 50), generator=torch.Generator().manual_seed(1))
    counts = torch.stack([torch.bincount(row, minlength=50) for row in drawn]).double()
    actual = resampled_scores(task, task.decide(logits), target, counts)
    expected = [score(task, evaluate(task, logits[row], target[row])) for row in drawn]
    assert actual.tolist() == pytest.approx(expected, abs=1e-6)


def test_interval_of_a_known_difference() -> None:
    """Two constant offsets of the truth: the difference of the MAEs is known for every sample."""
    target = torch.linspace(-3, 3, 200)
    better, worse = (target + 0.1).view(1, 1, -1, 1), (target + 0.4).view(1, 1, -1, 1)
    actual = compare(Regression(), better, worse, target)
    assert actual.value == pytest.approx(0.3, abs=1e-6)
    assert (actual.low, actual.high) == pytest.approx((0.3, 0.3), abs=1e-6)
    assert actual.bootstrap_p == pytest.approx(2 / 2001)
    assert actual.wilcoxon_p < 1e-10


def test_equal_methods_do_not_differ() -> None:
    logits, target = made(Regression(), 80, 0)
    actual = compare(Regression(), logits.view(1, 1, -1, 1), logits.view(1, 1, -1, 1), target)
    assert actual.value == 0
    assert actual.bootstrap_p == actual.wilcoxon_p == 1


def test_a_p_value_is_uniform_where_nothing_differs() -> None:
    """Of 60 comparisons of equally good models about 5 % fall below .05, and not most of them."""
    p_values = []
    for seed in range(60):
        draw = torch.Generator().manual_seed(seed)
        target = torch.randn(150, generator=draw)
        first, second = ((target + torch.randn(150, generator=draw)).view(1, 1, -1, 1) for _ in range(2))
        p_values.append(compare(Regression(), first, second, target).bootstrap_p)
    assert np.mean(np.array(p_values) < 0.05) <= 0.15
    assert 0.3 < np.mean(p_values) < 0.7


def test_score_is_the_mean_over_seeds_and_conditions() -> None:
    task = MultiLabel(("a", "b"))
    runs = [[made(task, 60, 10 * s + k)[0] for k in range(2)] for s in range(3)]
    target = made(task, 60, 0)[1]
    other = torch.zeros(1, 2, 60, 2) - 1
    logits = torch.stack([torch.stack(run) for run in runs])
    expected = np.mean([score(task, evaluate(task, k, target)) for run in runs for k in run])
    assert compare(task, logits, other, target).value == pytest.approx(expected, abs=1e-6)


def test_seeds_widen_the_interval() -> None:
    """Two runs with very different scores give a wider interval than two with equal scores."""
    target = torch.linspace(-3, 3, 200)
    other = (target + 0.5).view(1, 1, -1, 1)
    agreeing = torch.stack([target + 0.3, target + 0.3]).view(2, 1, -1, 1)
    differing = torch.stack([target + 0.1, target + 0.5]).view(2, 1, -1, 1)
    narrow, wide = (compare(Regression(), each, other, target) for each in (agreeing, differing))
    assert narrow.value == pytest.approx(wide.value, abs=1e-6)
    assert wide.high - wide.low > narrow.high - narrow.low + 0.1


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def shifted(shift: float, seed: int = 0) -> Difference:
    """As ``compare`` makes it of 2000 resampled differences around ``shift``."""
    resampled = (torch.randn(2000, generator=torch.Generator().manual_seed(seed)).double() + shift).sort().values
    tail = min(int((resampled <= 0).sum()), int((resampled >= 0).sum()))
    p = min(2 * (tail + 1) / 2001, 1.0)
    return Difference(shift, 0.0, 0.0, p, 0.5, resampled).with_interval(SURE)


def test_an_interval_and_its_p_value_agree_to_the_last_resample() -> None:
    """One resample more or less beyond 0 changes both, or neither."""
    decided = set()
    for beyond in range(40, 60):
        resampled = torch.arange(2000).double() - beyond + 0.5  # ``beyond`` of them are below 0
        each = Difference(0.0, 0.0, 0.0, 2 * (beyond + 1) / 2001, 1.0, resampled).with_interval(SURE)
        assert (each.low > 0) == (each.bootstrap_p <= SURE)
        decided.add(each.low > 0)
    assert decided == {True, False}


@pytest.mark.parametrize(
    "shifts", [[2.1, 2.2, 2.3, 2.4, 0.1], [2.0, -2.05, 0.0], [3.0, 2.3, -2.3, 2.2, 2.1, 2.0], [1.9]]
)
def test_corrected_intervals_agree_with_corrected_p_values(shifts: list[float]) -> None:
    before = {str(number): shifted(shift, number) for number, shift in enumerate(shifts)}
    after = corrected(before)
    assert [each.bootstrap_p for each in after.values()] == pytest.approx(
        holm([each.bootstrap_p for each in before.values()])
    )
    assert [each.wilcoxon_p for each in after.values()] == holm([0.5] * len(shifts))
    for name, each in after.items():
        assert (each.low > 0 or each.high < 0) == (each.bootstrap_p <= SURE)
        assert each.low <= before[name].low <= before[name].high <= each.high


def test_too_few_resamples_for_a_level_give_no_ends() -> None:
    assert shifted(9.0).with_interval(0.0009).low == -np.inf
    assert shifted(9.0).with_interval(0.0011).low > 0


def test_a_class_that_nobody_has_or_predicts_counts_nothing() -> None:
    task = SingleLabel(("sad", "glad", "calm"))
    decision, target = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, 1])
    scores = resampled_scores(task, decision, target, torch.tensor([[1.0, 1, 1, 1], [0, 1, 0, 0]]).double())
    # F1 of sad: 2 / 3, of glad: 4 / 5; one of four is sad. In the second resample no class is hit.
    assert scores.tolist() == pytest.approx([(2 / 3 + 3 * 4 / 5) / 4, 0.0])


def test_losses_are_means_over_seeds_however_many_there_are() -> None:
    target = torch.linspace(-3, 3, 50)
    one = (target + torch.linspace(0.1, 0.5, 50)).view(1, 1, -1, 1)
    found = compare(Regression(), one.expand(2, 1, -1, -1), one, target)
    assert found.value == 0
    assert not found.wilcoxon_p < 1

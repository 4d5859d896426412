"""Metrics of ratings: per target and their means, without the labels that are missing."""

from __future__ import annotations

import math

import pytest
import torch

from mer_lightning.evaluation.floors import best_floor, floors
from mer_lightning.evaluation.metrics import describe, evaluate, score
from mer_lightning.evaluation.significance import compare, resampled_scores
from mer_lightning.tasks import Ratings, Regression

TASK = Ratings(("valence", "arousal"), (1.0, 1.0), (7.0, 7.0))
NAN = float("nan")
DRAW = torch.Generator().manual_seed(3)
TRUTH = 1 + 6 * torch.rand(40, 2, generator=DRAW)
TRUTH[:7, 1] = NAN
PREDICTION = TRUTH.nan_to_num(4.0) * torch.tensor([0.5, -0.2]) + torch.rand(40, 2, generator=DRAW)


def slow_ccc(t: list[float], p: list[float]) -> float:
    """Lin's coefficient, from its definition."""
    n, mean_t, mean_p = len(t), sum(t) / len(t), sum(p) / len(p)
    covariance = sum((a - mean_t) * (b - mean_p) for a, b in zip(t, p, strict=True)) / n
    spread = sum((a - mean_t) ** 2 for a in t) / n + sum((b - mean_p) ** 2 for b in p) / n
    return 2 * covariance / (spread + (mean_t - mean_p) ** 2)


def test_of_each_target_and_their_mean() -> None:
    values = evaluate(TASK, PREDICTION, TRUTH)
    for number, name in enumerate(TASK.targets):
        known = ~TRUTH[:, number].isnan()
        t, p = TRUTH[known, number].double().tolist(), PREDICTION[known, number].double().tolist()
        assert values[f"{name}_ccc"] == pytest.approx(slow_ccc(t, p), abs=1e-9)
        assert values[f"{name}_mae"] == pytest.approx(sum(abs(a - b) for a, b in zip(t, p, strict=True)) / len(t))
    for metric in ("ccc", "corr", "mae"):
        assert values[metric] == pytest.approx((values[f"valence_{metric}"] + values[f"arousal_{metric}"]) / 2)
    assert values["arousal_ccc"] < 0 < values["valence_ccc"] < 1
    assert score(TASK, values) == values["ccc"]


def test_only_a_sentiment_has_acc2_and_acc7() -> None:
    assert [name for name in describe(TASK) if "acc" in name] == []
    assert list(describe(Ratings(("label",), (1.0,), (5.0,)))) == ["ccc", "corr", "mae"]
    assert list(describe(Regression(5.0))) == ["mae", "corr"]


def test_constants_have_no_concordance() -> None:
    floor = best_floor(TASK, floors(TASK, TRUTH, TRUTH))
    assert floor["ccc"] == 0
    assert math.isnan(floor["corr"])
    medians = (TRUTH - TRUTH.nanquantile(0.5, 0)).abs().nanmean(0)
    assert floor["mae"] == pytest.approx(float(medians.mean()), abs=1e-5)
    nothing = torch.full((3, 2), NAN)
    assert best_floor(TASK, floors(TASK, nothing, TRUTH))["mae"] == pytest.approx(
        float((TRUTH - 4).abs().nanmean(0).mean()), abs=1e-5
    )


@pytest.mark.parametrize("task", [TASK, Ratings(("label",), (1.0,), (7.0,))], ids=["several", "one"])
def test_resamples_score_as_their_samples_do(task: Ratings) -> None:
    truth, prediction = (TRUTH, PREDICTION) if task is TASK else (TRUTH[:, 0], PREDICTION[:, 0])
    drawn = torch.randint(40, (5, 40), generator=torch.Generator().manual_seed(0))
    counts = torch.zeros(5, 40, dtype=torch.float64).scatter_add_(1, drawn, torch.ones(5, 40, dtype=torch.float64))
    found = resampled_scores(task, prediction, truth, counts)
    for value, rows in zip(found.tolist(), drawn, strict=True):
        of_rows = evaluate(task, prediction[rows].view(40, -1), truth[rows])
        assert value == pytest.approx(score(task, of_rows), abs=1e-6)


def test_a_better_model_is_found_to_be_better() -> None:
    near, far = TRUTH.nan_to_num(4.0) + 0.1 * torch.randn(40, 2, generator=DRAW), PREDICTION
    difference = compare(TASK, near[None, None], far[None, None], TRUTH)
    assert difference.low > 0
    assert difference.wilcoxon_p < 0.01

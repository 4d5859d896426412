"""Regression metrics against golden vectors, scikit-learn and numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score

from mer_lightning.evaluation.classification import count_two, weighted_f1
from mer_lightning.evaluation.metrics import describe, evaluate
from mer_lightning.evaluation.metrics_regression import classes_between, pearson
from mer_lightning.tasks import Regression

A = (
    [-3, -2.5, -1.5, -0.5, 0, 0, 0.5, 1.5, 2.5, 3, -0.2, 0.2, 1, -1, 2, -2],
    [-3.4, -2.5, -0.5, 0.5, 0, -0.1, 1.5, 2.5, 3.6, 2.4, 0, -0.3, 0.5, -1.6, 1.9, 0.4],
)
B = (
    [-3, -2.5, -1.5, -0.5, 0, 0, 0.4, 1.5, 2.5, 3, -0.2, 0.2],
    [-3.4, -2, -0.5, 0.5, 0, -0.1, 1.4, 2, 2, 3.6, 0, -0.3],
)


def _vector_c() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.RandomState(1111)
    t = np.round(np.clip(1.6 * rng.randn(686), -3, 3), 1).astype(np.float32)
    return t, (0.8 * t + 0.9 * rng.randn(686)).astype(np.float32)


VECTORS = {"A": A, "B": B, "C": _vector_c()}
GOLDEN = {
    "A": {
        "has0_acc2": 0.6875,
        "has0_f1": 0.6837044534,
        "non0_acc2": 0.7857142857,
        "non0_f1": 0.7846153846,
        "mult_non0_f1_swapped": 0.7868131868,
        "mult_acc2_all": 0.8125,
        "acc7": 0.5625,
        "acc5": 0.6875,
        "acc3": 0.75,
        "mae": 0.65625,
        "corr": 0.8879629911,
    },
    "B": {
        "has0_acc2": 0.6666666667,
        "has0_f1": 0.6666666667,
        "non0_acc2": 0.8,
        "mag_acc2": 0.7,
        "non0_f1": 0.8,
        "mult_non0_f1_swapped": 0.8,
        "mult_acc2_all": 0.8333333333,
        "acc7": 0.8333333333,
        "acc5": 0.8333333333,
        "acc3": 0.8333333333,
        "mae": 0.525,
        "corr": 0.9509719208,
    },
    "C": {
        "has0_acc2": 0.7900874636,
        "has0_f1": 0.7900874636,
        "non0_acc2": 0.8003025719,
        "non0_f1": 0.8001211254,
        "mult_non0_f1_swapped": 0.8004840183,
        "acc7": 0.3877551020,
        "acc5": 0.4650145773,
        "acc3": 0.6370262390,
        "mae": 0.7709559632,
        "corr": 0.7852569532,
    },
}


def _tensors(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    t, p = VECTORS[name]
    return torch.tensor(t, dtype=torch.float32), torch.tensor(p, dtype=torch.float32)


def _of(task: Regression, t: torch.Tensor, p: torch.Tensor) -> dict[str, float]:
    return evaluate(task, p.unsqueeze(1), t)


@pytest.mark.parametrize(
    ("name", "metric", "value"), [(n, m, v) for n, values in GOLDEN.items() for m, v in values.items()]
)
def test_golden(name, metric, value):
    assert _of(Regression(), *_tensors(name))[metric] == pytest.approx(value, abs=1e-6)


def test_accuracies_of_grades_are_called_by_the_number_of_grades():
    columns = describe(Regression())
    assert [columns[name].title for name in ("acc7", "acc5", "acc3")] == ["Acc-7", "Acc-5", "Acc-3"]


def test_golden_vector_c_has_25_zeros():
    assert int((_tensors("C")[0] == 0).sum()) == 25


@pytest.mark.parametrize(("name", "value"), [("A", 0.6912955466), ("B", 0.6666666667), ("C", 0.7900874636)])
def test_f1_depends_on_the_order_of_its_arguments(name, value):
    t, p = _tensors(name)
    assert float(weighted_f1(count_two(p >= 0, t >= 0))) == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "metric", "limit", "half_away", "no_clip"),
    [
        ("B", "acc7", 3, 0.5833333333, 0.75),
        ("B", "acc5", 2, 0.75, None),
        ("C", "acc7", 3, 0.3819241983, 0.3804664723),
    ],
)
def test_wrong_roundings_give_other_values(name, metric, limit, half_away, no_clip):
    t, p = (x.double().numpy() for x in _tensors(name))
    clipped = np.clip(t, -limit, limit), np.clip(p, -limit, limit)
    away = [np.sign(x) * np.floor(np.abs(x) + 0.5) for x in clipped]
    assert np.mean(away[0] == away[1]) == pytest.approx(half_away, abs=1e-6)
    if no_clip is not None:
        assert np.mean(np.round(t) == np.round(p)) == pytest.approx(no_clip, abs=1e-6)
    actual = _of(Regression(), *_tensors(name))[metric]
    assert actual not in (pytest.approx(half_away, abs=1e-3), pytest.approx(no_clip or -1, abs=1e-3))


@pytest.mark.parametrize("name", VECTORS)
def test_mosi_columns_equal_scikit_learn_and_numpy(name):
    t, p = _tensors(name)
    actual = _of(Regression(), t, p)
    t, p = t.numpy().astype(np.float64), p.numpy().astype(np.float64)
    kept = t != 0
    t0, p0 = t[kept], p[kept]

    def graded(limit: int) -> float:
        return accuracy_score(np.round(np.clip(t, -limit, limit)) + 9, np.round(np.clip(p, -limit, limit)) + 9)

    def f1(truth: np.ndarray, decision: np.ndarray) -> float:
        return f1_score(truth, decision, average="weighted", zero_division=0)

    expected = {
        "mae": np.abs(p - t).mean(),
        "corr": np.corrcoef(p, t)[0, 1],
        "acc7": graded(3),
        "acc5": graded(2),
        "acc3": graded(1),
        "has0_acc2": accuracy_score(t >= 0, p >= 0),
        "has0_f1": f1(t >= 0, p >= 0),
        "non0_acc2": accuracy_score(t0 > 0, p0 > 0),
        "non0_f1": f1(t0 > 0, p0 > 0),
        "mult_acc2_all": accuracy_score(t > 0, p > 0),
        "mult_non0_f1_swapped": f1(p0 > 0, t0 > 0),
        "mag_acc2": accuracy_score(t0 >= 0, p0 >= 0),
        "mag_f1": f1(t0 >= 0, p0 >= 0),
        "mag_mae": np.abs(p0 - t0).mean(),
        "mag_corr": np.corrcoef(p0, t0)[0, 1],
    }
    assert actual == pytest.approx(expected, abs=1e-12)


def _sims_reference(t: np.ndarray, p: np.ndarray) -> dict[str, float]:
    """Class by class and sample by sample, in float32 as in the published evaluation."""
    t, p = np.clip(t, -1, 1), np.clip(p, -1, 1)

    def classes(x: np.ndarray, edges: list[float]) -> list[int]:
        edges = [np.float32(edge) for edge in edges]
        return [next(k for k in range(len(edges) - 1) if edges[k] < v <= edges[k + 1]) for v in x]

    two, three, five = [-1.01, 0, 1.01], [-1.01, -0.1, 0.1, 1.01], [-1.01, -0.7, -0.1, 0.1, 0.7, 1.01]
    return {
        "mae": np.abs(p.astype(np.float64) - t).mean(),
        "corr": np.corrcoef(p.astype(np.float64), t.astype(np.float64))[0, 1],
        "acc2": accuracy_score(classes(t, two), classes(p, two)),
        "f1": f1_score(classes(t, two), classes(p, two), average="weighted"),
        "acc3": accuracy_score(classes(t, three), classes(p, three)),
        "acc5": accuracy_score(classes(t, five), classes(p, five)),
    }


def test_sims_by_hand():
    t = torch.tensor([-1.0, -0.8, -0.2, 0.0, 0.0, 0.2, 0.6, 0.8, 1.0, -0.6])
    p = torch.tensor([-1.4, -0.6, 0.05, -0.1, 0.1, 0.1, 0.7, 0.7, 1.2, -0.7])
    actual = _of(Regression(limit=1.0), t, p)
    assert set(actual) == {"mae", "corr", "acc2", "f1", "acc3", "acc5"}
    # Signs, with 0 in the negative class: wrong at -.2/.05 and 0/.1.
    assert actual["acc2"] == pytest.approx(0.8)
    # Three grades, a value on a cut falls below it: wrong at -.2/.05, 0/-.1 and .2/.1.
    assert actual["acc3"] == pytest.approx(0.7)
    # Five grades: beside these, wrong at -.8/-.6, .8/.7 and -.6/-.7.
    assert actual["acc5"] == pytest.approx(0.4)
    assert actual["mae"] == pytest.approx((0 + 0.2 + 0.25 + 0.1 + 0.1 + 0.1 + 0.1 + 0.1 + 0 + 0.1) / 10)
    assert actual == pytest.approx(_sims_reference(t.numpy(), p.numpy()), abs=1e-6)


def test_sims_equals_the_reference_on_many_labels():
    rng = np.random.default_rng(3)
    t = rng.choice(np.arange(-10, 11) / 10, 400).astype(np.float32)  # labels on every cut
    p = np.where(rng.random(400) < 0.5, t, t + rng.normal(size=400) * 0.6).astype(np.float32)
    actual = _of(Regression(limit=1.0), torch.tensor(t), torch.tensor(p))
    assert actual == pytest.approx(_sims_reference(t, p), abs=1e-9)


def test_a_float32_label_on_a_cut_falls_below_it():
    on_the_cuts = torch.tensor([-0.7, -0.1, 0.1, 0.7]).double()
    assert classes_between(on_the_cuts, (-0.7, -0.1, 0.1, 0.7)).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("constant", [0.0, 0.1, -1.3, 2.7182817, 1e-30])
@pytest.mark.parametrize("samples", [1, 3, 686])
def test_a_constant_has_no_correlation(constant, samples, recwarn):
    t = torch.randn(samples, generator=torch.Generator().manual_seed(0))
    values = _of(Regression(), t, torch.full((samples,), constant))
    assert math.isnan(values["corr"])
    assert math.isnan(values["mag_corr"])
    assert math.isfinite(values["mae"])
    assert not recwarn.list


@pytest.mark.parametrize("samples", [3, 7, 49, 686, 4659])
def test_a_rounding_error_is_not_a_correlation(samples):
    """The mean of equal numbers may differ from them in the last bit of float64: that is no correlation."""
    t = torch.randn(samples, generator=torch.Generator().manual_seed(0)).double()
    constant = torch.full((samples,), 0.1, dtype=torch.float64)
    assert math.isnan(float(pearson(t, constant)))
    assert math.isnan(float(pearson(constant, t)))


def test_correlation_laws():
    draw = torch.Generator().manual_seed(0)
    t, p = torch.randn(200, generator=draw).double(), torch.randn(200, generator=draw).double()
    assert float(pearson(t, 3 * t + 1)) == pytest.approx(1)
    assert float(pearson(t, -t)) == pytest.approx(-1)
    assert float(pearson(t, p)) == pytest.approx(float(pearson(5 * p - 2, t)))
    assert abs(float(pearson(t, t))) <= 1


def test_without_a_nonzero_label_the_sign_metrics_are_undefined(recwarn):
    values = _of(Regression(), torch.zeros(4), torch.randn(4))
    undefined = {metric for metric, value in values.items() if math.isnan(value)}
    assert undefined == {
        "corr", "non0_acc2", "non0_f1", "mult_non0_f1_swapped", "mag_acc2", "mag_f1", "mag_mae", "mag_corr"
    }  # fmt: skip
    assert not recwarn.list

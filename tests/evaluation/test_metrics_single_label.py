"""Single-label metrics against the golden check and scikit-learn."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

from mer_lightning.evaluation.metrics import evaluate
from mer_lightning.tasks import SingleLabel

CLASSES = ("happy", "sad", "neutral", "angry")


def _of(truth: list[int] | np.ndarray, decision: list[int] | np.ndarray) -> dict[str, float]:
    logits = F.one_hot(torch.as_tensor(decision), len(CLASSES)).float()
    return evaluate(SingleLabel(CLASSES), logits, torch.as_tensor(truth))


def test_golden():
    values = _of([0, 0, 0, 0, 1, 1, 2, 2, 2, 3], [0, 0, 1, 3, 1, 2, 2, 2, 0, 0])
    expected = {"wa": 0.5, "ua": 0.4166666667, "wf1": 0.5, "macro_f1": 0.4166666667}
    for name, value in zip(CLASSES, (0.6, 0.8, 0.8, 0.8), strict=True):
        expected |= {f"{name}_acc": value, f"{name}_f1": value}
    expected |= {"binary_average_acc": 0.75, "binary_average_f1": 0.75}
    assert {metric: values[metric] for metric in expected} == pytest.approx(expected, abs=1e-6)
    assert set(values) == set(expected) | {f"{name}_balanced_acc" for name in CLASSES}


def test_equals_scikit_learn():
    rng = np.random.default_rng(0)
    truth = rng.choice(4, 300, p=[0.1, 0.2, 0.4, 0.3])
    decision = np.where(rng.random(300) < 0.5, truth, rng.integers(0, 4, 300))
    expected = {
        "wa": accuracy_score(truth, decision),
        "ua": balanced_accuracy_score(truth, decision),
        "wf1": f1_score(truth, decision, average="weighted"),
        "macro_f1": f1_score(truth, decision, average="macro"),
    }
    accuracies, f1s = [], []
    for c, name in enumerate(CLASSES):
        accuracies.append(accuracy_score(truth == c, decision == c))
        f1s.append(f1_score(truth == c, decision == c, average="weighted"))
        expected[f"{name}_acc"], expected[f"{name}_f1"] = accuracies[-1], f1s[-1]
        expected[f"{name}_balanced_acc"] = balanced_accuracy_score(truth == c, decision == c)
    expected |= {"binary_average_acc": np.mean(accuracies), "binary_average_f1": np.mean(f1s)}
    assert _of(truth, decision) == pytest.approx(expected, abs=1e-12)


def test_one_predicted_class_is_silent_and_scores_zero_for_the_others():
    truth = [0, 0, 1, 2, 2, 3]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = _of(truth, [2] * 6)
    assert values["wa"] == pytest.approx(2 / 6)
    assert values["ua"] == pytest.approx(1 / 4)
    assert values["macro_f1"] == pytest.approx(0.5 / 4)
    assert values["wf1"] == pytest.approx(f1_score(truth, [2] * 6, average="weighted", zero_division=0))


def test_a_class_that_never_occurs_does_not_change_the_means():
    truth, decision = [0, 0, 1, 1, 2], [0, 1, 1, 1, 2]  # no class 3
    values = _of(truth, decision)
    assert values["ua"] == pytest.approx((0.5 + 1 + 1) / 3)
    assert values["macro_f1"] == pytest.approx(f1_score(truth, decision, average="macro"))
    assert math.isnan(values["angry_balanced_acc"])
    assert values["angry_acc"] == 1


def test_a_class_predicted_but_never_true_counts_in_macro_f1():
    truth, decision = [0, 0, 1, 1], [0, 3, 1, 1]
    values = _of(truth, decision)
    assert values["macro_f1"] == pytest.approx(f1_score(truth, decision, average="macro", zero_division=0))
    assert values["macro_f1"] < values["ua"]

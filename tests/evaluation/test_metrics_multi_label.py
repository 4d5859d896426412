"""Multi-label metrics against the golden check and scikit-learn."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from sklearn import metrics as oracle

from mer_lightning.evaluation.classification import average_precision, balanced_accuracies, count
from mer_lightning.evaluation.metrics import evaluate
from mer_lightning.tasks import MultiLabel

CLASSES = ("happy", "sad", "anger", "surprise", "disgust", "fear")
Y = torch.tensor([[1, 0, 1, 0, 0, 0], [0, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0], [1, 1, 0, 0, 1, 0]]).float()
P = torch.tensor([[1, 0, 0, 0, 0, 0], [0, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 1, 1]]).float()


def _random(samples: int = 250, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """(logits with ties, target) of six classes as frequent as MOSEI's emotions."""
    draw = torch.Generator().manual_seed(seed)
    rates = torch.tensor([0.54, 0.24, 0.23, 0.1, 0.17, 0.08])
    target = (torch.rand(samples, 6, generator=draw) < rates).float()
    logits = (2 * target - 1 + 2 * torch.randn(samples, 6, generator=draw)).mul(4).round().div(4)
    return logits, target


def test_golden():
    values = evaluate(MultiLabel(CLASSES), 2 * P - 1, Y)
    expected = {
        "jaccard": 0.375,
        "jaccard_empty1": 0.625,
        "micro_p": 0.6666667,
        "micro_r": 0.6666667,
        "micro_f1": 0.6666667,
        "macro_f1": 0.4444444,
        "hamming": 0.1666667,
        "balanced_acc": (1 + 0.75 + 1 / 3 + 1) / 4,
        "exact": 0.25,
    }
    assert {metric: values[metric] for metric in expected} == pytest.approx(expected, abs=1e-6)


def test_golden_balanced_accuracy_of_each_emotion():
    nan = math.nan
    expected = [1, 0.75, 0.3333333, nan, 1, nan]
    assert balanced_accuracies(count(Y.bool(), P.bool())).tolist() == pytest.approx(expected, abs=1e-6, nan_ok=True)
    values = evaluate(MultiLabel(CLASSES), 2 * P - 1, Y)
    assert [values[f"{name}_balanced_acc"] for name in CLASSES] == pytest.approx(expected, abs=1e-6, nan_ok=True)


@pytest.mark.parametrize("threshold", [0.5, 0.35])
def test_equals_scikit_learn(threshold):
    logits, target = _random()
    actual = evaluate(MultiLabel(CLASSES, threshold), logits, target)
    y, scores = target.numpy().astype(int), logits.double().sigmoid().numpy()
    p = (scores > threshold).astype(int)
    assert (scores == 0.5).any(), "no score is on the threshold"
    expected = {
        "jaccard": np.mean([(a & b).sum() / max(1, (a | b).sum()) for a, b in zip(y, p, strict=True)]),
        "jaccard_empty1": oracle.jaccard_score(y, p, average="samples", zero_division=1),
        "micro_p": oracle.precision_score(y, p, average="micro"),
        "micro_r": oracle.recall_score(y, p, average="micro"),
        "micro_f1": oracle.f1_score(y, p, average="micro"),
        "macro_f1": oracle.f1_score(y, p, average="macro"),
        "weighted_f1": oracle.f1_score(y, p, average="weighted"),
        "gap": oracle.average_precision_score(y, scores, average="micro"),
        "map": oracle.average_precision_score(y, scores, average="macro"),
        "exact": oracle.accuracy_score(y, p),
        "hamming": oracle.hamming_loss(y, p),
    }
    columns = {"acc": oracle.accuracy_score, "balanced_acc": oracle.balanced_accuracy_score}
    columns["f1"] = lambda a, b: oracle.f1_score(a, b, average="weighted")
    for suffix, measure in columns.items():
        each = [measure(y[:, c], p[:, c]) for c in range(6)]
        expected |= {f"{name}_{suffix}": value for name, value in zip(CLASSES, each, strict=True)}
        expected["balanced_acc" if suffix == "balanced_acc" else f"binary_average_{suffix}"] = np.mean(each)
    assert actual == pytest.approx(expected, abs=1e-12)


def test_no_decision_and_no_label_are_silent():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        never = evaluate(MultiLabel(CLASSES), torch.full((4, 6), -1.0), Y)
        nothing = evaluate(MultiLabel(CLASSES), 2 * P - 1, torch.zeros(4, 6))
    assert [never[m] for m in ("jaccard", "micro_p", "micro_r", "micro_f1", "macro_f1")] == [0] * 5
    assert never["jaccard_empty1"] == 0.25
    assert [nothing[m] for m in ("micro_p", "micro_r", "micro_f1", "macro_f1")] == [0] * 4
    undefined = {m for m, value in nothing.items() if math.isnan(value)}
    assert undefined == {"gap", "map", "balanced_acc", "weighted_f1"} | {f"{name}_balanced_acc" for name in CLASSES}


def test_a_single_predicted_cell_that_is_right():
    values = evaluate(MultiLabel(("happy", "sad")), torch.tensor([[1.0, -1.0]]), torch.tensor([[1.0, 0.0]]))
    assert [values[metric] for metric in ("micro_p", "micro_r", "micro_f1", "exact")] == [1, 1, 1, 1]
    assert values["macro_f1"] == 0.5


def test_tied_scores_enter_together():
    truth = torch.tensor([True, False, False, True, False])
    constant = torch.zeros(5).double()
    assert float(average_precision(truth, constant)) == pytest.approx(2 / 5)
    scores = torch.tensor([2.0, 2.0, 1.0, 1.0, 0.0]).double()
    assert float(average_precision(truth, scores)) == pytest.approx(0.5 * 1 / 2 + 0.5 * 2 / 4)
    for order in (torch.arange(4, -1, -1), torch.tensor([1, 0, 3, 2, 4])):
        assert float(average_precision(truth[order], scores[order])) == pytest.approx(0.5)


def test_ranking_does_not_saturate():
    """In float32 every sigmoid above 17 is 1, but the logits still differ."""
    target = torch.tensor([[1.0], [0.0], [1.0]])
    logits = torch.tensor([[30.0], [20.0], [25.0]])
    assert evaluate(MultiLabel(("happy",)), logits, target)["gap"] == 1


def test_mean_average_precision_skips_a_class_without_a_positive():
    logits, target = _random()
    target[:, 3] = 0
    values = evaluate(MultiLabel(CLASSES), logits, target)
    kept = [0, 1, 2, 4, 5]
    scores = logits.double().numpy()
    expected = np.mean([oracle.average_precision_score(target[:, c].numpy(), scores[:, c]) for c in kept])
    assert values["map"] == pytest.approx(expected, abs=1e-12)
    assert math.isnan(values["surprise_balanced_acc"])
    assert values["balanced_acc"] == pytest.approx(np.mean([values[f"{CLASSES[c]}_balanced_acc"] for c in kept]))

"""Constant-predictor floors: published tables that they equal, and constants chosen on training labels."""

from __future__ import annotations

import math
import warnings

import pytest
import torch

from mer_lightning.evaluation.floors import best_floor, floors
from mer_lightning.evaluation.metrics import describe, evaluate
from mer_lightning.tasks import MultiLabel, Regression, SingleLabel

EMOTIONS = ("happy", "sad", "anger", "surprise", "disgust", "fear")


def _iemocap_test() -> tuple[MultiLabel, torch.Tensor]:
    """938 samples: neutral 383, happy 135, sad 193, angry 227, as in MulT's test split."""
    task = MultiLabel(("neutral", "happy", "sad", "angry"))
    counts = torch.tensor([383, 135, 193, 227])
    return task, torch.eye(4).repeat_interleave(counts, dim=0)


def _mosei_test() -> torch.Tensor:
    """(4654, 6) with the label counts of MOSEI's test split: of each class, and of samples with 0 to 6 labels.

    Each sample takes the classes of which most are left, from the sample with most labels down.
    """
    left = torch.tensor([2498, 1128, 1070, 441, 805, 385])
    labels = torch.arange(6, -1, -1).repeat_interleave(torch.tensor([1, 19, 114, 409, 1133, 2277, 701]))
    target = torch.zeros(len(labels), 6)
    for row, wanted in enumerate(labels.tolist()):
        chosen = left.argsort(descending=True)[:wanted]
        target[row, chosen] = 1
        left[chosen] -= 1
    assert left.tolist() == [0] * 6
    return target


def test_iemocap_table():
    """A published reproduction lists these floors, digit for digit, as the scores of its model."""
    task, target = _iemocap_test()
    never = floors(task, target, target)["none"]
    table = {"happy": (85.61, 78.97), "sad": (79.42, 70.32), "angry": (75.80, 65.37), "neutral": (59.17, 43.99)}
    for name, (accuracy, f1) in table.items():
        assert round(100 * never[f"{name}_acc"], 2) == accuracy
        assert round(100 * never[f"{name}_f1"], 2) == f1
        assert never[f"{name}_balanced_acc"] == 0.5
    assert never["binary_average_acc"] == pytest.approx(0.75)
    assert never["macro_f1"] == never["jaccard"] == 0


@pytest.mark.parametrize(
    ("constant", "acc", "p", "r", "micro", "macro", "exact"),
    [
        (["happy"], None, 0.5367, 0.3948, 0.4550, 0.116, None),
        (["happy", "sad"], None, 0.3896, 0.5731, 0.4638, 0.182, None),
        (["happy", "sad", "anger", "disgust"], None, 0.2955, 0.8694, 0.4411, 0.293, None),
        (list(EMOTIONS), 0.2266, 0.2266, 1.0, 0.3694, 0.347, 0.000),
    ],
)
def test_mosei_table(constant, acc, p, r, micro, macro, exact):
    """Scores of constants on MOSEI's label counts; the other scores need to know which labels occur together."""
    target = _mosei_test()
    task = MultiLabel(EMOTIONS)
    if len(constant) in (1, 6):
        values = floors(task, target, target)[f"only {constant[0]}" if len(constant) == 1 else "all"]
    else:
        logits = torch.tensor([1.0 if name in constant else -1.0 for name in EMOTIONS])
        values = evaluate(task, logits.expand(len(target), -1), target)
    assert values["micro_p"] == pytest.approx(p, abs=1e-4)
    assert values["micro_r"] == pytest.approx(r, abs=1e-4)
    assert values["micro_f1"] == pytest.approx(micro, abs=1e-4)
    assert values["macro_f1"] == pytest.approx(macro, abs=1e-3)
    if acc is not None:
        assert values["jaccard"] == pytest.approx(acc, abs=1e-4)
        assert values["exact"] == pytest.approx(exact, abs=1e-3)


def test_mosei_ceiling():
    """A perfect model cannot reach 1 in ``jaccard``: 701 samples have no label and count 0."""
    target = _mosei_test()
    perfect = evaluate(MultiLabel(EMOTIONS), 2 * target - 1, target)
    assert perfect["jaccard"] == pytest.approx(1 - 701 / 4654)
    assert perfect["jaccard_empty1"] == 1


def test_multi_label_constants():
    target = _mosei_test()
    actual = floors(MultiLabel(EMOTIONS), target, target)
    assert set(actual) == {"none", "all", "train rates", *(f"only {name}" for name in EMOTIONS)}
    # More than half of the samples are happy, and of no other emotion: the rates decide as "only happy" does.
    unranked = [metric for metric in describe(MultiLabel(EMOTIONS)) if metric not in ("gap", "map")]
    assert [actual["train rates"][m] for m in unranked] == pytest.approx([actual["only happy"][m] for m in unranked])
    assert actual["none"]["gap"] == pytest.approx(float(target.mean()))
    best = best_floor(MultiLabel(EMOTIONS), actual)
    assert best["gap"] == actual["train rates"]["gap"] > actual["only happy"]["gap"] > actual["none"]["gap"]
    assert best["map"] == pytest.approx(float(target.mean()))
    assert best["micro_f1"] == actual["only happy"]["micro_f1"]
    assert best["hamming"] == min(values["hamming"] for values in actual.values())
    assert best["micro_r"] == 1


def test_rates_of_classes_that_all_or_no_training_samples_have():
    train = torch.tensor([[1.0, 0, 0], [1, 0, 1], [1, 0, 0]])
    target = torch.tensor([[1.0, 0, 1], [1, 1, 0]])
    rates = floors(MultiLabel(("a", "b", "c")), train, target)["train rates"]
    # Predicted is a alone; in the ranking its two cells come first, then those of c, then those of b.
    assert rates["micro_p"] == 1
    assert rates["micro_r"] == 0.5
    assert rates["gap"] == pytest.approx((2 * 1 + 3 / 4 + 4 / 6) / 4)


@pytest.mark.parametrize("threshold", [0.05, 0.35, 0.5, 0.999])
def test_multi_label_constants_are_beyond_every_threshold(threshold):
    target = _mosei_test()
    actual = floors(MultiLabel(EMOTIONS, threshold), target, target)
    assert actual["all"]["micro_r"] == 1
    assert actual["none"]["micro_r"] == 0


def test_regression_constants_come_from_training():
    train = torch.tensor([-2.0, -1.0, 0.0, 0.7, 0.7, 1.0, 3.0, 3.0, 3.0, 2.6])
    target = torch.tensor([-1.0, 0.0, 0.0, 2.0, -0.4])
    actual = floors(Regression(), train, target)

    def mae(constant: float) -> float:
        return (target - constant).abs().mean().item()

    assert {name: values["mae"] for name, values in actual.items()} == pytest.approx(
        {
            "train mean": mae(1.1),
            "train median": mae(0.85),
            "train mode": mae(3.0),
            "always positive": mae(2.6),
            "always negative": mae(-1.5),
        }
    )
    assert actual["always positive"]["has0_acc2"] == 3 / 5
    assert actual["always negative"]["has0_acc2"] == 2 / 5
    assert actual["always positive"]["non0_acc2"] == pytest.approx(1 / 3)
    best = best_floor(Regression(), actual)
    assert best["mae"] == min(values["mae"] for values in actual.values()) == pytest.approx(mae(0.85))
    assert best["non0_acc2"] == pytest.approx(2 / 3)
    assert best["has0_acc2"] == 3 / 5
    assert math.isnan(best["corr"])


def test_sims_grades_are_a_third_apart():
    train = torch.tensor([-0.6, -0.6, -0.8, 0.0, 0.2, 1.0])
    target = torch.tensor([-0.6, 0.4])
    assert floors(Regression(limit=1.0), train, target)["train mode"]["mae"] == pytest.approx(
        (abs(-2 / 3 + 0.6) + abs(-2 / 3 - 0.4)) / 2, abs=1e-6
    )


def test_labels_of_one_sign_have_no_constant_of_the_other():
    actual = floors(Regression(), torch.tensor([0.0, 1.0, 2.0]), torch.tensor([1.0, -1.0]))
    assert "always negative" not in actual
    assert all(math.isfinite(values["mae"]) for values in actual.values())


def test_single_label_takes_the_majority_of_training():
    task = SingleLabel(("happy", "sad", "neutral", "angry"))
    train = torch.tensor([2, 2, 2, 0, 1, 3])
    target = torch.tensor([0, 0, 0, 0, 2, 1])  # its own majority is another class
    actual = floors(task, train, target)
    assert list(actual) == ["always the most frequent class"]
    assert best_floor(task, actual) == pytest.approx(actual["always the most frequent class"], nan_ok=True)
    assert actual["always the most frequent class"]["wa"] == pytest.approx(1 / 6)
    assert actual["always the most frequent class"]["ua"] == pytest.approx(1 / 3)


def test_constants_do_not_depend_on_the_evaluated_labels():
    """The errors on labels of 0 and of 10 both give the constant, and it is the same."""
    train = torch.tensor([-2.0, 1.0, 2.0, 2.0])
    at_0, at_10 = (floors(Regression(), train, torch.full((3,), value)) for value in (0.0, 10.0))
    assert list(at_0) == list(at_10)
    for name in at_0:
        assert abs(10 - at_10[name]["mae"]) == pytest.approx(at_0[name]["mae"])


def test_floors_are_silent():
    task, target = _iemocap_test()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        best_floor(task, floors(task, target, target))
        best_floor(Regression(), floors(Regression(), torch.zeros(3), torch.zeros(3)))


def test_real_mosi(real_data):
    """The official test split: the answer "negative" is right on more than half of it."""
    import numpy as np

    mosi = np.load(real_data / "mosi_utterance.npz", allow_pickle=False)
    label = torch.tensor(mosi["label"])
    train, test = (label[torch.tensor(mosi["split"] == split)] for split in ("train", "test"))
    actual = floors(Regression(), train, test)
    assert actual["always negative"]["has0_acc2"] == pytest.approx(0.552, abs=5e-4)
    assert actual["always negative"]["non0_acc2"] == pytest.approx(0.578, abs=5e-4)

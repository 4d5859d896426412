"""What the figures of a report show, read off their axes, number by number."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import calibration_curve

from mer_lightning.studies.report.charts import Scale, SmallMultiples, fitting, short, span
from mer_lightning.studies.report.figures import figures
from mer_lightning.studies.report.predictions_drawn import calibration_error, confusion, reliability, risk, sureness
from mer_lightning.studies.report.settings import Setting
from mer_lightning.tasks import MultiLabel, Regression, SingleLabel
from tests.studies.report.reading import Read
from tests.studies.report_fakes import contender, predictions, setting

CLASSES = SingleLabel(("happy", "sad"))
TAV = {"t": 0.0, "a": 1.0, "tav": 2.0}


def drawn(shown: Setting) -> dict[str, SmallMultiples]:
    return {figure.title: figure for figure in figures(shown)}


def near(*points: tuple[float, float], within: float = 0.004) -> list[object]:
    """Places are written with one decimal of a pixel."""
    return [pytest.approx(point, abs=within) for point in points]


def regression(log: pd.DataFrame | None = None, seeds: int = 1):
    table = predictions([1.0, -1.0], {"tav": [[0.5], [0.5]]})
    return contender(Regression(), [table] * seeds, [log] * seeds if log is not None else ())


def errors(values: dict[str, dict[str, list[float]]], **references: float) -> Setting:
    """Methods with these MAEs, and references that are the same under all conditions."""
    shown = setting({label: regression() for label in values}, {"mae": values})
    return replace(shown, rows=shown.rows.assign(**references))


def test_combinations_with_deviations_the_others_and_references() -> None:
    """MAE is turned: up is better, and the axis still has the errors."""
    values = {"a": {"t": [0.8, 0.9], "a": [1.2], "tav": [0.6]}, "b": {"t": [0.7], "a": [1.0], "tav": [0.5]}}
    figure = drawn(errors(values, floor=1.3, linear=0.75, bayes=0.4))["Combinations of modalities"]
    assert [panel.name for panel in figure.panels] == ["a", "b"]
    read = Read(figure.panels[0], x=TAV)
    assert read.x_labels == ["t", "a", "tav"]
    assert read.dots() == near((0, 0.85), (1, 1.2), (2, 0.6))
    deviation = np.std([0.8, 0.9], ddof=1)
    ends = sorted(y for _, y in read.lines("method")[0])
    assert ends == pytest.approx([0.85 - deviation, 0.85 + deviation], abs=0.004)
    assert [line[0][1] for line in read.lines("other")] == pytest.approx([0.7, 1.0, 0.5], abs=0.004)
    for column, level in (("floor", 1.3), ("linear", 0.75), ("bayes", 0.4)):
        assert [y for line in read.lines(column) for _, y in line] == pytest.approx([level] * 6, abs=0.004)
    pixels = {value: float(circle.get("cy", "")) for value, circle in zip("ta", read.root.iter("circle"), strict=False)}
    assert pixels["t"] < pixels["a"]  # the smaller error is higher up
    assert read.says == "a: t .85±.07, a 1.200, tav .600"
    assert read.tips() == ["a, t: .85±.07", "a, a: 1.200", "a, tav: .600"]
    assert figure.key == {
        "method": "this method",
        "other": "the others",
        "floor": "constant predictor",
        "linear": "linear model",
        "bayes": "best possible",
    }


def test_what_prints_alike_looks_alike() -> None:
    figure = drawn(errors({"a": {"t": [1.3081], "tav": [1.3084]}}))["Combinations of modalities"]
    low, high = (float(circle.get("cy", "")) for circle in Read(figure.panels[0], x=TAV).root.iter("circle"))
    assert abs(high - low) < 1.5  # pixels


def test_a_reference_far_from_all_methods_is_in_the_key_instead() -> None:
    """It would press what is compared into a line; within five spans of the methods it is drawn."""
    values = {"a": {"t": [0.60], "tav": [0.70]}}
    far = drawn(errors(values, floor=1.9))["Combinations of modalities"]
    assert far.key["floor"] == "constant predictor 1.900, off the scale"
    assert Read(far.panels[0], x=TAV).lines("floor") == []
    close = drawn(errors(values, floor=1.1))["Combinations of modalities"]
    assert close.key["floor"] == "constant predictor"
    assert len(Read(close.panels[0], x=TAV).lines("floor")) == 2


def test_one_combination_makes_no_picture_of_combinations() -> None:
    assert drawn(errors({"a": {"tav": [0.5]}})) == {}


def test_missing_rates_with_the_deviation_over_seeds_and_the_references() -> None:
    rates = {"rate-cpm-0.5": [0.7, 0.7], "rate-cpm-0.1": [0.4, 0.6], "rate-other-0.3": [1.0, 1.0]}
    others = {name: [0.8] for name in rates}
    shown = errors({"a": rates | {"tav": [0.5, 0.5]}, "b": others}, linear=0.9)
    shown.rows.loc[shown.rows["condition"] == "tav", "bayes"] = 0.3  # it is not known of missing rates
    found = drawn(shown)
    assert list(found) == ["Missing rates: rate-cpm", "Cost and score"]  # one rate alone makes no curve
    read = Read(found["Missing rates: rate-cpm"].panels[0])
    (curve,) = read.lines("method")
    assert curve == near((0.1, 0.5), (0.5, 0.7))
    deviation = np.std([0.4, 0.6], ddof=1)
    (band,) = read.bands()
    assert band[0] == pytest.approx((0.1, 0.5 + deviation), abs=0.004)  # downwards, because errors are turned
    assert band[-1] == pytest.approx((0.1, 0.5 - deviation), abs=0.004)
    assert read.lines("other") == [near((0.1, 0.8), (0.5, 0.8))]
    assert read.lines("linear") == [near((0.1, 0.9), (0.5, 0.9))]
    assert found["Missing rates: rate-cpm"].key == {
        "method": "this method",
        "other": "the others",
        "linear": "linear model",
    }


def test_learning_curves_are_means_over_the_seeds_that_still_train() -> None:
    logs = [pd.DataFrame({"epoch": [0, 0, 1], "valid/score": [9.0, 1.0, 2.0]})]
    logs += [pd.DataFrame({"epoch": [0, 1, 1, 2], "valid/score": [3.0, 4.0, None, 2.5]})]
    table = predictions([1.0], {"tav": [[0.5]]})
    contenders = {"a": contender(Regression(), [table] * 2, logs), "no log": regression()}
    figure = drawn(setting(contenders, {"mae": {label: {"tav": [0.5]} for label in contenders}}))["Learning curves"]
    assert [panel.name for panel in figure.panels] == ["a"]
    read = Read(figure.panels[0])
    assert read.lines("method") == [near((1, 2), (2, 3), (3, 2.5), within=0.02)]
    (band,) = read.bands()  # from the lowest to the highest seed, and back
    assert band == near((1, 1), (2, 2), (3, 2.5), (3, 2.5), (2, 4), (1, 3), within=0.02)
    assert read.dots() == near((2, 3), within=0.02)
    assert read.says == "a: 3 epochs, best in epoch 2, 3.000"


def test_f1_of_each_class_beside_its_references() -> None:
    tables = [predictions(["sad", "happy"], {"tav": [[0.0, 1.0]] * 2})]
    of = {label: contender(CLASSES, tables) for label in ("a", "b")}
    values = {
        "happy_f1": {"a": {"tav": [0.6, 0.7]}, "b": {"tav": [0.5]}},
        "sad_f1": {"a": {"tav": [0.8]}, "b": {"tav": [0.9]}},
        "wf1": {"a": {"tav": [0.7]}, "b": {"tav": [0.7]}},
    }
    shown = setting(of, values)
    shown.rows.loc[shown.rows["metric"] == "happy_f1", "linear"] = 0.55
    read = Read(drawn(shown)["F1 of each class"].panels[0], y={"happy": 1.0, "sad": 0.0})
    assert read.y_labels == ["happy", "sad"]
    assert read.dots() == near((0.65, 1), (0.8, 0), within=0.01)
    assert [line[0][0] for line in read.lines("other")] == pytest.approx([0.5, 0.9], abs=0.004)
    assert [line[0][0] for line in read.lines("linear")] == pytest.approx([0.55], abs=0.004)


def test_confusion_of_true_rows_and_predicted_columns() -> None:
    logits = {"tav": [[0, 1], [0, 1], [1, 0]], "t": [[1, 0]] * 3}
    tables = [predictions(["happy", "sad", "happy"], logits)] * 2
    one = contender(CLASSES, tables)
    assert confusion(one).tolist() == [[0.5, 0.5], [0, 1]]
    figure = drawn(setting({"a": one}, {"wf1": {"a": {"tav": [0.5, 0.5]}}}))["Confusions"]
    root = Read(figure.panels[0], x={"happy": 0.5, "sad": 1.5}, y={"happy": 1.5, "sad": 0.5}).root
    cells = [each for each in root if each.get("class") in ("value", "strong")]
    assert [cell.text for cell in cells] == [".50", ".50", ".00", "1.00"]
    assert [cell.get("class") for cell in cells] == ["value", "value", "value", "strong"]  # on the dark one
    strength = [rect.get("fill-opacity") for rect in root.iter("rect")]
    assert strength == ["0.50", "0.50", "0.00", "1.00"]
    (under,) = {cell.get("y") for cell in cells[:2]} & {text.get("y") for text in root if text.text == "happy"}
    assert under  # the first row is that of the first class
    assert figure.panels[0].svg.count("aria-label") == 1
    assert "happy 50% right, sad 100% right" in figure.panels[0].svg


def test_calibration_of_what_is_predicted_and_of_every_class() -> None:
    even, sure = [0.0, 0.0], [0.0, np.log(9)]  # .5 and .9 for `sad`
    targets = ["sad", "happy", "sad", "sad"] * 10
    one = contender(CLASSES, [predictions(targets, {"tav": [even, even, sure, sure] * 10})])
    figure = drawn(setting({"a": one}, {"wf1": {"a": {"tav": [0.5]}}}))["Calibration"]
    read = Read(figure.panels[0])
    # Of two ties for `happy` one is right: .5 of .5. Both sure ones are right: 1 of .9.
    assert read.lines("method") == [near((0.5, 0.5), (0.9, 1.0))]
    assert [box[3] for box in read.boxes("count")] == pytest.approx([0.25, 0.25], abs=0.01)  # halves, at half the scale
    assert read.says == "a: expected calibration error 0.050"

    several = MultiLabel(("happy", "sad"))
    logits = {"tav": [[0.0, -np.log(3)], [0.0, -np.log(3)]] * 10}
    one = contender(several, [predictions(["happy", "happy+sad"] * 10, logits)])
    read = Read(drawn(setting({"a": one}, {"micro_f1": {"a": {"tav": [0.5]}}}))["Calibration"].panels[0])
    # `sad` has .25 and half of it is true, `happy` has .5 and all of it is.
    assert read.lines("method") == [near((0.25, 0.5), (0.5, 1.0))]
    assert read.says == "a: expected calibration error 0.375"


def test_a_bin_of_few_samples_is_no_point_and_counts_in_the_error() -> None:
    even, sure = [0.0, 0.0], [0.0, np.log(9)]
    one = contender(CLASSES, [predictions(["sad"] * 41, {"tav": [even] * 1 + [sure] * 40})])
    read = Read(drawn(setting({"a": one}, {"wf1": {"a": {"tav": [0.5]}}}))["Calibration"].panels[0])
    assert read.dots() == near((0.9, 1.0))
    assert read.says == f"a: expected calibration error {(40 * 0.1 + 0.5) / 41:.3f}"
    found = sureness(one)
    assert found is not None
    assert calibration_error(*reliability(*found)) == pytest.approx((40 * 0.1 + 0.5) / 41)


def test_reliability_by_hand_and_beside_scikit_learn() -> None:
    mean, share, count = reliability(np.array([0.05, 0.95, 0.97, 1.0]), np.array([0.0, 1.0, 0.0, 1.0]))
    assert count.tolist() == [1, 3]
    assert mean.tolist() == pytest.approx([0.05, (0.95 + 0.97 + 1) / 3])
    assert share.tolist() == pytest.approx([0.0, 2 / 3])
    random = np.random.default_rng(0)
    probability, right = random.random(500), random.integers(0, 2, 500).astype(float)
    mean, share, count = reliability(probability, right)
    expected_share, expected_mean = calibration_curve(right, probability, n_bins=10)
    assert mean == pytest.approx(expected_mean)
    assert share == pytest.approx(expected_share)
    assert count.sum() == 500


def test_risk_grows_from_the_surest_to_all() -> None:
    """Forty samples, each surer than the next; the surest thirty are right."""
    logits = [[0.0, 5.0 - n / 10] for n in range(40)]
    tables = [predictions(["sad"] * 30 + ["happy"] * 10, {"tav": logits})]
    one = contender(CLASSES, tables)
    found = risk(one)
    assert found is not None
    coverage, error = found
    assert coverage[-1] == 1
    assert dict(zip(coverage.round(3), error.round(6), strict=True))[0.75] == 0
    assert error[-1] == pytest.approx(10 / 40)
    assert (np.diff(error) >= 0).all()
    shown = setting({"a": one}, {"wf1": {"a": {"tav": [0.5]}}, "wa": {"a": {"tav": [0.75]}}})
    figure = drawn(replace(shown, rows=shown.rows.assign(floor=0.4)))["Risk and coverage"]
    read = Read(figure.panels[0])
    assert read.lines("method")[0][-1] == pytest.approx((1, 0.25), abs=0.004)  # 1 minus the accuracy
    assert [y for _, y in read.lines("floor")[0]] == pytest.approx([0.6, 0.6], abs=0.004)
    assert figure.key == {"method": "this method", "floor": "constant predictor"}  # there are no others


def test_too_few_that_can_be_wrong_make_no_curve_of_risk() -> None:
    """A target of exactly 0 has no sign to be right about."""
    targets = [0.0] * 100 + [1.0] * 19
    assert risk(contender(Regression(), [predictions(targets, {"tav": [[1.0]] * 119})])) is None
    targets = [0.0] * 100 + [1.0] * 20
    assert risk(contender(Regression(), [predictions(targets, {"tav": [[1.0]] * 120})])) is not None


def test_cost_against_score_with_a_name_at_each_dot() -> None:
    labels = [f"method {number}" for number in range(8)]
    shown = errors({label: {"tav": [0.5 + 0.001 * number]} for number, label in enumerate(labels)}, linear=0.52)
    seconds = {label: 10.0 + number % 2 for number, label in enumerate(labels)}
    shown = replace(shown, rows=shown.rows.assign(seconds=shown.rows["label"].map(seconds)))
    figure = drawn(shown)["Cost and score"]
    assert figure.wide
    panel = figure.panels[0]
    read = Read(panel, x={f"{value:g}": math.log10(value) for value in (7, 10, 15)})
    expected = sorted((math.log10(seconds[label]), 0.5 + 0.001 * number) for number, label in enumerate(labels))
    actual = sorted((round(x, 2), y) for x, y in read.dots())
    assert actual == near(*expected, within=0.005)
    names = [each for each in read.root if each.get("class") == "name"]
    assert {name.text for name in names} == set(labels)
    heights = sorted((name.get("text-anchor"), float(name.get("y", ""))) for name in names)
    for (anchor, height), (other, below) in itertools.pairwise(heights):
        assert anchor != other or below - height >= 10.9
    assert read.lines("linear")[0][0][1] == pytest.approx(0.52, abs=0.004)


def test_what_was_not_tested_is_not_drawn() -> None:
    tables = [predictions(["happy", "sad"], {"rate-cpm-0.1": [[0, 1], [0, 1]]})]
    assert drawn(setting({"a": contender(CLASSES, tables)}, {"wf1": {"a": {"rate-cpm-0.1": [0.5]}}})) == {}
    tables = [predictions(["happy", "sad"], {"t": [[0, 1], [0, 1]]})]
    found = drawn(setting({"a": contender(CLASSES, tables)}, {"wf1": {"a": {"t": [0.5]}}}))
    assert list(found) == ["Confusions", "Calibration"]
    assert "under t, all seeds" in found["Confusions"].how


def test_a_strange_name_stays_text_in_every_panel() -> None:
    label = r'<img src=x>"$\foo$&'
    curve = pd.DataFrame({"epoch": [0, 1], "valid/score": [1.0, 2.0]})
    tables = [predictions([label, "sad"] * 20, {"tav": [[0, 1], [0, 1]] * 20})]
    values = {"t": [0.5], "a": [0.5], "rate-cpm-0.1": [0.1], "rate-cpm-0.2": [0.1], "tav": [0.5]}
    of = {name: contender(SingleLabel((label, "sad")), tables, [curve]) for name in (label, "b")}
    metrics = dict.fromkeys(("wf1", f"{label}_f1", "wa"), dict.fromkeys(of, values))
    found = drawn(setting(of, metrics))
    assert len(found) == 8
    for figure in found.values():
        for panel in figure.panels:
            assert "<img" not in panel.svg
            ElementTree.fromstring(panel.svg)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0.12, 0.17, [0.12, 0.13, 0.14, 0.15, 0.16, 0.17]),
        (-3, 40, [0, 10, 20, 30, 40]),
    ],
)
def test_ticks_are_round_and_within(low: float, high: float, expected: list[float]) -> None:
    assert Scale(low, high, 0, 100).ticks() == pytest.approx(expected)


def test_numbers_and_names_on_an_axis() -> None:
    assert [short(value) for value in (0.5, -1.0, 20.0, 0.0, -0.0, 0.125)] == [".5", "-1", "20", "0", "0", ".125"]
    assert span([1.0, math.nan, 2.0], 0.05) == pytest.approx((0.94, 2.06))
    assert span([1.0, 1.0], 0.05) == pytest.approx((0.975, 1.025))
    assert fitting("neutral", 60) == "neutral"
    assert fitting("every combination", 60) == "every com…"

"""What the figures of a report show, number by number, and where they come from."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from sklearn.calibration import calibration_curve

from mer_lightning.methods.supervised import Supervised
from mer_lightning.studies.report.figures import figures, method_class, reliability, svg
from mer_lightning.tasks import MultiLabel, Regression, SingleLabel
from tests.studies.report_fakes import contender, predictions, setting

CLASSES = SingleLabel(("happy", "sad"))
ALL = "Score that selects checkpoints, by method and combination of modalities"
CURVES = "Learning curves: validation score of the last phase, mean over seeds"


def axes_of(figure: Figure):
    (axes,) = figure.axes
    return axes


def regression(log: pd.DataFrame | None = None, seeds: int = 1):
    table = predictions([1.0, -1.0], {"tav": [[0.5], [0.5]]})
    return contender(Regression(), [table] * seeds, [log] * seeds if log is not None else ())


def test_brighter_is_better_in_the_picture_of_combinations() -> None:
    both = {"a": regression(), "b": regression()}
    drawn = figures(setting(both, {"mae": {"a": {"t": [0.5], "v": [0.9]}, "b": {"t": [0.8], "v": [0.4]}}}))
    axes = axes_of(drawn[ALL])
    assert axes.images[0].get_array().tolist() == [[-0.5, -0.9], [-0.8, -0.4]]
    assert [text.get_text() for text in axes.texts] == [".500", ".900", ".800", ".400"]
    assert [to_hex(text.get_color()) for text in axes.texts] == ["#000000", "#ffffff", "#ffffff", "#000000"]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["t", "v"]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["a", "b"]
    assert axes.get_title() == "MAE ↓"

    tables = [predictions(["sad"], {"tav": [[0.0, 1.0]]})]
    drawn = figures(setting({"a": contender(CLASSES, tables)}, {"wf1": {"a": {"t": [0.5], "v": [0.9]}}}))
    assert axes_of(drawn[ALL]).images[0].get_array().tolist() == [[0.5, 0.9]]


def test_one_combination_makes_no_picture_of_combinations() -> None:
    assert figures(setting({"a": regression()}, {"mae": {"a": {"tav": [0.5]}}})) == {}


def test_missing_rates_with_the_deviation_over_seeds() -> None:
    values = {"rate-cpm-0.1": [0.4, 0.6], "rate-cpm-0.5": [0.7, 0.7], "rate-other-0.3": [1.0, 1.0]}
    drawn = figures(setting({"a": regression(seeds=2)}, {"mae": {"a": values}}))
    assert list(drawn) == ["Missing rates: rate-cpm"]  # one rate alone makes no curve
    axes = axes_of(drawn["Missing rates: rate-cpm"])
    assert axes.lines[0].get_xydata().tolist() == [[0.1, 0.5], [0.5, 0.7]]
    low, high = axes.collections[0].get_segments()[0][:, 1]
    assert (high - low) / 2 == pytest.approx(np.std([0.4, 0.6], ddof=1))


def test_learning_curves_are_means_over_the_seeds_that_still_train() -> None:
    logs = [pd.DataFrame({"epoch": [0, 0, 1], "valid/score": [9.0, 1.0, 2.0]})]
    logs += [pd.DataFrame({"epoch": [0, 1, 1, 2], "valid/score": [3.0, 4.0, None, 5.0]})]
    table = predictions([1.0], {"tav": [[0.5]]})
    contenders = {"a": contender(Regression(), [table] * 2, logs), "no log": regression()}
    axes = axes_of(figures(setting(contenders, {"mae": {"a": {"tav": [0.5]}}}))[CURVES])
    assert [line.get_label() for line in axes.lines] == ["a"]
    assert axes.lines[0].get_xydata().tolist() == [[0, 2], [1, 3], [2, 5]]


def test_confusion_of_true_rows_and_predicted_columns() -> None:
    logits = {"tav": [[0, 1], [0, 1], [1, 0]], "t": [[1, 0]] * 3}
    tables = [predictions(["happy", "sad", "happy"], logits)] * 2
    drawn = figures(setting({"a": contender(CLASSES, tables)}, {"wf1": {"a": {"tav": [0.5, 0.5]}}}))
    axes = axes_of(drawn["a: confusion of classes under the complete input, all seeds"])
    assert axes.images[0].get_array().tolist() == [[0.5, 0.5], [0, 1]]
    assert axes.images[0].get_clim() == (0, 1)
    texts = {(text.get_position()): text for text in axes.texts}  # (column, row)
    assert {place: text.get_text() for place, text in texts.items()} == {
        (0, 0): "0.50",
        (1, 0): "0.50",
        (0, 1): "0.00",
        (1, 1): "1.00",
    }
    assert {place for place, text in texts.items() if text.get_color() == "white"} == {(1, 1)}
    assert [text.get_text() for text in axes.get_yticklabels()] == ["happy", "sad"]
    assert "rue" in axes.get_ylabel()


def test_calibration_of_what_is_predicted_and_of_every_class() -> None:
    even, sure = [0.0, 0.0], [0.0, np.log(9)]  # .5 and .9 for `sad`
    tables = [predictions(["sad", "happy", "sad", "sad"], {"tav": [even, even, sure, sure]})]
    drawn = figures(setting({"a": contender(CLASSES, tables)}, {"wf1": {"a": {"tav": [0.5]}}}))
    axes = axes_of(drawn["a: calibration under the complete input, all seeds"])
    # Of two ties for `happy` one is right: .5 of .5. Both sure ones are right: 1 of .9.
    assert axes.lines[-1].get_xydata().tolist() == [pytest.approx([0.5, 0.5]), pytest.approx([0.9, 1.0])]
    assert axes.get_title() == "expected calibration error 0.050"

    several = MultiLabel(("happy", "sad"))
    tables = [predictions(["happy", "happy+sad"], {"tav": [[0.0, -np.log(3)], [0.0, -np.log(3)]]})]
    drawn = figures(setting({"a": contender(several, tables)}, {"micro_f1": {"a": {"tav": [0.5]}}}))
    assert list(drawn) == ["a: calibration under the complete input, all seeds"]
    axes = axes_of(drawn["a: calibration under the complete input, all seeds"])
    # `sad` has .25 and half of it is true, `happy` has .5 and all of it is.
    assert axes.lines[-1].get_xydata().tolist() == [pytest.approx([0.25, 0.5]), pytest.approx([0.5, 1.0])]
    assert axes.get_title() == "expected calibration error 0.375"


def test_what_was_not_tested_is_not_drawn() -> None:
    tables = [predictions(["happy", "sad"], {"rate-cpm-0.1": [[0, 1], [0, 1]]})]
    assert figures(setting({"a": contender(CLASSES, tables)}, {"wf1": {"a": {"rate-cpm-0.1": [0.5]}}})) == {}
    tables = [predictions(["happy", "sad"], {"t": [[0, 1], [0, 1]]})]
    drawn = figures(setting({"a": contender(CLASSES, tables)}, {"wf1": {"a": {"t": [0.5]}}}))
    assert list(drawn) == ["a: confusion of classes under t, all seeds", "a: calibration under t, all seeds"]


def test_reliability_by_hand() -> None:
    mean, share, count = reliability(np.array([0.05, 0.95, 0.97, 1.0]), np.array([0.0, 1.0, 0.0, 1.0]))
    assert count.tolist() == [1, 3]
    assert mean.tolist() == pytest.approx([0.05, (0.95 + 0.97 + 1) / 3])
    assert share.tolist() == pytest.approx([0.0, 2 / 3])


def test_reliability_beside_scikit_learn() -> None:
    random = np.random.default_rng(0)
    probability, right = random.random(500), random.integers(0, 2, 500)
    mean, share, count = reliability(probability, right)
    expected_share, expected_mean = calibration_curve(right, probability, n_bins=10)
    assert mean == pytest.approx(expected_mean)
    assert share == pytest.approx(expected_share)
    assert count.sum() == 500


def test_an_svg_shrinks_with_the_window() -> None:
    figure = Figure(figsize=(3, 2))
    figure.subplots().plot([0, 1])
    element = svg(figure)
    opening = element[: element.index(">")]
    assert opening.startswith("<svg")
    assert "viewBox" in opening
    assert not re.search(r"\b(width|height)=", opening)
    assert element.rstrip().endswith("</svg>")


def test_a_formula_in_a_name_is_only_a_name() -> None:
    """`$\\foo$` is no formula that matplotlib knows; it would refuse to draw it."""
    label = r"$\foo$"
    curve = pd.DataFrame({"epoch": [0, 1], "valid/score": [1.0, 2.0]})
    classes = SingleLabel((label, "sad"))
    tables = [predictions([label, "sad"], {"tav": [[0, 1], [0, 1]]})]
    values = {"t": [0.5], "a": [0.5], "rate-cpm-0.1": [0.1], "rate-cpm-0.2": [0.1]}
    drawn = figures(setting({label: contender(classes, tables, [curve])}, {"wf1": {label: values}}))
    assert len(drawn) == 5
    assert all(svg(figure).startswith("<svg") for figure in drawn.values())


def test_the_class_of_a_run() -> None:
    assert method_class("mer_lightning.methods.supervised.Supervised") is Supervised
    for strange in ("somebody.else.Method", "collections.OrderedDict", "mer_lightning.tasks.Regression", "Supervised"):
        assert method_class(strange) is None

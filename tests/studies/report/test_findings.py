"""The sentences of a report: each is computed, and each can be otherwise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from mer_lightning.studies.report.findings import answers, warnings
from mer_lightning.studies.report.page import page
from mer_lightning.studies.report.settings import Setting
from mer_lightning.studies.report.tables import best_cells, metrics_shown
from mer_lightning.studies.report.text import markdown
from mer_lightning.tasks import Regression, SingleLabel
from tests.studies.report_fakes import contender, predictions, setting

NO_TESTS = pd.DataFrame()


def errors(values: dict[str, list[float]], **references: float) -> Setting:
    table = predictions([1.0, -1.0], {"tav": [[0.5], [0.5]]})
    methods = {label: contender(Regression(), [table]) for label in values}
    shown = setting(methods, {"mae": {label: {"tav": seeds} for label, seeds in values.items()}})
    return replace(shown, rows=shown.rows.assign(**references))


def wf1(values: dict[str, list[float]], **references: float) -> Setting:
    tables = [predictions(["sad"], {"tav": [[0.0, 1.0]]})]
    methods = {label: contender(SingleLabel(("happy", "sad")), tables) for label in values}
    shown = setting(methods, {"wf1": {label: {"tav": seeds} for label, seeds in values.items()}})
    return replace(shown, rows=shown.rows.assign(**references))


def test_the_best_stands_beside_the_references() -> None:
    (line,) = answers(errors({"a": [0.7], "b": [0.6], "c": [0.6]}, floor=1.2, linear=0.8, bayes=0.5), NO_TESTS)
    assert line == (
        "Best MAE under tav: .600 by b and c. "
        "Beside it: constant predictor 1.200, linear model .800, best possible .500."
    )
    (line,) = answers(errors({"a": [0.7], "b": [0.6]}), NO_TESTS)
    assert line == "Best MAE under tav: .600 by b."
    assert answers(errors({"alone": [0.7]}), NO_TESTS) == []


@pytest.mark.parametrize(
    ("means", "best"),
    [
        ({"a": [1.3081], "b": [1.3084]}, {"a", "b"}),  # they print alike
        ({"a": [1.3081], "b": [1.3089]}, {"a"}),
        ({"a": [0.53, 0.57], "b": [0.551]}, {"a", "b"}),  # .55±.03
        ({"a": [0.53, 0.57], "b": [0.556]}, {"a"}),
    ],
)
def test_what_prints_as_the_best_is_marked_with_it(means: dict[str, list[float]], best: set[str]) -> None:
    shown = errors(means)
    assert best_cells(shown, metrics_shown(shown)[0]) == {(label, "tav") for label in best}


def compared(condition: str, label: str, difference: float, p: float) -> dict[str, object]:
    low, high = sorted((difference / 2, difference * 2))
    row = {"label": label, "baseline": "base", "condition": condition, "difference": difference}
    return row | {"low": low, "high": high, "bootstrap_p_holm": p, "wilcoxon_p_holm": p}


def test_differences_are_said_to_be_sure_or_not() -> None:
    tests = [compared("tav", "a", 0.02, 0.05), compared("tav", "b", -0.04, 0.01), compared("tav", "c", 0.5, 0.051)]
    tests += [compared("mean-7", "a", 0.02, 0.2)]
    assert answers(errors({"alone": [0.7]}), pd.DataFrame(tests)) == [
        "Under tav, surely better than base: a (+.020, +.010 to +.040).",
        "Under tav, surely worse than base: b (-.040, -.080 to -.020).",
        "Over the 7 combinations, no difference from base is sure.",
    ]


@pytest.mark.parametrize(
    ("shown", "poor"),
    [
        (errors({"a": [1.26], "b": [1.28]}, floor=1.34), "b 1.280"),  # 5 % of 1.34 is .067
        (errors({"a": [1.2, 1.4], "b": [0.9]}, floor=1.34), "a 1.300"),  # by the mean over seeds
        (wf1({"a": [0.24], "b": [0.23]}, floor=0.2), "a .240, b .230"),  # 5 % of the way to 1 is .04
        (wf1({"a": [0.24001], "b": [0.1]}, floor=0.2), "b .100"),
        (wf1({"a": [float("nan")], "b": [0.9]}, floor=0.2), "a "),
        (
            errors({name: [1.3 + 0.001 * n] for n, name in enumerate("abcd")}, floor=1.34),
            "all 4 methods, 1.300 to 1.303",
        ),
        (errors({"a": [0.7]}, floor=1.34), None),
        (errors({"a": [1.34]}), None),  # nothing is known of the constant
    ],
)
def test_methods_that_are_hardly_better_than_a_constant_are_named(shown: Setting, poor: str | None) -> None:
    said = [line for line in warnings(shown) if line.startswith("Hardly better")]
    if poor is None:
        assert said == []
        return
    (line,) = said
    assert line.partition(" under tav: ")[2] == f"{poor}."
    assert f'<p class="banner">{line}</p>' in page([shown], [NO_TESTS])
    assert f"> {line}\n" in markdown([shown], [NO_TESTS])


def test_a_perfect_constant_leaves_nothing_to_learn() -> None:
    assert len(warnings(errors({"a": [0.0]}, floor=0.0))) == 1


def test_runs_that_diverged_are_a_banner(tmp_path: Path) -> None:
    html = page([errors({"a": [0.7]})], [NO_TESTS], {tmp_path / "<run>": "loss is NaN in step 3"})
    assert '<div class="banner bad">' in html
    assert "&lt;run&gt;</code>: loss is NaN in step 3" in html
    assert '<div class="banner bad">' not in page([errors({"a": [0.7]})], [NO_TESTS])

"""Figures that methods draw themselves, as elements of the page."""

from __future__ import annotations

import re

import matplotlib
import pytest
from matplotlib.figure import Figure

from mer_lightning.methods.supervised import Supervised
from mer_lightning.studies.report.method_figures import figures_of_method, method_class, svg
from mer_lightning.tasks import Regression
from tests.studies.report_fakes import contender, predictions


def test_an_svg_shrinks_with_the_window_and_says_what_it_is() -> None:
    figure = Figure(figsize=(3, 2))
    figure.subplots().plot([0, 1])
    element = svg(figure, 'a "curve" <b>')
    opening = element[: element.index(">")]
    assert opening.startswith("<svg")
    assert "viewBox" in opening
    assert not re.search(r"\b(width|height)=", opening)
    assert 'role="img" aria-label="a &quot;curve&quot; &lt;b&gt;"' in element
    assert element.rstrip().endswith("</svg>")


def test_a_method_draws_in_the_colours_and_the_type_of_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn(runs: object) -> dict[str, Figure]:
        figure = Figure()
        axes = figure.subplots()
        for label in ("first", r"$\foo$"):  # no formula that matplotlib knows; it would refuse to draw it
            axes.plot([0, 1], label=label)
        axes.legend()
        return {"lines": figure}

    monkeypatch.setattr(Supervised, "figures", staticmethod(drawn))
    before = dict(matplotlib.rcParams)
    runs = contender(Regression(), [predictions([1.0], {"tav": [[0.5]]})])
    (element,) = figures_of_method(runs).values()
    assert dict(matplotlib.rcParams) == before
    for colour in ("--series-1", "--series-2", "--pale", "--faint"):
        assert f"var({colour})" in element
    assert not re.search("#0072b2|#d55e00|#010203|#ffffff", element)
    assert r">$\foo$</text>" in element  # text, which takes no space and can be found


def test_the_class_of_a_run() -> None:
    assert method_class("mer_lightning.methods.supervised.Supervised") is Supervised
    for strange in ("somebody.else.Method", "collections.OrderedDict", "mer_lightning.tasks.Regression", "Supervised"):
        assert method_class(strange) is None
    table = predictions([1.0], {"tav": [[0.5]]})
    assert figures_of_method(contender(Regression(), [table], class_path="somebody.else.Method")) == {}

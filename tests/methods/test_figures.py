"""What methods draw of their own runs. MCUR's needs a trained model: tests/studies/report/test_report.py."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from mer_lightning.methods.base import MERMethod
from mer_lightning.methods.cdat import CDaT
from mer_lightning.methods.mgr import MGR
from mer_lightning.methods.supervised import Supervised
from mer_lightning.tasks import Regression
from tests.studies.report_fakes import contender, predictions


def test_a_method_draws_nothing_unless_it_says_so() -> None:
    runs = contender(Regression(), [predictions([1.0], {"tav": [[0.5]]})])
    assert MERMethod.figures(runs) == Supervised.figures(runs) == {}


def test_confidence_of_cdat_beside_the_true_class_probability() -> None:
    def table(error: float) -> pd.DataFrame:
        logits = {"t": [[9.0], [9.0]], "tav": [[1.0 + error], [1.0]], "av": [[1.0], [1.0]]}
        return predictions([1.0, 1.0], logits, confidence=[0.0, 0.0, 0.2, 0.8, 0.5, 0.5])

    (figure,) = CDaT.figures(contender(Regression(), [table(1.0), table(2.0)])).values()
    complete, without_text = figure.axes
    assert complete.collections[0].get_offsets().tolist() == [
        pytest.approx(point) for point in ([0.2, math.exp(-1)], [0.8, 1], [0.2, math.exp(-2)], [0.8, 1])
    ]
    correlation = np.corrcoef([0.2, 0.8, 0.2, 0.8], [math.exp(-1), 1, math.exp(-2), 1])[0, 1]
    assert complete.get_title() == f"tav: correlation {correlation:.2f}, deviation 0.300"
    assert without_text.collections[0].get_offsets().tolist() == [[0.5, 1]] * 4
    assert without_text.get_title() == "av: correlation nan, deviation 0.000"


def test_a_large_split_is_drawn_by_some_of_its_points() -> None:
    samples = 5000
    table = predictions([1.0] * samples, {"tav": [[0.0]] * samples}, confidence=[n / samples for n in range(samples)])
    (figure,) = CDaT.figures(contender(Regression(), [table])).values()
    drawn = figure.axes[0].collections[0].get_offsets()
    assert 300 <= len(drawn) < 600
    assert drawn[-1][0] > 0.99  # evenly from all, and not the first ones


def test_cdat_without_confidence_or_its_conditions_draws_nothing() -> None:
    assert CDaT.figures(contender(Regression(), [predictions([1.0], {"tav": [[0.5]]})])) == {}
    assert CDaT.figures(contender(Regression(), [predictions([1.0], {"rmfm-0.1": [[0.5]]}, confidence=[0.5])])) == {}


def test_contributions_of_mgr_are_means_over_the_seeds() -> None:
    logs = [
        pd.DataFrame({"epoch": [0, 0, 1], "contribution/text": [0.9, 0.2, 0.4], "contribution/audio": [0.9, 0.8, 0.6]}),
        pd.DataFrame({"epoch": [0, 1, 2], "contribution/text": [0.4, 0.8, 1.0], "contribution/audio": [0.6, 0.2, 0]}),
        pd.DataFrame(),
    ]
    tables = [predictions([1.0], {"tav": [[0.5]]})] * 3
    (figure,) = MGR.figures(contender(Regression(), tables, logs)).values()
    curves = {line.get_label(): line.get_xydata().tolist() for line in figure.axes[0].lines}
    assert curves == {
        "text": [pytest.approx([1, 0.3]), pytest.approx([2, 0.6])],
        "audio": [pytest.approx([1, 0.7]), pytest.approx([2, 0.4])],
    }
    assert [text.get_text() for text in figure.axes[0].texts] == ["text", "audio"]  # beside their lines
    assert MGR.figures(contender(Regression(), tables)) == {}

"""The table that people read: digits for one run and for several, the floor, the best possible, and what is bold."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from mer_lightning.evaluation.metrics import describe
from mer_lightning.evaluation.results import table, title_of
from mer_lightning.tasks import Regression

METRICS = [metric for metric, info in describe(Regression()).items() if info.headline]


def rows(*seeds: dict[str, float], bayes: float | None = None) -> pd.DataFrame:
    """{condition: mae} of each seed; other metrics are 0.5, floors 1.25."""
    return pd.DataFrame(
        [
            {
                "condition": condition,
                "metric": metric,
                "value": mae if metric == "mae" else 0.5,
                "floor": 1.25 if metric == "mae" else math.nan,
                "bayes": bayes if metric == "mae" else None,
            }
            for seed in seeds
            for condition, mae in seed.items()
            for metric in METRICS
        ]
    ).astype({"bayes": float})


def printed(found: pd.DataFrame) -> tuple[list[list[str]], Any]:
    """The words of each line, and the table."""
    shown = table(found, Regression(), "a title")
    console = Console(width=200)
    with console.capture() as capture:
        console.print(shown)
    return [line.split() for line in capture.get().splitlines() if line.strip()], shown.renderables[1]


def test_one_run_has_four_digits_and_no_deviation() -> None:
    lines, _ = printed(rows({"t": 0.123456, "tav": 0.75}))
    assert lines[0] == ["a", "title"]
    assert ["t", "0.1235", *["0.5000"] * (len(METRICS) - 1)] in lines
    assert ["tav", "0.7500", *["0.5000"] * (len(METRICS) - 1)] in lines
    assert ["constant", "1.2500"] in lines


def test_several_runs_have_a_deviation_and_the_digits_that_it_allows() -> None:
    """Of 0.1, 0.2 and 0.6: mean 0.3, deviation sqrt((0.04 + 0.01 + 0.09) / 2) = 0.26."""
    lines, _ = printed(rows({"t": 0.1}, {"t": 0.2}, {"t": 0.6}))
    assert ["t", ".3±.3", *[".500±.000"] * (len(METRICS) - 1)] in lines
    assert ["constant", "1.250"] in lines


def test_what_is_best_possible_has_a_column_where_it_is_known() -> None:
    lines, shown = printed(rows({"t": 0.5, "tav": 0.75}, bayes=0.4321))
    assert [line[-1] for line in lines if line[0] in ("t", "tav")] == ["0.4321", "0.4321"]
    assert shown.columns[-1].header == "Best\nMAE"
    lines, shown = printed(rows({"t": 0.5}))
    assert len(shown.columns) == 1 + len(METRICS)


def test_means_over_conditions_are_bold() -> None:
    _, shown = printed(rows({"t": 0.5, "mean-7": 0.75}))
    assert [row.style for row in shown.rows] == [None, "bold", "dim"]


@pytest.mark.parametrize("limit", [1.0, 3.0])
def test_titles_are_short_and_definitions_are_long(limit: float) -> None:
    for metric, info in describe(Regression(limit=limit)).items():
        assert len(info.title) <= 20, metric
        assert len(info.definition) > len(info.title), metric


def test_the_linear_model_has_a_row_of_the_complete_input() -> None:
    found = rows({"t": 0.5, "tav": 0.75, "rmfm_same-0.5": 0.9})
    linear = found["condition"].map({"t": 0.9, "tav": 0.625})  # none where frames are masked
    lines, _ = printed(found.assign(linear=linear))
    assert ["linear", *["0.6250"] * len(METRICS)] in lines
    assert ["linear:", "a", "linear", "model", "of", "mean", "features,", "under", "tav"] in lines


def test_scores_of_folds_are_shown_where_there_are_some() -> None:
    single = rows({"t": 0.5, "tav": 0.75})
    folds = single.assign(fold_mean=0.8, fold_std=0.1)
    assert not any("folds," in words for words in printed(single)[0])
    unknown = single.assign(fold_mean=math.nan, fold_std=math.nan)
    assert not any("folds," in words for words in printed(unknown)[0])
    with_one_gap = folds.assign(fold_mean=[math.nan if c == "t" else 0.8 for c in folds["condition"]])
    (line,) = [words for words in printed(with_one_gap)[0] if "folds," in words]
    assert line[:4] == ["mean", "±", "deviation", "over"]
    assert line[-2:] == ["tav", ".80±.10"]


def test_a_title_says_what_the_rows_are_of() -> None:
    facts = {"corpus": "mosi", "split": "test", "partition": "official", "method": "CDaT", "seed": 7}
    assert title_of(pd.DataFrame([facts, facts])) == "mosi, test split of official: CDaT, seed 7"
    pooled = facts | {"partition": "session1..5, pooled"}
    assert title_of(pd.DataFrame([pooled])) == "mosi, test splits of session1..5, pooled: CDaT, seed 7"

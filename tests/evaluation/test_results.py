"""Rows of results: every value beside its floor and its origin; and the table that people read."""

from __future__ import annotations

import math
from dataclasses import asdict, replace

import pandas as pd
import pytest
import torch
from rich.console import Console

from mer_lightning.data.corpus import CorpusCard
from mer_lightning.evaluation.floors import best_floor, constants, floors
from mer_lightning.evaluation.metrics import METRICS_VERSION, describe, evaluate
from mer_lightning.evaluation.predictions import Predictions
from mer_lightning.evaluation.protocols import Protocol
from mer_lightning.evaluation.references import References
from mer_lightning.evaluation.results import DECIMALS, Presence, Provenance, remarks, table, tidy
from mer_lightning.modalities import COMBINATIONS, combination_present
from mer_lightning.tasks import Regression

TASK = Regression()
TARGET = torch.tensor([-2.0, -1.0, 0.0, 1.0, 3.0])
TRAIN = torch.tensor([-1.0, 0.5, 1.0, 2.0])
CARD = CorpusCard(
    name="tiny",
    alignment="aligned",
    task=TASK.card(),
    feature_set={"text": "bert 768"},
    dims={"text": 768},
    samples=9,
    partitions={"official": {"test": 5}, "fold-2": {"test": 5}},
    sha256="0" * 64,
    source={},
    bayes={"tav": {"mae": 0.25}},
)
BESIDE = References(constants(TASK, TRAIN, 5))
ORIGIN = Provenance(
    method="Supervised",
    backbone="Early",
    trained_on="tiny-aligned",
    corpus="tiny-aligned",
    labels="its own",
    corpus_sha256="0" * 16,
    feature_set="bert 768",
    partition="official",
    split="test",
    selection="min validation mae",
    training_masks="Complete",
    protocol="fixed-7",
    mask_hash="f" * 16,
    seed=1111,
    samples=5,
)


def predictions(conditions: int) -> Predictions:
    """Under condition k every number is k / 10 too large."""
    errors = torch.arange(conditions) / 10
    return Predictions((TARGET.unsqueeze(1) + errors).unsqueeze(2), TARGET, torch.arange(5))


def rows_of(names: list[str], partition: str = "official") -> pd.DataFrame:
    protocol = Protocol(names)
    given = predictions(len(protocol.conditions))
    return tidy(given, TASK, protocol, CARD, BESIDE, replace(ORIGIN, partition=partition))


def value(rows: pd.DataFrame, condition: str, metric: str, column: str = "value") -> float:
    (only,) = rows[(rows["condition"] == condition) & (rows["metric"] == metric)][column]
    return only


def test_one_row_for_each_condition_average_and_metric() -> None:
    rows = rows_of(["fixed-7"])
    assert rows["metric"].unique().tolist() == list(describe(TASK))
    assert rows["condition"].unique().tolist() == [*COMBINATIONS, "mean-7", "mean-6"]
    assert len(rows) == len(describe(TASK)) * 9
    for number, name in enumerate(COMBINATIONS):
        assert value(rows, name, "mae") == pytest.approx(number / 10, abs=1e-6)
        expected = evaluate(TASK, predictions(7).under(number), TARGET)
        assert all(value(rows, name, metric) == round(expected[metric], DECIMALS) for metric in expected)
    assert value(rows, "mean-7", "mae") == pytest.approx(0.3, abs=1e-6)
    assert value(rows, "mean-6", "mae") == pytest.approx(0.25, abs=1e-6)


def test_rows_have_floors_variants_and_origins() -> None:
    rows = rows_of(["tav", "ta"])
    floor = best_floor(TASK, floors(TASK, TRAIN, TARGET))
    assert floor["mae"] != best_floor(TASK, floors(TASK, TARGET, TARGET))["mae"], "of training labels"
    for metric, info in describe(TASK).items():
        assert value(rows, "ta", metric, "floor") == pytest.approx(floor[metric], nan_ok=True)
        assert value(rows, "ta", metric, "variant") == info.variant
    assert ORIGIN.metrics_version == METRICS_VERSION
    for name, expected in (asdict(ORIGIN) | {"metrics_version": METRICS_VERSION}).items():
        assert rows[name].unique().tolist() == [expected]


def test_the_best_possible_score_is_known_for_the_first_partition_only() -> None:
    rows = rows_of(["tav", "ta"])
    assert value(rows, "tav", "mae", "bayes") == 0.25
    assert rows["bayes"].notna().sum() == 1
    assert rows_of(["tav", "ta"], "fold-2")["bayes"].isna().all()


def printed(rows: pd.DataFrame) -> dict[str, list[str]]:
    """{first word of a line: the others} of the printed table."""
    console = Console(width=100, no_color=True, highlight=False)
    with console.capture() as capture:
        console.print(table(rows, TASK, "a title"))
    lines = [line.split() for line in capture.get().splitlines() if line.split()]
    assert lines[0] == ["a", "title"]
    return {line[0]: line[1:] for line in lines}


def test_a_table_of_one_run_has_four_digits() -> None:
    lines = printed(rows_of(["tav", "ta"]))
    headline = [info.title for info in describe(TASK).values() if info.headline]
    assert " ".join(lines["condition"]) == " ".join([*headline, "MAE"])  # the last column is "Best MAE" in two lines
    assert lines["tav"][0] == "0.0000"
    assert lines["tav"][-1] == "0.2500"
    assert lines["ta"][0] == "0.1000"
    floor = best_floor(TASK, floors(TASK, TRAIN, TARGET))
    shown = [floor[metric] for metric, info in describe(TASK).items() if info.headline]
    assert lines["constant"] == [f"{number:.4f}" for number in shown if not math.isnan(number)]


def test_a_table_of_several_runs_has_deviations() -> None:
    first = rows_of(["tav", "ta"], "fold-2")
    second = first.assign(seed=2, value=first["value"] + 0.2)
    lines = printed(pd.concat([first, second]))
    assert lines["ta"][0] == ".20±.14"  # .1 and .3, with n - 1 in the denominator
    assert "Best" not in " ".join(lines)
    assert lines["constant"][0] == f"{best_floor(TASK, floors(TASK, TRAIN, TARGET))['mae']:.3f}"


def test_only_means_are_bold() -> None:
    group = table(rows_of(["fixed-7"]), TASK, "a title")
    shown = group.renderables[1]
    styles = [row.style for row in shown.rows]  # type: ignore[attr-defined]
    assert styles == [None] * 7 + ["bold"] * 2 + ["dim"]


# --- what samples lack by nature

LACKING = torch.tensor([[True, True, True], [True, True, False], [True, False, False], [True, True, True], [True] * 3])


def rows_with(available: torch.Tensor, untrained: tuple[str, ...] = ()) -> pd.DataFrame:
    protocol = Protocol(["t", "v", "tav"])
    shown = torch.tensor([combination_present(name) for name in ("t", "v", "tav")])[:, None].expand(-1, 5, -1)
    presence = Presence(shown, available, untrained)
    return tidy(predictions(3), TASK, protocol, CARD, BESIDE, ORIGIN, presence)


def test_a_condition_is_measured_on_all_samples_and_on_those_that_can_meet_it() -> None:
    rows = rows_with(LACKING)
    met = rows.drop_duplicates("condition").set_index("condition")["met"].to_dict()
    assert met == {"t": 5, "v": 3, "tav": 3, "v natural-subset": 3, "tav natural-subset": 3}
    there = LACKING.all(1)
    expected = evaluate(TASK, predictions(3).under(1)[there], TARGET[there])
    floor = best_floor(TASK, floors(TASK, TRAIN, TARGET[there]))
    for metric, score in expected.items():
        assert value(rows, "v natural-subset", metric) == pytest.approx(score, abs=5e-6, nan_ok=True)
        assert value(rows, "v natural-subset", metric, "floor") == pytest.approx(floor[metric], nan_ok=True)
        assert value(rows, "v natural-subset", metric, "variant") == "natural-subset"
    everyone = evaluate(TASK, predictions(3).under(1), TARGET)
    assert value(rows, "v", "mae") == pytest.approx(everyone["mae"], abs=5e-6)
    assert remarks(rows) == ["natural-subset: of 5 samples, those that have what is shown: v 3, tav 3"]


def test_without_gaps_there_is_no_subset() -> None:
    rows = rows_with(torch.ones(5, 3, dtype=torch.bool))
    assert rows["condition"].unique().tolist() == ["t", "v", "tav"]
    assert set(rows["met"]) == {5}
    assert remarks(rows) == []


def test_what_was_never_trained_on_is_marked_and_enters_no_mean_in_silence() -> None:
    rows = rows_with(torch.ones(5, 3, dtype=torch.bool), untrained=("vision",))
    marked = rows.drop_duplicates("condition").set_index("condition")["untrained"].to_dict()
    assert marked == {"t": "", "v": "vision", "tav": "vision"}
    assert remarks(rows) == ["* shows vision, of which the model saw nothing in training"]
    lines = printed(rows)
    assert {"t", "v*", "tav*"} <= set(lines)
    protocol = Protocol(["fixed-7"])
    shown = torch.tensor([combination_present(name) for name in COMBINATIONS])[:, None].expand(-1, 5, -1)
    presence = Presence(shown, torch.ones(5, 3, dtype=torch.bool), ("vision",))
    means = tidy(predictions(7), TASK, protocol, CARD, BESIDE, ORIGIN, presence).set_index("condition")["untrained"]
    assert set(means["mean-7"]) == {"vision"}

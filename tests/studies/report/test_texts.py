"""What the tables and texts of a report say: names of all kinds, marks, notes, costs, published rows."""

from __future__ import annotations

import re
from dataclasses import replace

import pandas as pd
import pytest

from mer_lightning.evaluation.metrics import describe
from mer_lightning.evaluation.significance import holm
from mer_lightning.numerals import p_value
from mer_lightning.studies.comparing import Contender
from mer_lightning.studies.report.findings import notes, warnings
from mer_lightning.studies.report.page import page
from mer_lightning.studies.report.page_tables import (
    Cell,
    Row,
    cost_table,
    difference_tables,
    published_tables,
    score_table,
    share_table,
)
from mer_lightning.studies.report.settings import Setting
from mer_lightning.studies.report.tables import best_cells, differences, metrics_shown
from mer_lightning.studies.report.text import latex, latex_text, markdown, markdown_text
from mer_lightning.tasks import Regression, SingleLabel
from tests.studies.report_fakes import contender, predictions, setting

EVIL = r"a\b{c}$d$_e|<img src=x onerror=alert(1)> --><b>&amp;" + "\n# f"


def regression(values: dict[str, dict[str, list[float]]], corpus: str = "corpus (synthetic)") -> Setting:
    """The same values of all metrics."""
    table = predictions([1.0, -1.0], {"tav": [[0.5], [0.5]]})
    methods = {label: contender(Regression(), [table]) for label in values}
    return setting(methods, dict.fromkeys(describe(Regression()), values), corpus)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"a\b", r"a\textbackslash{}b"),
        ("{a}", r"\{a\}"),
        ("a & b_c # 5 % $x$", r"a \& b\_c \# 5 \% \$x\$"),
        ("~^<>|", r"\textasciitilde{}\textasciicircum{}\textless{}\textgreater{}\textbar{}"),
        (".5±.1 ↓ ↑", r".5$\pm$.1 $\downarrow$ $\uparrow$"),
        ("two\n\nlines", "two lines"),
    ],
)
def test_latex(text: str, expected: str) -> None:
    assert latex_text(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<b>a</b> & c", "&lt;b&gt;a&lt;/b&gt; &amp; c"),
        ("&lt;", "&amp;lt;"),
        ("a|b", r"a\|b"),
        ("`a` *b* [c](d) ~e~", r"\`a\` \*b\* \[c\](d) \~e\~"),
        ("modality_dropout", "modality_dropout"),
        ("_a_ b", r"\_a\_ b"),
        ("a\\|b", r"a\\\|b"),
        ("two\n\n# lines", "two # lines"),
        (".512±.010 -.003 to +.004", ".512±.010 -.003 to +.004"),
    ],
)
def test_markdown(text: str, expected: str) -> None:
    assert markdown_text(text) == expected


def test_a_strange_name_stays_a_name_everywhere() -> None:
    strange = regression({EVIL: {"tav": [0.5]}, "b": {"tav": [0.6]}}, corpus=f"{EVIL} (synthetic)")
    tests = pd.DataFrame(
        [{"label": EVIL, "baseline": EVIL, "condition": "tav", "difference": 0.1, "low": 0.0, "high": 0.2}]
    ).assign(bootstrap_p_holm=0.01, wilcoxon_p_holm=0.5)
    html, text, tex = page([strange], [tests]), markdown([strange], [tests]), latex([strange])

    assert not re.search(r"<img|<b>", html + text)
    assert html.count("&lt;img src=x onerror=alert(1)&gt; --&gt;&lt;b&gt;&amp;amp;") >= 5
    cells = [re.split(r"(?<!\\)\|", line) for line in text.splitlines() if line.startswith("|")]
    assert [len(row) for row in cells] == [4] * 4 * len(metrics_shown(strange)) + [8] * 3
    assert [line for line in text.splitlines() if line.startswith("# ")] == ["# Report"]
    assert '<td class="better" data-value="0.1">+.100</td>' in html
    assert '<td class="best" style="--tint:' in html
    row = next(line for line in tex.splitlines() if "onerror" in line and line.endswith(r"\\"))
    assert row.startswith(r"a\textbackslash{}b\{c\}\$d\$\_e\textbar{}\textless{}img")


def test_the_best_is_the_lowest_or_the_highest() -> None:
    values = {"a": {"tav": [0.5, 0.6], "t": [0.2]}, "b": {"tav": [0.6, 0.7], "t": [0.1]}}
    error = regression(values)
    (metric,) = [each for each in metrics_shown(error) if each.name == "mae"]
    assert best_cells(error, metric) == {("a", "tav"), ("b", "t")}

    tables = [predictions(["sad"], {"tav": [[0.0, 1.0]]})]
    methods = {label: contender(SingleLabel(("happy", "sad")), tables) for label in values}
    score = setting(methods, {"wf1": values})
    (metric,) = [each for each in metrics_shown(score) if each.name == "wf1"]
    assert best_cells(score, metric) == {("b", "tav"), ("a", "t")}


def test_who_is_best_where_some_are_equal_alone_or_without_a_value() -> None:
    nan = float("nan")
    equal = regression({"a": {"tav": [0.5], "t": [nan]}, "b": {"tav": [0.5], "t": [0.7]}, "c": {"t": [0.9]}})
    metric = metrics_shown(equal)[0]
    assert best_cells(equal, metric) == {("a", "tav"), ("b", "tav"), ("b", "t")}
    alone = regression({"a": {"tav": [0.5]}, "b": {"tav": [nan]}})
    assert best_cells(alone, metric) == set()


def test_cells_of_scores_are_sorted_by_their_value() -> None:
    shown = regression({"a": {"tav": [0.5, 0.7]}, "b": {"tav": [0.1, 0.1]}})
    shown.rows["floor"] = 0.9
    table = score_table(shown, metrics_shown(shown)[0])
    assert table.head == ["method", "tav"]
    assert [row.cells for row in table.rows] == [
        [Cell("a"), Cell(".60±.14", 0.6, tint=pytest.approx(0.06 / 1.12))],  # 6 % of room on either side
        [Cell("b"), Cell(".100±.000", 0.1, "best", pytest.approx(1.06 / 1.12))],
        [Cell("constant predictor"), Cell(".900")],
    ]
    assert [row.reference for row in table.rows] == [False, False, True]


@pytest.mark.parametrize(
    ("difference", "p", "mark"),
    [(0.1, 0.049, "better"), (-0.1, 0.049, "worse"), (0.1, 0.05, "better"), (-0.1, 0.051, "")],
)
def test_only_sure_differences_are_coloured(difference: float, p: float, mark: str) -> None:
    test = {"label": "a", "condition": "tav", "difference": difference, "low": -1.0, "high": 1.0}
    (table,) = difference_tables(pd.DataFrame([test | {"bootstrap_p_holm": p, "wilcoxon_p_holm": 0.001}])).values()
    assert [cell.mark for cell in table.rows[0].cells] == ["", "", mark, "", "", ""]
    assert [cell.value for cell in table.rows[0].cells] == [None, difference, difference, -1.0, p, 0.001]


@pytest.mark.parametrize(("linear", "worse"), [(1.35, ["poor"]), (1.0, ["good", "poor"]), (1.5, ["poor"]), (2.0, [])])
def test_methods_that_do_not_beat_the_linear_model_are_named(linear: float, worse: list[str]) -> None:
    """On the complete input, by the mean over seeds, in the score that selects checkpoints: here the MAE."""
    shown = regression({"good": {"t": [9.0, 9.0], "tav": [0.9, 1.1]}, "poor": {"t": [0.0, 0.0], "tav": [1.0, 2.0]}})
    with_linear = replace(shown, rows=shown.rows.assign(linear=linear))
    listed = {"good": "good 1.000", "poor": "poor 1.500"}
    named = f"not better: {', '.join(listed[label] for label in worse)}." if worse else None
    (note,) = [note for note in warnings(with_linear) if "linear model of" in note] or [None]
    assert (note is None) == (named is None)
    if note is not None:
        assert note.startswith(f"A linear model of mean features has MAE {linear:.3f} under tav; ".replace(" 0.", " ."))
        assert note.endswith(named)
    assert "| linear model | " in markdown([with_linear], [pd.DataFrame()])
    assert "linear model & " in latex([with_linear])
    assert "linear model" in page([with_linear], [pd.DataFrame()])
    assert "linear model" not in page([shown], [pd.DataFrame()])


def test_titles_and_notes_say_what_differs() -> None:
    shown = regression({"a": {"tav": [0.5, 0.6]}, "b": {"tav": [0.5, 0.6]}})
    assert shown.title == "corpus (synthetic), same split of same"
    assert notes(shown) == []
    other = replace(shown, rows=shown.rows.assign(trained_on="another"))
    assert other.title == "corpus (synthetic), same split of same, trained on another"
    labels = shown.rows["label"]
    rows = shown.rows.assign(selection=labels, training_masks=labels, budget=labels.map({"a": 3.0, "b": 4.0}))
    uneven = Setting(rows, {"a": shown.contenders["a"], "b": Contender(shown.contenders["b"].runs * 2)})
    assert notes(uneven) == [
        "Checkpoints of the methods were chosen by different rules; see the settings.",
        "Methods were trained under different masks; see the settings.",
        "Methods have different numbers of seeds: a 1, b 2.",
        "Budgets differ (epochs, of all phases), so no best score is marked: a 3, b 4.",
    ]
    html, text = page([uneven], [pd.DataFrame()]), markdown([uneven], [pd.DataFrame()])
    for note in notes(uneven):
        assert f'<p class="note">{note}</p>' in html
        assert f"> {note}\n" in text


def test_nobody_is_best_across_unequal_budgets() -> None:
    even = regression({"a": {"tav": [0.5]}, "b": {"tav": [0.6]}})
    uneven = replace(even, rows=even.rows.assign(budget=even.rows["label"].map({"a": 3.0, "b": 4.0})))
    for metric in metrics_shown(even):
        assert best_cells(even, metric)
        assert not best_cells(uneven, metric)


def test_losses_are_shown_by_their_share_of_the_gradient() -> None:
    """Means over what was measured in two runs; a loss below 5 % is marked, and said to be one."""
    logs = [
        pd.DataFrame({"gradient_share/transfer": [0.01, None, 0.03], "gradient_cosine/transfer": [0.5, None, -0.1]}),
        pd.DataFrame({"gradient_share/transfer": [0.02], "gradient_cosine/transfer": [0.2]}),
    ]
    logs[0]["fusion/gradient_share/sim"], logs[0]["fusion/gradient_cosine/sim"] = 0.5, 1.0
    tables = [predictions([1.0, -1.0], {"tav": [[0.5], [0.5]]})] * 2
    methods = {"cdat": contender(Regression(), tables, logs), "supervised": contender(Regression(), tables)}
    shown = setting(methods, {"mae": {label: {"tav": [0.5, 0.5]} for label in methods}})
    table = share_table(shown)
    assert [[cell.text for cell in row.cells] for row in table.rows] == [
        ["cdat", "transfer", "2.0%", "+.200"],
        ["cdat", "fusion/sim", "50.0%", "+1.000"],
    ]
    assert [row.cells[2].mark for row in table.rows] == ["worse", ""]
    (note,) = notes(shown)
    assert note.startswith("cdat: share of the task's gradient on the encoders below 5%: transfer 2.0%.")


def test_only_a_synthetic_corpus_is_called_so() -> None:
    mark = '<span class="synthetic">synthetic data</span>'
    values = {"a": {"tav": [0.5]}}
    assert mark in page([regression(values)], [pd.DataFrame()])
    assert mark not in page([regression(values, corpus="mine")], [pd.DataFrame()])


def test_floors_are_reference_rows_of_the_page_and_rows_of_the_texts() -> None:
    shown = regression({"a": {"tav": [0.5]}})
    shown.rows["floor"] = 0.9
    assert '<tr class="reference"><td>constant predictor</td><td>.900</td></tr>' in page([shown], [pd.DataFrame()])
    assert "| constant predictor | .900 |" in markdown([shown], [pd.DataFrame()])
    assert r"constant predictor & .900 \\" in latex([shown])


def test_costs_are_means_over_seeds_and_the_most_memory() -> None:
    shown = regression({"a": {"tav": [0.5, 0.6]}})
    seed = shown.rows["seed"]
    rows = shown.rows.assign(seconds=1.0 + 2 * seed, epochs=5.0 + 2 * seed, peak_megabytes=8.0 + 2 * seed)
    (row,) = cost_table(replace(shown, rows=rows)).rows
    assert row.cells[1:] == [Cell("2.0", 2.0), Cell("6", 6.0), Cell("10", 10.0)]


def test_published_rows_stand_beside_real_data_with_every_reason_against_them() -> None:
    values = {"a": {"tav": [0.5]}}
    assert published_tables(regression(values, corpus="mosi-aligned (synthetic)")) == []
    tables = {each.first.table: each for each in published_tables(regression(values, corpus="mosi-aligned"))}
    mmsa = tables["mmsa_mosi_complete"]
    assert mmsa.table.head == ["method", "metric", "tav"]
    assert Row([Cell("TFN"), Cell("mae"), Cell("0.9473")]) in mmsa.table.rows
    assert mmsa.warning.startswith("Not comparable with the tables above: its features are ")
    assert "; its protocol is tav; " in mmsa.warning
    html = page([regression(values, corpus="mosi-aligned")], [pd.DataFrame()])
    assert f"Source: {mmsa.first.source}".replace("'", "&#39;") in html

    facts = {"feature_set": mmsa.first.feature_set, "protocol": "tav", "selection": mmsa.first.selection}
    alike = regression(values, corpus="mosi-aligned")
    alike = replace(alike, rows=alike.rows.assign(**facts))
    assert {each.first.table: each.warning for each in published_tables(alike)}["mmsa_mosi_complete"] == ""


def test_differences_are_from_the_baseline_and_corrected_for_their_number() -> None:
    targets = [0.0] * 12
    errors = {"base": [1.0] * 12, "a": [0.9 + 0.02 * (n % 7) for n in range(12)], "b": [0.2] * 12}
    tables = {label: predictions(targets, {"tav": [[x] for x in error]}) for label, error in errors.items()}
    methods = {label: contender(Regression(), [table]) for label, table in tables.items()}
    tests = differences(setting(methods, {"mae": {label: {"tav": [0.5]} for label in errors}}), "base")
    assert tests["label"].tolist() == ["a", "b"]
    assert tests["difference"].tolist() == pytest.approx([1 - sum(errors["a"]) / 12, 0.8])
    for test in ("bootstrap_p", "wilcoxon_p"):
        assert tests[f"{test}_holm"].tolist() == holm(tests[test].tolist())
        assert tests[f"{test}_holm"][1] == pytest.approx(2 * tests[test][1])
    row = next(line for line in markdown([regression({"a": {"tav": [0.5]}})], [tests]).splitlines() if "| b |" in line)
    assert row.endswith(f"| {p_value(tests['bootstrap_p_holm'][1])} | {p_value(tests['wilcoxon_p_holm'][1])} |")

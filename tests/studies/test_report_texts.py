"""Names of all kinds in Markdown, LaTeX and HTML, and the marks of the best."""

from __future__ import annotations

import re

import pandas as pd
import pytest

from mer_lightning.evaluation.metrics import describe
from mer_lightning.studies.report.page import page
from mer_lightning.studies.report.page_tables import Cell, difference_table, score_table
from mer_lightning.studies.report.settings import Setting
from mer_lightning.studies.report.tables import best_cells, metrics_shown
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
        [Cell("a"), Cell(".600±.141", 0.6)],
        [Cell("b"), Cell(".100±.000", 0.1, "best")],
        [Cell("constant predictor"), Cell(".900")],
    ]
    assert [row.reference for row in table.rows] == [False, False, True]


@pytest.mark.parametrize(
    ("difference", "p", "mark"), [(0.1, 0.049, "better"), (-0.1, 0.049, "worse"), (0.1, 0.05, ""), (-0.1, 0.5, "")]
)
def test_only_sure_differences_are_coloured(difference: float, p: float, mark: str) -> None:
    test = {"label": "a", "condition": "tav", "difference": difference, "low": -1.0, "high": 1.0}
    table = difference_table(pd.DataFrame([test | {"bootstrap_p_holm": p, "wilcoxon_p_holm": 0.001}]))
    assert [cell.mark for cell in table.rows[0].cells] == ["", "", mark, "", "", ""]

"""A report as Markdown and as LaTeX (booktabs)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mer_lightning.numerals import interval, number, p_value
from mer_lightning.studies.report.findings import answers, notes, warnings
from mer_lightning.studies.report.page_tables import trial_table
from mer_lightning.studies.report.settings import Setting
from mer_lightning.studies.report.tables import grid, metrics_shown

if TYPE_CHECKING:
    import pandas as pd

_TEX = {
    **{letter: f"\\{letter}" for letter in "&%_#${}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "↓": r"$\downarrow$",
    "↑": r"$\uparrow$",
}
# Entities where HTML would begin. An underscore inside a word is one; elsewhere it would begin or end emphasis.
_HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_MARKDOWN = re.compile(r"[&<>]|[\\`*\[\]|~]|(?<![^\W_])_|_(?![^\W_])")


def markdown(
    settings: list[Setting],
    differences: list[pd.DataFrame],
    diverged: Mapping[Path, str] | None = None,
    groups: Sequence[pd.DataFrame] = (),
) -> str:
    lines = ["# Report", ""]
    if diverged:
        lines += ["## Runs that diverged: they have no results, and are in no mean", ""]
        lines += [f"- {markdown_text(f'{folder}: {line}')}" for folder, line in diverged.items()] + [""]
    for setting, tests, of_groups in zip_longest(settings, differences, groups):
        lines += [f"## {markdown_text(setting.title)}", "", markdown_text(setting.provenance) + ".", ""]
        for line in answers(setting, tests):
            lines += [markdown_text(line), ""]
        said = [*warnings(setting), *notes(setting)]
        lines += [f"> {markdown_text(note)}" for note in said] + ([""] if said else [])
        for sweep in setting.sweeps:
            trials = trial_table(sweep)
            lines += [f"### {markdown_text(f'Trials of the sweep {sweep.study.name}')}", "", _row(trials.head)]
            lines += ["|".join(["", " --- ", *[" ---: "] * (len(trials.head) - 1), ""])]
            lines += [_row([cell.text for cell in row.cells]) for row in trials.rows] + [""]
        for metric in metrics_shown(setting):
            shown = grid(setting, metric.name)
            lines += [f"### {markdown_text(metric.title)}", "", _row(["", *shown.conditions])]
            lines += ["|".join(["", " --- ", *[" ---: "] * len(shown.conditions), ""])]
            lines += [_row([label, *shown.row(label)]) for label in shown.methods + shown.references] + [""]
        if len(tests):
            baseline = markdown_text(tests["baseline"].iloc[0])
            lines += [f"### Differences from {baseline} (higher is better)", ""]
            lines += [_row(["", "under", "difference", "95 %", "p bootstrap (Holm)", "p Wilcoxon (Holm)"])]
            lines += ["| --- | --- | ---: | ---: | ---: | ---: |"]
            lines += [_row(_difference(test)) for test in tests.to_dict("records")] + [""]
        if of_groups is not None:
            lines += ["### Groups of samples (higher is better)", ""]
            lines += [
                _row(["", "under", "group", "samples", "score", "95 %"]),
                "| --- | --- | --- | ---: | ---: | ---: |",
            ]
            lines += [_row(_group(group)) for group in of_groups.to_dict("records")] + [""]
    return "\n".join(lines)


def latex(settings: list[Setting]) -> str:
    """One table per setting and metric, to be \\input into a paper."""
    lines = ["% made by mer-lightning report; needs \\usepackage{booktabs}"]
    for setting in settings:
        for metric in metrics_shown(setting):
            shown = grid(setting, metric.name)
            lines += [
                "\\begin{table}",
                f"\\caption{{{latex_text(f'{metric.title}: {setting.title}. {setting.provenance}.')}}}",
                f"\\begin{{tabular}}{{l{'r' * len(shown.conditions)}}}",
                "\\toprule",
                _latex_row(["", *shown.conditions]),
                "\\midrule",
                *[_latex_row([label, *shown.row(label)]) for label in shown.methods + shown.references],
                "\\bottomrule",
                "\\end{tabular}",
                "\\end{table}",
                "",
            ]
    return "\n".join(lines)


def markdown_text(text: str) -> str:
    """Text that Markdown shows as it is, on one line and in one cell of a table."""
    return _MARKDOWN.sub(lambda match: _HTML.get(match[0], f"\\{match[0]}"), " ".join(text.split()))


def latex_text(text: str) -> str:
    """Text that LaTeX sets as it is, on one line."""
    return "".join(_TEX.get(letter, letter) for letter in " ".join(text.split()))


def _group(group: dict[Any, Any]) -> list[str]:
    named = [group["label"], group["condition"], group["group"], str(group["samples"])]
    return [*named, number(group["score"]), f"{number(group['low'])} to {number(group['high'])}"]


def _difference(test: dict[Any, Any]) -> list[str]:
    return [
        test["label"],
        test["condition"],
        number(test["difference"], "+"),
        interval(test["low"], test["high"]),
        p_value(test["bootstrap_p_holm"]),
        p_value(test["wilcoxon_p_holm"]),
    ]


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(map(markdown_text, cells)) + " |"


def _latex_row(cells: list[str]) -> str:
    return " & ".join(map(latex_text, cells)) + r" \\"

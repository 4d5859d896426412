"""A report as Markdown and as LaTeX (booktabs)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mer_lightning.numerals import interval, number
from mer_lightning.studies.report.settings import Setting
from mer_lightning.studies.report.tables import grid, metrics_shown

if TYPE_CHECKING:
    import pandas as pd

_SPECIAL = {"&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "±": r"$\pm$", "↓": r"$\downarrow$", "↑": r"$\uparrow$"}


def markdown(settings: list[Setting], differences: list[pd.DataFrame]) -> str:
    parts = ["# Report", ""]
    for setting, tests in zip(settings, differences, strict=True):
        parts += [f"## {setting.title}", "", setting.provenance + ".", ""]
        parts += [f"> {note}" for note in setting.notes] + ([""] if setting.notes else [])
        for metric, title in metrics_shown(setting).items():
            labels, conditions, cells = grid(setting, metric)
            parts += [f"### {title}", "", _row(["", *conditions]), _row(["---", *["---:"] * len(conditions)])]
            parts += [_row([label, *(cells.get((label, c), "") for c in conditions)]) for label in labels] + [""]
        if len(tests):
            parts += [f"### Differences from {tests['baseline'].iloc[0]} (higher is better)", ""]
            head = ["", "under", "difference", "95 %", "p bootstrap (Holm)", "p Wilcoxon (Holm)"]
            parts += [_row(head), _row(["---", "---", *["---:"] * 4])]
            parts += [_row(_difference(row)) for _, row in tests.iterrows()] + [""]
    return "\n".join(parts)


def latex(settings: list[Setting]) -> str:
    """One table per setting and metric, to be \\input into a paper."""
    parts = ["% made by mer-lightning report; needs \\usepackage{booktabs}"]
    for setting in settings:
        for metric, title in metrics_shown(setting).items():
            labels, conditions, cells = grid(setting, metric)
            parts += [
                "\\begin{table}",
                f"\\caption{{{_tex(f'{title}: {setting.title}. {setting.provenance}.')}}}",
                f"\\begin{{tabular}}{{l{'r' * len(conditions)}}}",
                "\\toprule",
                _tex_row(["", *conditions]),
                "\\midrule",
                *[_tex_row([label, *(cells.get((label, c), "") for c in conditions)]) for label in labels],
                "\\bottomrule",
                "\\end{tabular}",
                "\\end{table}",
                "",
            ]
    return "\n".join(parts)


def _difference(row: pd.Series) -> list[str]:
    return [
        row["label"],
        row["condition"],
        number(row["difference"], "+"),
        interval(row["low"], row["high"]),
        number(row["bootstrap_p_holm"]),
        number(row["wilcoxon_p_holm"]),
    ]


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _tex(text: str) -> str:
    return "".join(_SPECIAL.get(letter, letter) for letter in text)


def _tex_row(cells: list[str]) -> str:
    return " & ".join(map(_tex, cells)) + r" \\"

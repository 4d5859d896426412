"""A report as one HTML file: no server, no network; tables sort and filter, and it reads on a phone."""

from __future__ import annotations

from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING

from mer_lightning.numerals import interval, number
from mer_lightning.studies.report.figures import figures
from mer_lightning.studies.report.settings import Setting
from mer_lightning.studies.report.tables import costs, grid, metrics_shown, scores

if TYPE_CHECKING:
    import pandas as pd

_REFERENCES = ("constant predictor", "best possible")


def page(settings: list[Setting], differences: list[pd.DataFrame], published: list[str]) -> str:
    """``published``: an HTML table of published rows for each setting, or nothing."""
    here = files("mer_lightning.studies.report")
    css, script = ((here / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    sections = [_section(*parts) for parts in zip(settings, differences, published, strict=True)]
    runs = sum(len(contender.runs) for setting in settings for contender in setting.contenders.values())
    contents = "".join(f'<li><a href="#{_anchor(each)}">{escape(each.title)}</a></li>' for each in settings)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>mer_lightning report</title>
<style>{css}</style>
</head>
<body>
<h1>Report of {runs} runs</h1>
<p class="facts">Mean ± deviation over seeds. Every checkpoint was chosen on validation, and one checkpoint answers all
conditions. Tables that are kept apart differ in corpus, features, split, protocol or masks. Choose a column's head to
sort by it.</p>
<ul>{contents}</ul>
{"".join(sections)}
<script>{script}</script>
</body>
</html>
"""


def _section(setting: Setting, tests: pd.DataFrame, published: str) -> str:
    shown = metrics_shown(setting)
    options = "".join(f'<option value="{metric}">{escape(title)}</option>' for metric, title in shown.items())
    tables = "".join(f'<div data-metric="{metric}">{_scores(setting, metric)}</div>' for metric in shown)
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in setting.notes)
    label = ' <span class="synthetic">synthetic data</span>' if setting.synthetic else ""
    drawn = "".join(
        f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>" for caption, svg in figures(setting).items()
    )
    return f"""
<section id="{_anchor(setting)}">
<h2>{escape(setting.title)}{label}</h2>
<p class="facts">{escape(setting.provenance)}.</p>
{notes}
<div class="controls"><label>metric <select>{options}</select></label>
<label>methods with <input type="search" placeholder="any name" size="12"></label></div>
{tables}
{_differences(tests)}
{published}
<h3>Cost, selection and masks</h3>
{_costs(setting)}
<h3>Figures</h3>
<div class="figures">{drawn}</div>
</section>"""


def _scores(setting: Setting, metric: str) -> str:
    labels, conditions, cells = grid(setting, metric)
    values = scores(setting, metric).set_index(["label", "condition"])["mean"]
    lowest = "↓" in metrics_shown(setting)[metric]
    best = {c: (min if lowest else max)(values[label, c] for label in setting.contenders) for c in conditions}
    rows = []
    for label in labels:
        parts = []
        for condition in conditions:
            value = values.get((label, condition))
            mark = (
                ' class="best"'
                if value is not None and value == best[condition] and len(setting.contenders) > 1
                else ""
            )
            sort = f' data-value="{value:.9g}"' if value is not None else ""
            parts.append(f"<td{mark}{sort}>{cells.get((label, condition), '')}</td>")
        kind = ' class="reference"' if label in _REFERENCES else ""
        rows.append(f"<tr{kind}><td>{escape(label)}</td>{''.join(parts)}</tr>")
    return html_table(["method", *conditions], rows)


def _differences(tests: pd.DataFrame) -> str:
    if not len(tests):
        return ""
    rows = []
    for _, row in tests.iterrows():
        direction = "better" if row["difference"] > 0 else "worse"
        sure = f' class="{direction}"' if row["bootstrap_p_holm"] < 0.05 else ""
        rows.append(
            f"<tr><td>{escape(row['label'])}</td><td>{row['condition']}</td>"
            f'<td{sure} data-value="{row["difference"]:.9g}">{number(row["difference"], "+")}</td>'
            f'<td data-value="{row["low"]:.9g}">{interval(row["low"], row["high"])}</td>'
            f"<td>{number(row['bootstrap_p_holm'])}</td><td>{number(row['wilcoxon_p_holm'])}</td></tr>"
        )
    head = ["method", "under", "difference", "95 %", "p bootstrap", "p Wilcoxon"]
    return (
        f"<h3>Differences from {escape(tests['baseline'].iloc[0])}</h3>"
        '<p class="facts">In the score that selects checkpoints, higher is better. Paired bootstrap over samples and '
        "seeds; Wilcoxon signed ranks of the losses of single samples; p-values after Holm's correction.</p>"
        + html_table(head, rows)
    )


def _costs(setting: Setting) -> str:
    rows = [
        f'<tr><td>{escape(row["label"])}</td><td>{escape(row["backbone"])}</td><td data-value="{row["seconds"]}">'
        f"{row['seconds']:.0f}</td><td>{row['epochs']:.0f}</td><td>{row['peak_megabytes']:.0f}</td>"
        f"<td>{escape(row['selection'])}</td><td>{escape(row['training_masks'])}</td></tr>"
        for _, row in costs(setting).iterrows()
    ]
    return html_table(["method", "backbone", "seconds", "epochs", "peak MB", "chosen by", "training masks"], rows)


def html_table(head: list[str], rows: list[str]) -> str:
    """A table that scrolls within itself where the window is narrow."""
    cells = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    return f'<div class="scroll"><table><thead><tr>{cells}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _anchor(setting: Setting) -> str:
    import hashlib

    return "s" + hashlib.sha256((setting.title + setting.provenance).encode()).hexdigest()[:8]

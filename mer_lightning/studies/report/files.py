"""The files of a report: HTML, Markdown, LaTeX, CSV and one Parquet ledger."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mer_lightning.errors import Refusal

if TYPE_CHECKING:
    from mer_lightning.studies.report.settings import Setting


def write_report(folders: list[Path], baseline: str, output: Path) -> list[Path]:
    """The files of a report; tables of settings in which the baseline did not run have no tests."""
    import pandas as pd

    from mer_lightning.studies.ledger import find_runs, ledger
    from mer_lightning.studies.report.page import page
    from mer_lightning.studies.report.settings import settings_of
    from mer_lightning.studies.report.tables import differences, metrics_shown, scores
    from mer_lightning.studies.report.text import latex, markdown

    runs = find_runs(folders)
    settings = settings_of(runs)
    labels = {label for setting in settings for label in setting.contenders}
    if baseline not in labels and baseline != "supervised":
        raise Refusal(
            "--baseline", f"a method among {', '.join(sorted(labels))}", f"'{baseline}'", "choose one of them"
        )
    tests = [differences(each, baseline) if baseline in each.contenders else pd.DataFrame() for each in settings]
    tables = [scores(each, metric).assign(setting=each.title) for each in settings for metric in metrics_shown(each)]
    output.mkdir(parents=True, exist_ok=True)
    texts = {
        "report.html": page(settings, tests, [published_rows(each) for each in settings]),
        "report.md": markdown(settings, tests),
        "report.tex": latex(settings),
        "scores.csv": pd.concat(tables).to_csv(index=False),
        "differences.csv": pd.concat(
            [each.assign(setting=setting.title) for each, setting in zip(tests, settings, strict=True)]
        ).to_csv(index=False),
    }
    for name, text in texts.items():
        (output / name).write_text(text, encoding="utf-8")
    ledger(runs).to_parquet(output / "ledger.parquet", index=False)
    return [output / name for name in (*texts, "ledger.parquet")]


def published_rows(setting: Setting) -> str:
    """What papers report for this corpus, with every reason not to compare it; nothing beside synthetic data."""
    from html import escape

    from mer_lightning.published.rows import differs, published
    from mer_lightning.studies.report.page import html_table

    if setting.synthetic:
        return ""
    corpus = setting.fact("corpus").split("-")[0]
    parts = []
    rows = published(corpus)
    for name in dict.fromkeys(row.table for row in rows):
        here = [row for row in rows if row.table == name]
        conditions = list(dict.fromkeys(row.condition for row in here))
        values = {(row.method, row.metric, row.condition): row.value for row in here}
        lines = [
            f"<tr><td>{escape(method)}</td><td>{metric}</td>"
            + "".join(f"<td>{values.get((method, metric, c), '')}</td>" for c in conditions)
            + "</tr>"
            for method, metric in dict.fromkeys((row.method, row.metric) for row in here)
        ]
        reasons = differs(here[0], setting.fact("feature_set"), setting.fact("protocol"), setting.fact("selection"))
        warning = f"Not comparable with the tables above: {'; '.join(reasons)}. " if reasons else ""
        parts.append(
            f'<p class="note">{escape(warning)}Source: {escape(here[0].source)} [{here[0].evidence}]; '
            f"{escape(here[0].variant)}. {escape(here[0].note)}</p>"
            + html_table(["method", "metric", *conditions], lines)
        )
    return f"<h3>Published</h3>{''.join(parts)}" if parts else ""

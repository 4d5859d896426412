"""The files of a report: HTML, Markdown, LaTeX, CSV and one Parquet ledger."""

from __future__ import annotations

from pathlib import Path

from mer_lightning.errors import Refusal
from mer_lightning.whole_files import whole, write_whole

SCORES, DIFFERENCES = "scores.csv", "differences.csv"


def write_report(
    folders: list[Path], baseline: str, output: Path, baseline_needed: bool = False, by: str | None = None
) -> list[Path]:
    """Write the files and return their paths.

    An ablation in which the baseline did not run is compared with its full method. Other settings without it have no
    tests; where it is needed, one setting at least must have it.
    ``by`` names a column of the samples, for scores of groups.
    """
    import pandas as pd

    from mer_lightning.studies.ledger import open_ledger
    from mer_lightning.studies.report.groups import group_scores
    from mer_lightning.studies.report.page import page
    from mer_lightning.studies.report.settings import settings_of
    from mer_lightning.studies.report.tables import differences, metrics_shown, scores
    from mer_lightning.studies.report.text import latex, markdown

    ledger = open_ledger(folders)
    settings = settings_of(ledger)
    labels = {label for setting in settings for label in setting.contenders}
    if baseline_needed and baseline not in labels:
        expected = f"a method among {', '.join(sorted(labels))}"
        raise Refusal("--baseline", expected, f"'{baseline}'", "choose one of them")
    baselines = [baseline if baseline in each.contenders else each.full for each in settings]
    tests = [
        differences(setting, chosen) if chosen else pd.DataFrame()
        for setting, chosen in zip(settings, baselines, strict=True)
    ]
    groups = [group_scores(each, by) for each in settings] if by else []
    titled = list(zip([setting.title for setting in settings], settings, tests, strict=True))
    tables = [
        scores(setting, metric.name).assign(setting=title)
        for title, setting, _ in titled
        for metric in metrics_shown(setting)
    ]
    output.mkdir(parents=True, exist_ok=True)
    texts = {
        "report.html": page(settings, tests, ledger.diverged, groups),
        "report.md": markdown(settings, tests, ledger.diverged, groups),
        "report.tex": latex(settings),
        SCORES: pd.concat(tables).to_csv(index=False),
        DIFFERENCES: pd.concat([each.assign(setting=title) for title, _, each in titled]).to_csv(index=False),
    }
    if by:
        titles = [setting.title for setting in settings]
        joined = [each.assign(setting=title) for title, each in zip(titles, groups, strict=True)]
        texts["groups.csv"] = pd.concat(joined).to_csv(index=False)
    for name, text in texts.items():
        write_whole(output / name, text)
    with whole(output / "ledger.parquet") as temporary:
        ledger.rows.to_parquet(temporary, index=False)
    return [output / name for name in (*texts, "ledger.parquet")]

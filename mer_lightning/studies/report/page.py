"""A report as one HTML file: no server, no network; tables sort and filter, and it reads on a phone."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, StrictUndefined

from mer_lightning.studies.report.figures import figures
from mer_lightning.studies.report.findings import answers, notes, warnings
from mer_lightning.studies.report.method_figures import figures_of_method
from mer_lightning.studies.report.of_studies import Trials
from mer_lightning.studies.report.options import common
from mer_lightning.studies.report.page_tables import (
    MOST_TRIALS,
    cost_table,
    difference_tables,
    group_table,
    published_tables,
    sample_table,
    score_table,
    settings_table,
    share_table,
    trial_table,
)
from mer_lightning.studies.report.samples import samples_of
from mer_lightning.studies.report.settings import Setting
from mer_lightning.studies.report.tables import metrics_shown
from mer_lightning.studies.report.trials_drawn import trial_figure

if TYPE_CHECKING:
    import pandas as pd


_MOST_OWN = 6  # methods that draw figures of themselves: of forty variants of one they would be much the same


def page(
    settings: list[Setting],
    differences: list[pd.DataFrame],
    diverged: Mapping[Path, str] | None = None,
    groups: Sequence[pd.DataFrame] = (),
) -> str:
    """``differences`` and ``groups``: of each setting, an empty table where there are none. ``diverged``: by folder."""
    here = files("mer_lightning.studies.report")
    template, css, script = ((here / name).read_text(encoding="utf-8") for name in ("page.html", "page.css", "page.js"))
    # Names come from configurations, and whatever they hold is text: all is escaped but what page.html calls safe.
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(template).render(
        css=css,
        script=script,
        title=_title(settings),
        diverged={str(folder): line for folder, line in (diverged or {}).items()},
        sections=[_section(*pair) for pair in zip_longest(settings, differences, groups)],
    )


def _title(settings: list[Setting]) -> str:
    """`36 runs of 6 methods on 2 corpora`"""
    contenders = [each for setting in settings for each in setting.contenders.values()]
    contenders += [trial for setting in settings for sweep in setting.sweeps for trial in sweep.trials.values()]
    runs = {run.folder for contender in contenders for run in contender.runs}
    methods = {label for setting in settings for label in setting.contenders}
    corpora = {setting.fact("corpus") for setting in settings}
    trials = sum(len(sweep.trials) for setting in settings for sweep in setting.sweeps)
    kind = ("variant", "variants") if any(setting.full for setting in settings) else ("method", "methods")
    of = _counted(trials, "trial", "trials") if trials else _counted(len(methods), *kind)
    return f"{_counted(len(runs), 'run', 'runs')} of {of} on {_counted(len(corpora), 'corpus', 'corpora')}"


def _counted(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"


def _section(setting: Setting, tests: pd.DataFrame, groups: pd.DataFrame | None) -> dict[str, object]:
    """What page.html needs of one setting."""
    samples = samples_of(setting)
    return {
        "anchor": "s" + hashlib.sha256((setting.title + setting.provenance).encode()).hexdigest()[:8],
        "title": setting.title,
        "split": setting.fact("split"),
        "synthetic": setting.synthetic,
        "provenance": setting.provenance,
        "answers": answers(setting, tests),
        "warnings": warnings(setting),
        "notes": notes(setting),
        "sweeps": [_sweep(sweep) for sweep in setting.sweeps],
        "metrics": [(metric, score_table(setting, metric)) for metric in metrics_shown(setting)],
        "baseline": tests["baseline"].iloc[0] if len(tests) else None,
        "differences": difference_tables(tests),
        "groups": None if groups is None else group_table(groups),
        "figures": figures(setting),
        "own_figures": {
            f"{label}: {caption}": drawing
            for label, contender in setting.best(_MOST_OWN).items()
            for caption, drawing in figures_of_method(contender).items()
        },
        "samples": samples and {"of": samples.of, "table": sample_table(samples)},
        "published": published_tables(setting),
        "differing": settings_table(setting),
        "common": common(setting),
        "costs": cost_table(setting),
        "shares": share_table(setting),
    }


def _sweep(sweep: Trials) -> dict[str, object]:
    return {
        "name": sweep.study.name,
        "metric": sweep.study.metric,
        "table": trial_table(sweep),
        "left_out": max(len(sweep.trials) - MOST_TRIALS, 0),
        "figure": trial_figure(sweep),
    }

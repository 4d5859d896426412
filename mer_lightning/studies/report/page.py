"""A report as one HTML file: no server, no network; tables sort and filter, and it reads on a phone."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, StrictUndefined

from mer_lightning.studies.report.figures import figures, svg
from mer_lightning.studies.report.page_tables import (
    cost_table,
    difference_table,
    group_table,
    published_tables,
    score_table,
    share_table,
)
from mer_lightning.studies.report.settings import Setting
from mer_lightning.studies.report.tables import metrics_shown

if TYPE_CHECKING:
    import pandas as pd


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
        runs=sum(len(contender.runs) for setting in settings for contender in setting.contenders.values()),
        diverged={str(folder): line for folder, line in (diverged or {}).items()},
        sections=[_section(*pair) for pair in zip_longest(settings, differences, groups)],
    )


def _section(setting: Setting, tests: pd.DataFrame, groups: pd.DataFrame | None) -> dict[str, object]:
    """What page.html needs of one setting."""
    return {
        "anchor": "s" + hashlib.sha256((setting.title + setting.provenance).encode()).hexdigest()[:8],
        "title": setting.title,
        "synthetic": setting.synthetic,
        "provenance": setting.provenance,
        "notes": setting.notes,
        "metrics": [(metric, score_table(setting, metric)) for metric in metrics_shown(setting)],
        "baseline": tests["baseline"].iloc[0] if len(tests) else None,
        "differences": difference_table(tests),
        "groups": None if groups is None else group_table(groups),
        "published": published_tables(setting),
        "costs": cost_table(setting),
        "shares": share_table(setting),
        "figures": {caption: svg(figure) for caption, figure in figures(setting).items()},
    }

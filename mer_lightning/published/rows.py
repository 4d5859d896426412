"""Published results as data: one YAML per table, each with its source. Numbers that were not checked are left out.

source, evidence (C read in it, C2 in another source that quotes it, M recalled), corpus, feature_set, protocol,
selection, variant, metrics, conditions, note (if any)
rows: {method: one list per condition, with one number (or null) per metric}
sources: {method: source} of a table that was put together from several
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from mer_lightning.errors import Refusal
from mer_lightning.yaml_text import from_yaml

_NEEDED = {
    "source",
    "evidence",
    "corpus",
    "feature_set",
    "protocol",
    "selection",
    "variant",
    "metrics",
    "conditions",
    "rows",
}
_UNCHECKED = "M"


@dataclass(frozen=True)
class Published:
    """One published number with its origin."""

    table: str  # the file's name
    method: str
    condition: str
    metric: str
    value: float
    source: str
    evidence: str
    corpus: str
    feature_set: str
    protocol: str
    selection: str
    variant: str
    note: str


def published(corpus: str | None = None, protocol: str | None = None) -> list[Published]:
    """Every number that may be printed, of one corpus and one protocol if they are named."""
    rows = [row for row in _all() if row.evidence != _UNCHECKED]
    return [row for row in rows if corpus in (None, row.corpus) and protocol in (None, row.protocol)]


def differs(row: Published, feature_set: str, protocol: str, selection: str) -> list[str]:
    """Reasons why a published number must not be compared with one of ours; empty where it may be compared."""
    reasons = []
    if row.feature_set != feature_set:
        reasons.append(f"its features are {row.feature_set}")
    if row.protocol != protocol:
        reasons.append(f"its protocol is {row.protocol}")
    if row.selection != selection:
        reasons.append(f"its checkpoints were chosen by another rule or an unknown one ({row.selection})")
    return reasons


@cache
def _all() -> tuple[Published, ...]:
    rows: list[Published] = []
    for path in sorted(files("mer_lightning.published").iterdir(), key=lambda each: each.name):
        if path.name.endswith(".yaml"):
            rows += rows_of(path.name.removesuffix(".yaml"), from_yaml(path.read_text(encoding="utf-8")))
    return tuple(rows)


def rows_of(name: str, content: dict[str, Any]) -> list[Published]:
    """The rows of one file, or a Refusal that names what is wrong."""
    if missing := _NEEDED - content.keys():
        raise Refusal(f"published/{name}", f"the keys {', '.join(sorted(_NEEDED))}", f"no {min(missing)}", "add it")
    if content["evidence"] not in ("C", "C2", _UNCHECKED):
        raise Refusal(f"published/{name}", "evidence C, C2 or M", str(content["evidence"]), "say how it is known")
    metrics, conditions, rows = content["metrics"], content["conditions"], []
    for method, cells in content["rows"].items():
        if len(cells) != len(conditions) or any(len(cell) != len(metrics) for cell in cells):
            expected = f"{len(conditions)} conditions of {len(metrics)} metrics"
            raise Refusal(
                f"published/{name}: {method}", expected, str([len(cell) for cell in cells]), "correct the row"
            )
        facts = {key: str(content[key]) for key in _NEEDED - {"metrics", "conditions", "rows"}}
        facts["source"] = content.get("sources", {}).get(method, facts["source"])
        for condition, cell in zip(conditions, cells, strict=True):
            for metric, value in zip(metrics, cell, strict=True):
                if value is not None:
                    note = str(content.get("note", ""))
                    rows.append(Published(name, str(method), condition, metric, float(value), note=note, **facts))
    return rows

"""The tables of the page: texts, what their columns are sorted by, and which cells are marked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mer_lightning.methods.materiality import MATERIAL
from mer_lightning.numerals import interval, number
from mer_lightning.published.rows import Published, differs, published
from mer_lightning.studies.report.settings import Setting
from mer_lightning.studies.report.tables import ShownMetric, best_cells, costs, grid, scores

if TYPE_CHECKING:
    import pandas as pd

_SURE = 0.05  # a difference with a smaller p is coloured


@dataclass(frozen=True)
class Cell:
    text: str
    value: float | None = None  # sorts the column; the text does where there is none
    mark: str = ""  # a class of page.css


@dataclass(frozen=True)
class Row:
    cells: list[Cell]
    reference: bool = False  # stays below the other rows, however the table is sorted


@dataclass(frozen=True)
class Table:
    head: list[str]
    rows: list[Row]


@dataclass(frozen=True)
class PublishedTable:
    warning: str  # why it must not be compared with the other tables; empty where it may be
    first: Published  # has the source of all rows
    table: Table


def score_table(setting: Setting, metric: ShownMetric) -> Table:
    shown = grid(setting, metric.name)
    best = best_cells(setting, metric)
    means = scores(setting, metric.name).set_index(["label", "condition"])["mean"].to_dict()

    def row(label: str, reference: bool) -> Row:
        keys = [(label, condition) for condition in shown.conditions]
        cells = [
            Cell(text, means.get(key), "best" if key in best else "")
            for key, text in zip(keys, shown.row(label), strict=True)
        ]
        return Row([Cell(label), *cells], reference)

    rows = [row(label, False) for label in shown.methods] + [row(label, True) for label in shown.references]
    return Table(["method", *shown.conditions], rows)


def difference_table(tests: pd.DataFrame) -> Table:
    rows = []
    for test in tests.to_dict("records"):
        direction = "better" if test["difference"] > 0 else "worse"
        mark = direction if test["bootstrap_p_holm"] < _SURE else ""
        cells = [
            Cell(test["label"]),
            Cell(test["condition"]),
            Cell(number(test["difference"], "+"), test["difference"], mark),
            Cell(interval(test["low"], test["high"]), test["low"]),
            Cell(number(test["bootstrap_p_holm"])),
            Cell(number(test["wilcoxon_p_holm"])),
        ]
        rows.append(Row(cells))
    return Table(["method", "under", "difference", "95 %", "p bootstrap", "p Wilcoxon"], rows)


def group_table(groups: pd.DataFrame) -> Table:
    rows = [
        Row(
            [
                Cell(row["label"]),
                Cell(row["condition"]),
                Cell(row["group"]),
                Cell(str(row["samples"]), row["samples"]),
                Cell(number(row["score"]), row["score"]),
                Cell(f"{number(row['low'])} to {number(row['high'])}", row["low"]),
            ]
        )
        for row in groups.to_dict("records")
    ]
    return Table(["method", "under", "group", "samples", "score", "95 %"], rows)


def cost_table(setting: Setting) -> Table:
    rows = [
        Row(
            [
                Cell(cost["label"]),
                Cell(cost["backbone"]),
                Cell(f"{cost['seconds']:.0f}", cost["seconds"]),
                Cell(f"{cost['epochs']:.0f}"),
                Cell(f"{cost['peak_megabytes']:.0f}"),
                Cell(cost["selection"]),
                Cell(cost["training_masks"]),
            ]
        )
        for cost in costs(setting).to_dict("records")
    ]
    return Table(["method", "backbone", "seconds", "epochs", "peak MB", "chosen by", "training masks"], rows)


def share_table(setting: Setting) -> Table:
    """How far each loss moves the encoders, beside the task's; small shares are marked."""
    rows = [
        Row(
            [
                Cell(row["label"]),
                Cell(row["loss"]),
                Cell(f"{row['share']:.1%}", row["share"], "worse" if row["share"] < MATERIAL else ""),
                Cell(number(row["cosine"], "+"), row["cosine"]),
            ]
        )
        for row in setting.gradient_shares.to_dict("records")
    ]
    return Table(["method", "loss", "share of the task's gradient", "cosine"], rows)


def published_tables(setting: Setting) -> list[PublishedTable]:
    """What papers report for this corpus, with every reason not to compare it; nothing beside synthetic data."""
    if setting.synthetic:
        return []
    tables: dict[str, list[Published]] = {}
    # A label ends in the alignment; a name of one's own may have hyphens, too: `mosi-mine` is not MOSI.
    for result in published(setting.fact("corpus").rpartition("-")[0]):
        tables.setdefault(result.table, []).append(result)
    return [_published_table(setting, results) for results in tables.values()]


def _published_table(setting: Setting, results: list[Published]) -> PublishedTable:
    conditions = list(dict.fromkeys(result.condition for result in results))
    values = {(result.method, result.metric, result.condition): result.value for result in results}
    rows = [
        Row([Cell(method), Cell(metric), *(Cell(str(values.get((method, metric, c), ""))) for c in conditions)])
        for method, metric in dict.fromkeys((result.method, result.metric) for result in results)
    ]
    reasons = differs(results[0], setting.fact("feature_set"), setting.fact("protocol"), setting.fact("selection"))
    warning = f"Not comparable with the tables above: {'; '.join(reasons)}. " if reasons else ""
    return PublishedTable(warning, results[0], Table(["method", "metric", *conditions], rows))

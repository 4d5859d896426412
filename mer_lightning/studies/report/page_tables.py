"""The tables of the page: texts, what their columns are sorted by, and which cells are marked."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mer_lightning.evaluation.significance import SURE
from mer_lightning.methods.materiality import MATERIAL
from mer_lightning.numerals import interval, number, p_value, spread
from mer_lightning.published.rows import Published, differs, published
from mer_lightning.studies.report.charts import forest_axis, forest_line, span
from mer_lightning.studies.report.of_studies import Trials
from mer_lightning.studies.report.options import differing, option_text
from mer_lightning.studies.report.samples import Answer, Samples
from mer_lightning.studies.report.scores_drawn import LEAST
from mer_lightning.studies.report.settings import Setting
from mer_lightning.studies.report.tables import ShownMetric, best_cells, costs, grid, scores

if TYPE_CHECKING:
    import pandas as pd


MOST_TRIALS = 30  # rows of a table of trials


@dataclass(frozen=True)
class Cell:
    text: str
    value: float | None = None  # sorts the column; the text does where there is none
    mark: str = ""  # a class of page.css
    tint: float | None = None  # how strongly the cell is coloured, from 0 to 1
    drawing: str = ""  # SVG before the text
    small: str = ""  # pale, behind the text


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
    """Better scores are coloured more strongly: over the whole table and a least span, so that noise stays pale."""
    shown = grid(setting, metric.name)
    best = best_cells(setting, metric)
    means = scores(setting, metric.name).set_index(["label", "condition"])["mean"].to_dict()
    low, high = span(list(means.values()), LEAST)

    def tint(value: float | None) -> float | None:
        if value is None or not math.isfinite(value):
            return None
        return (high - value if metric.lower_is_better else value - low) / (high - low)

    def row(label: str, reference: bool) -> Row:
        keys = [(label, condition) for condition in shown.conditions]
        cells = [
            Cell(text, means.get(key), "best" if key in best else "", tint(means.get(key)))
            for key, text in zip(keys, shown.row(label), strict=True)
        ]
        return Row([Cell(label), *cells], reference)

    rows = [row(label, False) for label in shown.methods] + [row(label, True) for label in shown.references]
    return Table(["method", *shown.conditions], rows)


def difference_tables(tests: pd.DataFrame) -> dict[str, Table]:
    """{condition: a forest plot as a table}: all on one scale, whose ends are at the foot of each."""
    if not len(tests):
        return {}
    ends = tests[["low", "high", "difference"]].to_numpy().flatten()
    reach = max((abs(end) for end in ends if math.isfinite(end)), default=0.0)
    scale = span([-reach, reach], LEAST / 5)
    return {str(condition): _forest(group, scale) for condition, group in tests.groupby("condition", sort=False)}


def _forest(tests: pd.DataFrame, scale: tuple[float, float]) -> Table:
    rows = []
    for test in tests.to_dict("records"):
        direction = "better" if test["difference"] > 0 else "worse"
        mark = direction if test["bootstrap_p_holm"] <= SURE else ""
        cells = [
            Cell(test["label"]),
            Cell("", test["difference"], drawing=forest_line(test["difference"], test["low"], test["high"], scale)),
            Cell(number(test["difference"], "+"), test["difference"], mark),
            Cell(interval(test["low"], test["high"]), test["low"]),
            Cell(p_value(test["bootstrap_p_holm"]), test["bootstrap_p_holm"]),
            Cell(p_value(test["wilcoxon_p_holm"]), test["wilcoxon_p_holm"]),
        ]
        rows.append(Row(cells))
    foot = [Cell("worse | better"), Cell("", drawing=forest_axis(scale)), *[Cell("")] * 4]
    return Table(["method", "", "difference", "95 %", "p", "p of losses"], [*rows, Row(foot, reference=True)])


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
                Cell(_seconds(cost["seconds"]), cost["seconds"]),
                Cell(f"{cost['epochs']:.0f}", cost["epochs"]),
                Cell(f"{cost['peak_megabytes']:.0f}", cost["peak_megabytes"]),
            ]
        )
        for cost in costs(setting).to_dict("records")
    ]
    return Table(["method", "seconds", "epochs", "peak MB"], rows)


def _seconds(value: float) -> str:
    """Whole ones from ten on: a second more or less is the noise of the machine."""
    return f"{value:.1f}" if value < 10 else f"{value:.0f}"


def settings_table(setting: Setting) -> Table:
    """What differs between methods: one column per option."""
    options = differing(setting)
    rows = [
        Row([Cell(label), *(Cell(values[place]) for values in options.values())])
        for place, label in enumerate(setting.shown)
    ]
    return Table(["method", *options], rows if options else [])


def sample_table(samples: Samples) -> Table:
    sentences = samples.sentences
    rows = [
        Row(
            [
                Cell(sample.id),
                *([Cell(sample.sentence, mark="words")] if sentences else []),
                Cell(sample.truth),
                *(_answer(answer) for answer in sample.answers),
            ]
        )
        for sample in samples.rows
    ]
    return Table(["id", *(["sentence"] if sentences else []), "truth", *samples.methods], rows)


def _answer(answer: Answer) -> Cell:
    flips = f" not without {', '.join(answer.flips)}" if answer.flips else ""
    mark = "" if answer.right is None else "right" if answer.right else "wrong"
    return Cell(answer.text, mark=mark, small=flips)


def trial_table(sweep: Trials, most: int = MOST_TRIALS) -> Table:
    """The best trials on validation; the winner first and bold."""
    options = next(iter(sweep.options.values()), {})
    rows = []
    for rank, label in enumerate(list(sweep.trials)[:most], start=1):
        values_of_runs = sweep.scores[label]
        deviation = statistics.stdev(values_of_runs) if len(values_of_runs) > 1 else math.nan
        values = [option_text(sweep.options[label][name]) for name in options]
        mark = "best" if label == sweep.label else ""
        score = Cell(spread(sweep.mean(label), deviation), sweep.mean(label), mark)
        method = label.partition(" (")[0]
        rows.append(
            Row([Cell(f"{rank}. {method}", rank, mark), score, Cell(str(len(values_of_runs))), *map(Cell, values)])
        )
    return Table(["trial", f"{sweep.study.metric}, validation", "runs", *options], rows)


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

"""The numbers of a report, as tables that are then written for people, for LaTeX and for other programs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mer_lightning.evaluation.metrics import describe, headline_metrics
from mer_lightning.evaluation.significance import compare, corrected
from mer_lightning.numerals import digits_allowed, number, spread
from mer_lightning.studies.report.settings import Setting

if TYPE_CHECKING:
    import pandas as pd

LINEAR = "linear model"
REFERENCES = {"constant predictor": "floor", LINEAR: "linear", "best possible": "bayes"}  # {row: column of scores}


@dataclass(frozen=True)
class ShownMetric:
    name: str
    title: str  # with an arrow that says which way is better
    lower_is_better: bool


@dataclass(frozen=True)
class Grid:
    """Scores of one metric as texts: methods by conditions, and rows of references below them."""

    methods: list[str]
    references: list[str]
    conditions: list[str]
    cells: dict[tuple[str, str], str]  # {(row, condition): text}

    def row(self, label: str) -> list[str]:
        return [self.cells.get((label, condition), "") for condition in self.conditions]


def scores(setting: Setting, metric: str) -> pd.DataFrame:
    """One row per contender and condition: mean, deviation (n - 1) and number of seeds; references."""
    rows = setting.rows[setting.rows["metric"] == metric]
    grouped = rows.groupby(["label", "condition"], sort=False)
    table = grouped.agg(
        mean=("value", "mean"),
        std=("value", "std"),
        seeds=("value", "count"),
        floor=("floor", "first"),
        linear=("linear", "first"),
        fold_mean=("fold_mean", "mean"),
        fold_std=("fold_std", "mean"),
        bayes=("bayes", "first"),
        variant=("variant", "first"),
    )
    return table.reset_index().assign(metric=metric)


def metrics_shown(setting: Setting) -> list[ShownMetric]:
    """The one that selects checkpoints, then the other headline metrics of the task."""
    first = setting.task.score[0]
    shown = {first: describe(setting.task)[first]} | headline_metrics(setting.task)
    arrows = {"min": "↓", "max": "↑"}
    return [
        ShownMetric(name, f"{info.title} {arrows[info.direction]}", info.direction == "min")
        for name, info in shown.items()
    ]


def best_cells(setting: Setting, metric: ShownMetric) -> set[tuple[str, str]]:
    """(label, condition) of the best mean of each condition that several methods have.

    With it those that are the same as the best to the digits that its deviation allows: what prints alike is marked
    alike. None where methods had unequal budgets: who trains longer is not better.
    """
    if not setting.equal_budgets:
        return set()
    marked: set[tuple[str, str]] = set()
    for condition, table in scores(setting, metric.name).groupby("condition", sort=False):
        known = table[table["mean"].notna()].sort_values("mean", ascending=metric.lower_is_better, kind="stable")
        means = dict(zip(known["label"], known["mean"], strict=True))
        if len(means) > 1:
            decimals = digits_allowed(known["std"].iloc[0])
            printed = [number(mean, decimals=decimals) for mean in means.values()]
            same = zip(means, printed, strict=True)
            marked |= {(label, str(condition)) for label, text in same if text == printed[0]}
    return marked


def differences(setting: Setting, baseline: str) -> pd.DataFrame:
    """Of every contender from the baseline, in the score that selects checkpoints; higher is better."""
    import pandas as pd

    reference = setting.contenders[baseline]
    others = {label: other for label, other in setting.shown.items() if label != baseline}
    rows: list[dict[str, Any]] = []
    for title, conditions in reference.condition_groups().items():
        comparisons = {
            label: compare(setting.task, other.logits(conditions), reference.logits(conditions), reference.target)
            for label, other in others.items()
            if set(conditions) <= set(other.conditions)
        }
        for (label, each), after in zip(comparisons.items(), corrected(comparisons).values(), strict=True):
            rows.append(
                {
                    "label": label,
                    "baseline": baseline,
                    "condition": title,
                    "difference": each.value,
                    "low": after.low,
                    "high": after.high,
                    "bootstrap_p": each.bootstrap_p,
                    "bootstrap_p_holm": after.bootstrap_p,
                    "wilcoxon_p": each.wilcoxon_p,
                    "wilcoxon_p_holm": after.wilcoxon_p,
                }
            )
    return pd.DataFrame(rows)


def costs(setting: Setting) -> pd.DataFrame:
    """What the scores cost: mean over seeds."""
    runs = setting.rows.drop_duplicates("run").groupby("label", sort=False)
    table = runs.agg(
        seconds=("seconds", "mean"),
        epochs=("epochs", "mean"),
        peak_megabytes=("peak_megabytes", "max"),
    )
    return table.reindex(list(setting.contenders)).reset_index()


def grid(setting: Setting, metric: str) -> Grid:
    table = scores(setting, metric)
    tested = set(table["condition"])
    conditions = [name for name in setting.conditions if name in tested]
    cells = {(row["label"], row["condition"]): _score(row) for row in table.to_dict("records")}
    first = table.groupby("condition", sort=False).first()
    references = []
    for name, column in REFERENCES.items():
        if first[column].notna().any():
            references.append(name)
            cells |= {(name, condition): number(first[column].astype(float)[condition]) for condition in conditions}
    return Grid(list(setting.contenders), references, conditions, cells)


def _score(row: dict[Any, Any]) -> str:
    """Mean and deviation over seeds; of pooled folds, those over folds in brackets."""
    over_folds = spread(row["fold_mean"], row["fold_std"])
    return spread(row["mean"], row["std"]) + (f" [{over_folds}]" if over_folds else "")

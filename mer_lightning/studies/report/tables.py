"""The numbers of a report, as tables that are then written for people, for LaTeX and for other programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mer_lightning.evaluation.metrics import describe
from mer_lightning.evaluation.significance import compare, holm
from mer_lightning.numerals import number, spread
from mer_lightning.studies.report.settings import Setting

if TYPE_CHECKING:
    import pandas as pd


def scores(setting: Setting, metric: str) -> pd.DataFrame:
    """One row per contender and condition: mean, deviation (n - 1) and number of seeds, floor and best possible."""
    rows = setting.rows[setting.rows["metric"] == metric]
    grouped = rows.groupby(["label", "condition"], sort=False)
    found = grouped.agg(
        mean=("value", "mean"),
        std=("value", "std"),
        seeds=("value", "count"),
        floor=("floor", "first"),
        bayes=("bayes", "first"),
        variant=("variant", "first"),
    )
    return found.reset_index().assign(metric=metric)


def metrics_shown(setting: Setting) -> dict[str, str]:
    """{metric: title with its direction}, the one that selects checkpoints first."""
    described = describe(setting.task)
    first = setting.task.score[0]
    names = [first, *[name for name, info in described.items() if info.headline and name != first]]
    arrows = {"min": "↓", "max": "↑"}
    return {name: f"{described[name].title} {arrows[described[name].direction]}" for name in names}


def differences(setting: Setting, baseline: str) -> pd.DataFrame:
    """Of every contender from the baseline, in the score that selects checkpoints; higher is better."""
    import pandas as pd

    reference = setting.contenders[baseline]
    rows: list[dict[str, Any]] = []
    for title, conditions in reference.condition_groups().items():
        others = {label: other for label, other in setting.contenders.items() if label != baseline}
        found = {
            label: compare(setting.task, other.logits(conditions), reference.logits(conditions), reference.target)
            for label, other in others.items()
        }
        corrected = [holm([getattr(each, p) for each in found.values()]) for p in ("bootstrap_p", "wilcoxon_p")]
        for (label, each), p, q in zip(found.items(), *corrected, strict=True):
            rows.append(
                {
                    "label": label,
                    "baseline": baseline,
                    "condition": title,
                    "difference": each.value,
                    "low": each.low,
                    "high": each.high,
                    "bootstrap_p": each.bootstrap_p,
                    "bootstrap_p_holm": p,
                    "wilcoxon_p": each.wilcoxon_p,
                    "wilcoxon_p_holm": q,
                }
            )
    return pd.DataFrame(rows)


def costs(setting: Setting) -> pd.DataFrame:
    """What the scores cost: mean over seeds."""
    runs = setting.rows.drop_duplicates("run").groupby("label", sort=False)
    return runs.agg(
        seconds=("seconds", "mean"),
        epochs=("epochs", "mean"),
        peak_megabytes=("peak_megabytes", "max"),
        selection=("selection", "first"),
        training_masks=("training_masks", "first"),
        backbone=("backbone", "first"),
    ).reset_index()


def grid(setting: Setting, metric: str) -> tuple[list[str], list[str], dict[tuple[str, str], str]]:
    """(labels, conditions, {(label, condition): text}) with floors and the best possible as last rows."""
    table = scores(setting, metric)
    conditions = [name for name in setting.conditions if name in set(table["condition"])]
    cells = {(row["label"], row["condition"]): spread(row["mean"], row["std"]) for _, row in table.iterrows()}
    labels = list(setting.contenders)
    first = table.groupby("condition", sort=False).first()
    for name, column in (("constant predictor", "floor"), ("best possible", "bayes")):
        if first[column].notna().any():
            labels.append(name)
            cells |= {(name, c): number(float(first[column][c])) for c in conditions}
    return labels, conditions, cells

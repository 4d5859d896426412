"""The results of one evaluation: tidy rows with their origin, and a table for people."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from mer_lightning.data.corpus import CorpusCard
from mer_lightning.evaluation.floors import best_floor, floors
from mer_lightning.evaluation.metrics import METRICS_VERSION, describe, evaluate
from mer_lightning.evaluation.predictions import Predictions
from mer_lightning.evaluation.protocols import Protocol, averages
from mer_lightning.numerals import spread
from mer_lightning.tasks import Task

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Group


@dataclass(frozen=True)
class Provenance:
    """Columns that say where a row comes from. Rows that differ in one (but the seed) are never averaged together."""

    method: str
    backbone: str
    trained_on: str
    corpus: str
    labels: str  # "its own", or how the classes of the model were mapped
    corpus_sha256: str
    feature_set: str
    partition: str
    split: str
    selection: str
    training_masks: str
    protocol: str
    mask_hash: str
    seed: int
    samples: int
    metrics_version: int = METRICS_VERSION


def tidy(
    predictions: Predictions,
    task: Task,
    protocol: Protocol,
    card: CorpusCard,
    train_target: Tensor,
    provenance: Provenance,
) -> pd.DataFrame:
    """One row per condition (averages over conditions included) and metric."""
    import pandas as pd

    assert predictions.target is not None
    names = [condition.name for condition in protocol.conditions]
    scores = {name: evaluate(task, predictions.under(k), predictions.target) for k, name in enumerate(names)}
    floor = best_floor(task, floors(task, train_target, predictions.target))
    # Known for the test rows of a synthetic corpus's first partition only.
    best_possible = card.bayes if provenance.partition == next(iter(card.partitions)) else {}
    rows: list[dict[str, Any]] = []
    for metric, info in describe(task).items():
        values = {name: scores[name][metric] for name in names if metric in scores[name]}
        values |= averages(values, protocol)
        rows += [
            {
                "condition": condition,
                "metric": metric,
                "variant": info.variant,
                "value": value,
                "floor": floor.get(metric),
                "bayes": best_possible.get(condition, {}).get(metric),
                **vars(provenance),
            }
            for condition, value in values.items()
        ]
    return pd.DataFrame(rows)


def table(rows: pd.DataFrame, task: Task, title: str) -> Group:
    """Conditions by headline metrics; constant-predictor floors, and the best possible score where it is known.

    If ``rows`` are of several seeds, cells show mean and deviation over them (n - 1 in the denominator).
    """
    from rich import box
    from rich.console import Group
    from rich.table import Table

    headline = {metric: info for metric, info in describe(task).items() if info.headline}
    shown = Table(box=box.SIMPLE, padding=0, pad_edge=False)
    shown.add_column("condition", no_wrap=True)
    for info in headline.values():
        shown.add_column(info.title, justify="right")
    cells = rows.groupby(["condition", "metric"], sort=False).agg(
        mean=("value", "mean"), std=("value", "std"), count=("value", "count"), bayes=("bayes", "mean")
    )
    several = bool((cells["count"] > 1).any())

    def cell(value: float | None, deviation: float = math.nan) -> str:
        """Four digits for a single run; three with a deviation, so that a table fits 80 columns."""
        if several or value is None or math.isnan(value):
            return spread(value, deviation)
        return f"{value:.4f}"

    best = cells.xs(task.score[0], level="metric")["bayes"]
    if best.notna().any():
        shown.add_column(f"Best\n{headline[task.score[0]].title}", justify="right", style="dim")
    for condition in dict.fromkeys(rows["condition"]):
        values = cells.loc[condition]
        row = [cell(*values.loc[m, ["mean", "std"]]) if m in values.index else "" for m in headline]
        row.append(cell(best.get(condition)))
        shown.add_row(*[condition, *row][: len(shown.columns)], style="bold" if "mean" in condition else None)
    shown.add_section()
    floor = rows.groupby("metric")["floor"].mean()
    shown.add_row("constant", *[cell(floor.get(m)) for m in headline], style="dim")
    return Group(f"[bold]{title}[/]", shown)

"""The results of one evaluation: tidy rows with their origin, and a table for people."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mer_lightning.data.corpus import CorpusCard
from mer_lightning.evaluation.metrics import METRICS_VERSION, describe, evaluate, headline_metrics
from mer_lightning.evaluation.predictions import Predictions
from mer_lightning.evaluation.protocols import Protocol, averages
from mer_lightning.evaluation.references import References
from mer_lightning.modalities import MODALITIES, complete_among, means_over
from mer_lightning.numerals import spread
from mer_lightning.tasks import Task

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Group


UNTRAINED_MARK = "*"  # behind a condition that shows what the model was never trained on
NATURAL = "natural-subset"  # of the samples that have by nature what a condition shows

# Of a value. Predictions differ by about 1e-7 between sizes of the evaluation batches, and so between machines.
DECIMALS = 5


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


@dataclass(frozen=True)
class Presence:
    """What conditions show, and what the samples have by nature (rule 13 of honest numbers).

    Shapes: K conditions, N samples that were predicted, M = 3 modalities.
    """

    shown: Tensor  # (K, N, M) bool
    available: Tensor  # (N, M) bool
    untrained: tuple[str, ...] = ()  # modalities that no training sample had

    def met(self, condition: int) -> Tensor:
        """(N,) bool: the samples that have everything which the condition shows."""
        return ~(self.shown[condition] & ~self.available).any(1)

    def untrained_in(self, condition: int) -> tuple[str, ...]:
        """The modalities that a condition shows although the model was never trained on them."""
        shown = self.shown[condition].any(0).tolist()
        return tuple(m for m, is_shown in zip(MODALITIES, shown, strict=True) if is_shown and m in self.untrained)


def tidy(
    predictions: Predictions,
    task: Task,
    protocol: Protocol,
    card: CorpusCard,
    references: References,
    provenance: Provenance,
    presence: Presence | None = None,
) -> pd.DataFrame:
    """One row per condition (averages over conditions included) and metric.

    A condition that some samples cannot meet, because they lack a modality by nature, is measured on all of them, and
    on those that can meet it: the rows of variant ``natural-subset``, whose condition says so, too. ``met`` counts
    them. Without ``presence``, all samples have everything.
    """
    import pandas as pd

    assert predictions.target is not None
    described = describe(task)
    floor = references.floor(task, predictions.target)
    # Known for the test rows of a synthetic corpus's first partition only.
    best_possible = card.bayes if provenance.partition == next(iter(card.partitions)) else {}
    scores: dict[str, dict[str, float]] = {}
    linear: dict[str, dict[str, float]] = {}  # of the linear model, under conditions that have one
    facts: dict[str, dict[str, Any]] = {}  # {condition: columns that differ between conditions}
    of_subset: list[dict[str, Any]] = []
    for k, name in enumerate(condition.name for condition in protocol.conditions):
        logits = predictions.under(k)
        scores[name] = evaluate(task, logits, predictions.target)
        if of_linear := references.linear_scores(task, k, predictions.target):
            linear[name] = of_linear
        met = torch.ones(len(logits), dtype=torch.bool) if presence is None else presence.met(k)
        untrained = "" if presence is None else ", ".join(presence.untrained_in(k))
        facts[name] = {"met": int(met.sum()), "untrained": untrained}
        if 0 < facts[name]["met"] < len(met):
            there = predictions.target[met]
            beside = references.of(met)
            its_floor, its_linear = beside.floor(task, there), beside.linear_scores(task, k, there)
            of_subset += [
                {
                    "condition": f"{name} {NATURAL}",
                    "metric": metric,
                    "variant": NATURAL,
                    "value": round(value, DECIMALS),
                    "floor": its_floor.get(metric),
                    "linear": round(its_linear.get(metric, math.nan), DECIMALS),
                    **facts[name],
                    **vars(provenance),
                }
                for metric, value in evaluate(task, logits[met], there).items()
            ]
    somewhere = [m for m in MODALITIES if any(m in each["untrained"] for each in facts.values())]
    rows: list[dict[str, Any]] = []
    for metric, info in described.items():
        values = {name: scores[name][metric] for name in scores}
        values |= averages(values, protocol)
        of_linear = {name: each[metric] for name, each in linear.items()}
        of_linear |= averages(of_linear, protocol)
        rows += [
            {
                "condition": condition,
                "metric": metric,
                "variant": info.variant,
                "value": round(value, DECIMALS),
                "floor": floor.get(metric),
                "linear": round(of_linear.get(condition, math.nan), DECIMALS),
                "bayes": best_possible.get(condition, {}).get(metric),
                **facts.get(condition, {"untrained": ", ".join(somewhere)}),
                **vars(provenance),
            }
            for condition, value in values.items()
        ]
    return pd.DataFrame([*rows, *of_subset])


def headline_scores(predictions: Predictions, task: Task, protocol: Protocol) -> dict[str, float]:
    """{CONDITION/METRIC: value} of the metrics that matter most, averages over conditions included."""
    assert predictions.target is not None
    scores = {
        condition.name: evaluate(task, predictions.under(k), predictions.target)
        for k, condition in enumerate(protocol.conditions)
    }
    found: dict[str, float] = {}
    for metric in headline_metrics(task):
        values = {name: each[metric] for name, each in scores.items()}
        found |= {f"{name}/{metric}": value for name, value in (values | averages(values, protocol)).items()}
    return found


def title_of(rows: pd.DataFrame) -> str:
    """What the rows of one run are of."""
    first = rows.iloc[0]
    splits = "splits" if "pooled" in str(first["partition"]) else "split"
    where = f"{first['corpus']}, {first['split']} {splits} of {first['partition']}"
    return f"{where}: {first['method']}, seed {first['seed']}"


def table(rows: pd.DataFrame, task: Task, title: str) -> Group:
    """Conditions by headline metrics; below them the best constant, and the linear model under the complete input;
    the best possible score where it is known.

    If ``rows`` are of several seeds, cells show mean and deviation over them (n - 1 in the denominator).
    """
    from rich import box
    from rich.console import Group
    from rich.table import Table

    headline = headline_metrics(task)
    shown = Table(box=box.SIMPLE, padding=0, pad_edge=False)
    shown.add_column("condition", no_wrap=True)
    for info in headline.values():
        shown.add_column(info.title, justify="right")
    cells = rows.groupby(["condition", "metric"], sort=False).agg(
        mean=("value", "mean"), std=("value", "std"), count=("value", "count"), bayes=("bayes", "mean")
    )
    several = bool((cells["count"] > 1).any())

    def cell(value: float | None, deviation: float = math.nan) -> str:
        """Four digits for a single run; at most three with a deviation, so that a table fits 80 columns."""
        if several or value is None or math.isnan(value):
            return spread(value, deviation)
        return f"{value:.4f}"

    best = cells.xs(task.score[0], level="metric")["bayes"]
    if best.notna().any():
        shown.add_column(f"Best\n{headline[task.score[0]].title}", justify="right", style="dim")
    untrained = {c for c, which in zip(rows["condition"], _untrained(rows), strict=True) if which}
    for condition in dict.fromkeys(rows["condition"]):
        values = cells.loc[condition]
        row = [cell(*values.loc[m, ["mean", "std"]]) if m in values.index else "" for m in headline]
        row.append(cell(best.get(condition)))
        label = f"{condition}{UNTRAINED_MARK if condition in untrained else ''}"
        shown.add_row(*[label, *row][: len(shown.columns)], style="bold" if "mean" in condition else None)
    shown.add_section()
    floor = rows.groupby("metric")["floor"].mean()
    shown.add_row("constant", *[cell(floor.get(m)) for m in headline], style="dim")
    lines = [*remarks(rows), *_over_folds(rows, task)]
    if complete := _with_linear(rows):
        linear = rows[rows["condition"] == complete].groupby("metric")["linear"].mean()
        shown.add_row("linear", *[cell(linear.get(m)) for m in headline], style="dim")
        lines.append(f"linear: a linear model of mean features, under {complete}")
    return Group(f"[bold]{title}[/]", shown, *(f"[dim]{line}[/]" for line in lines))


def _over_folds(rows: pd.DataFrame, task: Task) -> list[str]:
    """The scores of single folds, where ``rows`` are of their pooled predictions."""
    metric = task.score[0]
    if "fold_mean" not in rows or not rows["fold_mean"].notna().any():
        return []
    found = rows[rows["metric"] == metric].groupby("condition", sort=False)[["fold_mean", "fold_std"]].mean()
    listed = [f"{condition} {spread(*found.loc[condition])}" for condition in _summaries(found.index)]
    return [f"mean ± deviation over folds, {describe(task)[metric].title}: {', '.join(listed)}"]


def _with_linear(rows: pd.DataFrame) -> str | None:
    """The complete input, if there is a linear model for it."""
    return complete_among(rows.loc[rows["linear"].notna(), "condition"]) if "linear" in rows else None


def _summaries(conditions: Iterable[str]) -> list[str]:
    """The complete input and the means over combinations, among some conditions."""
    known = list(dict.fromkeys(conditions))
    return [each for each in known if each in (complete_among(known), *means_over(known))]


def remarks(rows: pd.DataFrame) -> list[str]:
    """What a reader of a table must know of some of its conditions. Results of older versions do not say it."""
    lines = []
    if which := sorted({each for each in _untrained(rows) if each}):
        lines.append(f"{UNTRAINED_MARK} shows {' or '.join(which)}, of which the model saw nothing in training")
    partial = rows[rows["condition"].str.endswith(NATURAL)].drop_duplicates("condition")
    if len(partial):
        met = zip(partial["condition"].str.removesuffix(f" {NATURAL}"), partial["met"], strict=True)
        counts = ", ".join(f"{condition} {count:.0f}" for condition, count in met)
        lines.append(f"{NATURAL}: of {partial['samples'].iloc[0]} samples, those that have what is shown: {counts}")
    return lines


def _untrained(rows: pd.DataFrame) -> list[str]:
    """Of each row. What is empty comes back from a file as no text; results of older versions do not have it."""
    return [which if isinstance(which, str) else "" for which in rows.get("untrained", [""] * len(rows))]

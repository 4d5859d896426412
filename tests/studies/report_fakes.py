"""Runs and settings of a report whose numbers a test writes down, without a fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from mer_lightning.studies.comparing import Contender
from mer_lightning.studies.finished import Facts, Run, gradient_shares_of, validation_curve
from mer_lightning.studies.report.settings import Setting
from mer_lightning.tasks import Task


@dataclass(frozen=True)
class FakeRun(Run):
    predicts: Task
    table: pd.DataFrame
    log: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def task(self) -> Task:  # type: ignore[override]
        return self.predicts

    def predictions(self) -> pd.DataFrame:
        return self.table

    def metrics_over_time(self) -> pd.DataFrame:
        return self.log


def predictions(
    targets: Sequence[Any], logits: Mapping[str, Sequence[Sequence[float]]], **extras: Sequence[float]
) -> pd.DataFrame:
    """``logits``: {condition: one row per sample}; ``extras``: one value per row of the table."""
    parts = [
        pd.DataFrame({"condition": condition, "target": targets}).join(pd.DataFrame(rows).add_prefix("logit "))
        for condition, rows in logits.items()
    ]
    return pd.concat(parts, ignore_index=True).assign(**extras)


def contender(
    task: Task,
    tables: Sequence[pd.DataFrame],
    logs: Sequence[pd.DataFrame] = (),
    class_path: str = "mer_lightning.methods.supervised.Supervised",
    options: Mapping[str, Any] | None = None,
) -> Contender:
    """``options``: of the model, beside its class."""
    config = {"model": {"class_path": class_path, "init_args": dict(options or {})}}
    runs = []
    for number, (table, log) in enumerate(zip(tables, logs or [pd.DataFrame()] * len(tables), strict=True)):
        facts = Facts(config, {}, {}, validation_curve(log), gradient_shares_of(log))
        runs.append(FakeRun(Path("runs") / class_path / str(options) / str(number), facts, task, table, log))
    return Contender(tuple(runs))


def setting(
    contenders: dict[str, Contender],
    values: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]],
    corpus: str = "corpus (synthetic)",
) -> Setting:
    """``values``: {metric: {label: {condition: one value per seed}}}."""
    rows = [
        {"metric": metric, "label": label, "condition": condition, "seed": seed, "value": value}
        for metric, of_label in values.items()
        for label, of_condition in of_label.items()
        for condition, seeds in of_condition.items()
        for seed, value in enumerate(seeds)
    ]
    facts = dict.fromkeys(("split", "partition", "labels", "feature_set", "protocol", "mask_hash"), "same")
    facts |= dict.fromkeys(("selection", "training_masks", "backbone", "metrics_version"), "same")
    numbers = dict.fromkeys(("samples", "seconds", "epochs", "budget", "peak_megabytes"), 1.0)
    beside = dict.fromkeys(("floor", "linear", "fold_mean", "fold_std", "bayes"))
    table = pd.DataFrame(rows).assign(corpus=corpus, trained_on=corpus, **facts, **numbers, **beside)
    return Setting(table.assign(variant=table["label"], run=table["label"] + table["seed"].astype(str)), contenders)

"""One run that has results: what its folder says of it, and its predictions where they are needed."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mer_lightning.data.corpus import card_in
from mer_lightning.data.tables import read_table
from mer_lightning.errors import Refusal, reading
from mer_lightning.evaluation.predictions import columns_of
from mer_lightning.methods.materiality import COSINE, SHARE
from mer_lightning.plain_values import expect
from mer_lightning.studies.variants import Options, flat, variant_of
from mer_lightning.tasks import Task, task_from_card
from mer_lightning.training.run_folder import (
    BEST,
    CONFIG,
    CORPUS,
    PHASES,
    PREDICTIONS,
    RESULTS,
    SAMPLES,
    metrics_over_time,
)
from mer_lightning.yaml_text import read_yaml

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from torch import Tensor

# Of the columns of results, all others are text: a hash may consist of digits.
_LATER = ("linear", "fold_mean", "fold_std")  # results of older versions, or of one partition, lack them
_NUMBERS = ("value", "floor", "bayes", "met", "folds", *_LATER)
_WHOLE = ("seed", "samples", "metrics_version")
_NEEDED = (
    *("condition", "metric", "value", "floor", "bayes", "method", "backbone", "trained_on", "corpus", "labels"),
    *("corpus_sha256", "feature_set", "partition", "split", "selection", "training_masks", "protocol", "mask_hash"),
    *_WHOLE,
)
_PREDICTIONS, _PHASES = "the predictions of a run", "the phases of a run"
_REMEDY = "copy the run again, or name another folder"


@dataclass(frozen=True)
class Facts:
    """What tables and figures of many runs need to know of each one, without its predictions."""

    config: dict[str, Any]
    task: dict[str, Any]  # the card of the task
    cost: dict[str, float]
    curve: list[float]  # validation score after each epoch of the last phase
    gradient_shares: dict[str, tuple[float, float]]  # {loss: (share, cosine)}, means over what was measured


@dataclass(frozen=True)
class Run:
    """One run that has results. Of a kept ledger, the facts stay JSON until they are asked for."""

    folder: Path
    given_facts: Facts | str

    @cached_property
    def facts(self) -> Facts:
        given = self.given_facts
        return given if isinstance(given, Facts) else Facts(**json.loads(given))

    @property
    def config(self) -> dict[str, Any]:
        return self.facts.config

    @cached_property
    def options(self) -> Options:
        return flat(self.config)

    @cached_property
    def variant(self) -> str:
        return variant_of(self.options)

    @cached_property
    def task(self) -> Task:
        return task_from_card(self.facts.task)

    @property
    def checkpoint(self) -> Path:
        return self.folder / BEST

    def results(self) -> pd.DataFrame:
        return read_results(self.folder).to_pandas()

    def predictions(self) -> pd.DataFrame:
        """The same samples with the same targets under every condition, one after the other."""
        path = self.folder / PREDICTIONS
        logits = [f"logit {number}" for number in range(self.task.outputs)]
        classes = getattr(self.task, "classes", None)
        targets = columns_of(self.task, "target")
        texts = ["id", "condition", *(targets if classes else [])]
        table = read_table(path, _PREDICTIONS, texts, logits, gaps=[] if classes else targets)
        samples = ["id", *targets]
        first = table[table["condition"] == table["condition"].iloc[0]] if len(table) else table
        for name, rows in table.groupby("condition", sort=False):
            if not rows[samples].reset_index(drop=True).equals(first[samples].reset_index(drop=True)):
                raise Refusal(path, _PREDICTIONS, f"other samples under {name}", _REMEDY)
        known = {*(classes or ()), "none"} if self.task.kind == "multi_label" else {*(classes or ())}
        labels = {name for text in (first["target"].unique() if classes else ()) for name in text.split("+")}
        if not len(table) or labels - known:
            found = f"the label '{min(labels - known)}'" if labels else "no rows"
            raise Refusal(path, _PREDICTIONS, found, _REMEDY)
        return table

    def samples(self) -> pd.DataFrame:
        """What is known of the samples that were predicted: ids, sentences, columns that form groups."""
        import pandas as pd

        path = self.folder / SAMPLES
        if not path.is_file():
            return pd.DataFrame({"id": []})  # older runs have none
        return read_table(path, "what a run knows of its samples", ["id"])

    def metrics_over_time(self) -> pd.DataFrame:
        return metrics_over_time(self.folder)


def run_in(folder: Path) -> Run:
    with reading(folder / "logs", "metrics over time", _REMEDY):
        log = metrics_over_time(folder)
        curve, gradient_shares = validation_curve(log), gradient_shares_of(log)
    facts = Facts(_config(folder / CONFIG), card_in(folder / CORPUS).task, _cost(folder), curve, gradient_shares)
    return Run(folder, facts)


def _config(path: Path) -> dict[str, Any]:
    config = read_yaml(path, "the configuration of a run", _REMEDY)
    parts = {"seed_everything": int | bool | None, "model": dict[str, Any], "data": dict[str, Any]}
    for name, kind in parts.items():
        value = config.get(name) if isinstance(config, dict) else config
        expect(path, value, kind, f"the configuration of a run, with '{name}'", _REMEDY)
    class_path = config["model"].get("class_path")
    if not isinstance(class_path, str) or "." not in class_path:
        raise Refusal(path, "a method as model.class_path", repr(class_path), _REMEDY)
    expect(path, config["data"].get("masks"), dict[str, Any] | None, "options of data.masks", _REMEDY)
    return dict(config)


def read_results(folder: Path) -> pa.Table:
    """The rows of one run. Arrow reads the many small files of a study in a tenth of pandas' time."""
    path = folder / RESULTS
    with reading(path, "the results of a run", _REMEDY):
        table = _rows(path)
        _check_rows(path, table)
    return table


def _check_rows(path: Path, table: pa.Table) -> None:
    names = table.column_names
    if missing := sorted(set(_NEEDED) - set(names)):
        raise Refusal(path, f"the results of a run, with '{missing[0]}'", ", ".join(names), _REMEDY)
    empty = [name for name in _NEEDED if table.column(name).null_count and name not in _NUMBERS]
    if empty or not len(table):
        raise Refusal(path, "the results of a run", f"no {empty[0]} in some rows" if empty else "no rows", _REMEDY)
    scores = list(zip(*(table.column(name).to_pylist() for name in ("condition", "metric")), strict=True))
    if len(set(scores)) < len(scores) or len(set(names)) < len(names):
        raise Refusal(path, "each condition and metric once", "one of them twice", _REMEDY)


def _rows(path: Path) -> pa.Table:
    import pyarrow as pa
    from pyarrow import csv

    with path.open(encoding="utf-8") as file:
        names = file.readline().rstrip("\n").split(",")
    types = {
        name: pa.float64() if name in _NUMBERS else pa.int64() if name in _WHOLE else pa.string() for name in names
    }
    options = csv.ConvertOptions(column_types=types, null_values=["", "nan"], strings_can_be_null=True)
    table = csv.read_csv(path, csv.ReadOptions(use_threads=False), convert_options=options)
    for name in _LATER:
        if name not in names:
            table = table.append_column(name, pa.nulls(len(table), pa.float64()))
    return table


def _cost(folder: Path) -> dict[str, float]:
    """Seconds of training, epochs that it took and could have taken in all phases, and the most memory in use."""
    phases = read_phases(folder)
    with reading(folder / PHASES, _PHASES, _REMEDY):
        return _summed(phases.values())


def read_phases(folder: Path) -> dict[str, dict[str, Any]]:
    """{phase: what is known of it}; nothing of a system that is not ours."""
    path = folder / PHASES
    with reading(path, _PHASES, _REMEDY):
        phases = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return expect(path, phases, dict[str, dict[str, float | str | bool | None]], _PHASES, _REMEDY)


def _summed(phases: Collection[Mapping[str, Any]]) -> dict[str, float]:
    return {
        "seconds": sum(phase["seconds"] for phase in phases),
        "epochs": sum(phase["epochs"] for phase in phases),
        "budget": sum(phase.get("max_epochs") or 0 for phase in phases),
        "peak_megabytes": max((phase.get("peak_megabytes", 0.0) for phase in phases), default=0.0),
    }


def validation_curve(log: pd.DataFrame) -> list[float]:
    return log.groupby("epoch")["valid/score"].last().dropna().tolist() if "valid/score" in log else []


def gradient_shares_of(log: pd.DataFrame) -> dict[str, tuple[float, float]]:
    shares = {}
    for name in map(str, log.columns):
        phase, measured, loss = name.partition(SHARE)
        if measured:
            shares[f"{phase}{loss}"] = (float(log[name].mean()), float(log[f"{phase}{COSINE}{loss}"].mean()))
    return shares


def logits_of(table: pd.DataFrame, conditions: list[str]) -> Tensor:
    """(K, N, O) of some conditions of a run's predictions, in the order of the split."""
    import torch

    columns = [name for name in table.columns if name.startswith("logit ")]
    return torch.stack([torch.tensor(table[table["condition"] == name][columns].to_numpy()) for name in conditions])


def targets_of(table: pd.DataFrame, task: Task) -> Tensor:
    """The targets of a run's predictions as a tensor; the file has classes by their names."""
    import torch

    rows = table[table["condition"] == table["condition"].iloc[0]]  # the same under every condition
    classes = getattr(task, "classes", None)
    if classes is None:
        columns = columns_of(task, "target")
        return torch.tensor(rows[columns if len(columns) > 1 else columns[0]].to_numpy())
    targets = rows["target"]
    if task.kind == "single_label":
        return torch.tensor([classes.index(name) for name in targets])
    return torch.tensor([[float(c in names.split("+")) for c in classes] for names in targets])

"""One run that has results: what its folder says of it, and its predictions where they are needed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mer_lightning.methods.materiality import COSINE, SHARE
from mer_lightning.studies.variants import Options, flat, variant_of
from mer_lightning.tasks import Ratings, Task, task_from_card
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
from mer_lightning.yaml_text import from_yaml

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from torch import Tensor

# Of the columns of results, all others are text: a hash may consist of digits.
_NUMBERS = ("value", "floor", "bayes", "met")
_WHOLE = ("seed", "samples", "metrics_version")


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
    """One run that has results."""

    folder: Path
    facts: Facts

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
        import pandas as pd

        return pd.read_parquet(self.folder / PREDICTIONS)

    def samples(self) -> pd.DataFrame:
        """What is known of the samples that were predicted: id, and columns that form groups of them."""
        import pandas as pd

        path = self.folder / SAMPLES
        return pd.read_parquet(path) if path.is_file() else pd.DataFrame({"id": []})  # older runs have none

    def metrics_over_time(self) -> pd.DataFrame:
        return metrics_over_time(self.folder)


def run_in(folder: Path) -> Run:
    log = metrics_over_time(folder)
    facts = Facts(
        config=from_yaml((folder / CONFIG).read_text(encoding="utf-8")),
        task=from_yaml((folder / CORPUS).read_text(encoding="utf-8"))["task"],
        cost=_cost(folder),
        curve=validation_curve(log),
        gradient_shares=gradient_shares_of(log),
    )
    return Run(folder, facts)


def read_results(folder: Path) -> pa.Table:
    """The rows of one run. Arrow reads the many small files of a study in a tenth of pandas' time."""
    import pyarrow as pa
    from pyarrow import csv

    names = (folder / RESULTS).open(encoding="utf-8").readline().rstrip("\n").split(",")
    types = {
        name: pa.float64() if name in _NUMBERS else pa.int64() if name in _WHOLE else pa.string() for name in names
    }
    options = csv.ConvertOptions(column_types=types, null_values=["", "nan"], strings_can_be_null=True)
    return csv.read_csv(folder / RESULTS, csv.ReadOptions(use_threads=False), convert_options=options)


def _cost(folder: Path) -> dict[str, float]:
    """Seconds of training, epochs that it took and could have taken in all phases, and the most memory in use."""
    path = folder / PHASES
    phases = json.loads(path.read_text(encoding="utf-8")).values() if path.is_file() else []
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
    if isinstance(task, Ratings) and len(task.targets) > 1:
        return torch.tensor(rows[[f"target {name}" for name in task.targets]].to_numpy())
    targets, classes = rows["target"], getattr(task, "classes", None)
    if classes is None:
        return torch.tensor(targets.to_numpy())
    if task.kind == "single_label":
        return torch.tensor([classes.index(name) for name in targets])
    return torch.tensor([[float(c in names.split("+")) for c in classes] for names in targets])

"""The table that `mer-lightning predict` writes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from mer_lightning import output
from mer_lightning.data.corpus import Split
from mer_lightning.data.datamodule import MERData
from mer_lightning.errors import Refusal
from mer_lightning.evaluation.predictions import Predictions, prediction_table
from mer_lightning.methods.base import MERMethod
from mer_lightning.modalities import COMPLETE, MODALITIES, combination_name
from mer_lightning.tasks import Task
from mer_lightning.whole_files import whole

if TYPE_CHECKING:
    import pandas as pd


def prediction_rows(method: MERMethod, predictions: Predictions, task: Task, split: Split) -> pd.DataFrame:
    """One row per sample: id, which modalities the prediction rests on, prediction, probabilities."""
    rows = prediction_table(predictions, task, [COMPLETE], split.ids).drop(columns="condition")
    known = [m in method.dims for m in MODALITIES]
    # A name for each of the eight combinations, and not for each sample.
    kinds, kind = (split.present[predictions.index] & torch.tensor(known)).unique(dim=0, return_inverse=True)
    names = np.array([combination_name(row) or "none" for row in kinds.tolist()], dtype=object)
    rows.insert(1, "modalities", names[kind.numpy()])
    return rows


def write_predictions(method: MERMethod, data: MERData, asked: str | None, folder: Path) -> Path:
    path = Path(asked) if asked else folder / "predictions.csv"
    if path.suffix not in (".csv", ".parquet"):
        raise Refusal(path, "a name ending in .csv or .parquet", f"'{path.suffix}'", "choose --output accordingly")
    rows = prediction_rows(method, *method.tested(), data.split("predict"))
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as temporary:
        if path.suffix == ".csv":
            rows.to_csv(temporary, index=False)
        else:
            rows.to_parquet(temporary, index=False)
    from rich.console import Console

    output.give(
        {"predictions": path, "rows": rows}, lambda: Console().print(f"{len(rows)} predictions written to {path}")
    )
    return path

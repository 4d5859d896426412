"""The table that `mer-lightning predict` writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from mer_lightning import output
from mer_lightning.data.datamodule import MERData
from mer_lightning.errors import Refusal
from mer_lightning.evaluation.predictions import prediction_table
from mer_lightning.methods.base import MERMethod
from mer_lightning.modalities import COMPLETE, MODALITIES, combination_name
from mer_lightning.tasks import task_from_card
from mer_lightning.whole_files import whole


def write_predictions(method: MERMethod, data: MERData, asked: str | None, folder: Path) -> Path:
    """One row per sample: id, prediction, probabilities, and which modalities the prediction rests on."""
    path = Path(asked) if asked else folder / "predictions.csv"
    if path.suffix not in (".csv", ".parquet"):
        raise Refusal(path, "a name ending in .csv or .parquet", f"'{path.suffix}'", "choose --output accordingly")
    split = data.split("predict")
    predictions, task = method.stored_predictions(), task_from_card(method.task.card())
    rows = prediction_table(predictions, task, [COMPLETE], split.ids).drop(columns="condition")
    known = [m in method.dims for m in MODALITIES]
    # A name for each of the eight combinations, and not for each sample.
    kinds, kind = (split.present[predictions.index] & torch.tensor(known)).unique(dim=0, return_inverse=True)
    names = np.array([combination_name(row) or "none" for row in kinds.tolist()], dtype=object)
    rows.insert(1, "modalities", names[kind.numpy()])
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

"""Figures of one run, for a notebook. Reports compare many runs: `mer-lightning report`."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from mer_lightning.errors import Refusal
from mer_lightning.tasks import SingleLabel, Task

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_SIDE = 4.5  # inches


class Shown(Figure):
    """A figure that a notebook shows; others are shown only once pyplot has drawn something."""

    def _repr_png_(self) -> bytes:
        png = io.BytesIO()
        self.savefig(png, format="png")
        return png.getvalue()


def confusion(axes: Axes, rows: pd.DataFrame, task: Task) -> None:
    """How often each class is taken for each other one, as shares of the true class."""
    from sklearn.metrics import ConfusionMatrixDisplay

    _refuse_unless_classes("confusion", task)
    shares = {"normalize": "true", "cmap": "Blues", "colorbar": False, "ax": axes}
    names = list(task.classes)  # type: ignore[attr-defined]
    ConfusionMatrixDisplay.from_predictions(rows["target"], rows["prediction"], labels=names, **shares)


def calibration(axes: Axes, rows: pd.DataFrame, task: Task) -> None:
    """How often the most probable class is right, by its probability."""
    from sklearn.calibration import CalibrationDisplay

    _refuse_unless_classes("calibration", task)
    surest = rows[[f"probability {name}" for name in task.classes]].max(axis=1)  # type: ignore[attr-defined]
    right = rows["target"] == rows["prediction"]
    CalibrationDisplay.from_predictions(right, surest, n_bins=10, strategy="quantile", ax=axes, name="the model")
    axes.set_xlabel("mean probability of the class that is predicted")
    axes.set_ylabel("share of right predictions")


def scatter(axes: Axes, rows: pd.DataFrame, task: Task) -> None:
    """Predicted numbers over true ones."""
    if "prediction" not in rows or rows["prediction"].dtype.kind != "f":
        raise Refusal("scatter", "a run that predicts one number", task.kind, "choose another figure")
    axes.scatter(rows["target"], rows["prediction"], s=8, alpha=0.5)
    both = rows[["target", "prediction"]]
    low, high = both.min().min(), both.max().max()
    axes.plot([low, high], [low, high], color="grey", linewidth=0.8)
    axes.set_xlabel("truth")
    axes.set_ylabel("prediction")


PLOTS: dict[str, Callable[[Axes, pd.DataFrame, Task], None]] = {
    "confusion": confusion,
    "calibration": calibration,
    "scatter": scatter,
}


def plot(kind: str, predictions: pd.DataFrame, condition: str, task: Task) -> Figure:
    if kind not in PLOTS:
        raise Refusal("plot", f"one of {', '.join(PLOTS)}, curves", f"'{kind}'", "choose one")
    there = list(dict.fromkeys(predictions["condition"]))
    if condition not in there:
        raise Refusal("plot", f"a condition of the test: {', '.join(there)}", f"'{condition}'", "choose one")
    figure = Shown(figsize=(_SIDE, _SIDE), layout="constrained")
    axes = figure.subplots()
    PLOTS[kind](axes, predictions[predictions["condition"] == condition], task)
    axes.set_title(f"{kind}, {condition}")
    return figure


def plot_curves(log: pd.DataFrame) -> Figure:
    """Loss and validation score of the last phase, epoch by epoch."""
    figure = Shown(figsize=(2 * _SIDE, _SIDE / 1.5), layout="constrained")
    for axes, name in zip(figure.subplots(1, 2), ("train/loss", "valid/score"), strict=True):
        if name in log:
            log.groupby("epoch")[name].last().dropna().plot(ax=axes)
        axes.set_title(name)
        axes.set_xlabel("epoch")
    return figure


def _refuse_unless_classes(kind: str, task: Task) -> None:
    if not isinstance(task, SingleLabel):
        raise Refusal(kind, "a run that chooses one of several classes", task.kind, "choose scatter, or curves")

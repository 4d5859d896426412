"""What a linear model of mean features reaches: the simplest thing that can work, and a floor for what is deep.

Shapes: N samples, D width of the features, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mer_lightning.data.raw import SPLITS
from mer_lightning.data.synthetic.bayes import f1
from mer_lightning.data.synthetic.labels import Floats
from mer_lightning.tasks import Task

Labels = NDArray[np.float64] | NDArray[np.int64]

_RIDGE_PENALTIES = tuple(10.0 ** (step / 2) for step in range(11))
_LOGISTIC_PENALTIES = (10.0, 100.0, 1000.0)
_DIGITS = 4  # further ones depend on how many threads the linear algebra has


def pooled(values: NDArray[np.float32], lengths: NDArray[np.int64]) -> Floats:
    """(N, D): the mean of each sample's frames, which lie one sample after the other."""
    starts = np.cumsum(lengths) - lengths
    return np.add.reduceat(values, starts, dtype=np.float64) / lengths[:, None]


def linear_score(task: Task, features: Floats, target: Labels, partition: NDArray[np.int8]) -> dict[str, float]:
    """{metric: score} on test of ridge or logistic regression on (N, D), in the metric that selects checkpoints.

    Features are standardised, and the penalty is chosen on validation, both as for any other model.
    """
    metric, direction = task.score
    rows = {split: partition == number for number, split in enumerate(SPLITS)}
    train = features[rows["train"]]
    deviation = train.std(0)
    scaled = (features - train.mean(0)) / np.where(deviation > 0, deviation, 1.0)
    fit, penalties = (_ridge, _RIDGE_PENALTIES) if metric == "mae" else (_logistic, _LOGISTIC_PENALTIES)
    predictions = [fit(scaled, target, rows["train"], penalty) for penalty in penalties]
    valid = [_MEASURES[metric](each[rows["valid"]], target[rows["valid"]]) for each in predictions]
    best = predictions[int(np.argmin(valid) if direction == "min" else np.argmax(valid))]
    return {metric: round(_MEASURES[metric](best[rows["test"]], target[rows["test"]]), _DIGITS)}


def _ridge(features: Floats, target: Labels, train: NDArray[np.bool_], penalty: float) -> Labels:
    from sklearn.linear_model import Ridge

    return Ridge(alpha=penalty).fit(features[train], target[train]).predict(features)


def _logistic(features: Floats, target: Labels, train: NDArray[np.bool_], penalty: float) -> Labels:
    """(N,) classes, or (N, C) of 0 and 1 from one model for each class."""
    from sklearn.linear_model import LogisticRegression

    if target.ndim == 2:
        columns: list[Labels] = [_logistic(features, column, train, penalty) for column in target.T]
        return np.column_stack(columns).astype(np.int64)
    if len(np.unique(target[train])) == 1:  # in a very small corpus
        return np.full(len(target), target[train][0])
    model: Any = LogisticRegression(C=1 / penalty, max_iter=200)
    return model.fit(features[train], target[train]).predict(features)


def _mae(predicted: Labels, target: Labels) -> float:
    return float(np.abs(predicted - target).mean())


def _weighted_f1(predicted: Labels, target: Labels) -> float:
    classes = np.eye(int(max(predicted.max(), target.max())) + 1)
    true, decided = classes[target.astype(np.int64)], classes[predicted.astype(np.int64)]
    with np.errstate(invalid="ignore"):  # a class that neither has
        return float(true.mean(0) @ np.nan_to_num(f1(true, decided)))


def _micro_f1(predicted: Labels, target: Labels) -> float:
    return float(2 * (predicted * target).sum() / max(predicted.sum() + target.sum(), 1))


_MEASURES: dict[str, Callable[[Labels, Labels], float]] = {"mae": _mae, "wf1": _weighted_f1, "micro_f1": _micro_f1}

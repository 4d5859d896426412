"""A linear model of mean features: the simplest thing that can work, and a floor for what is deep.

Ridge regression for numbers, logistic regression for classes; the penalty is chosen on validation.

Shapes: N samples, D width of the features, O outputs, T targets.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mer_lightning.data.raw import SPLITS
from mer_lightning.data.synthetic.bayes import f1
from mer_lightning.tasks import MultiLabel, SingleLabel, Task

Floats = NDArray[np.float64]
Labels = NDArray[Any]

_RIDGE_PENALTIES = tuple(10.0 ** (step / 2) for step in range(11))
_LOGISTIC_PENALTIES = (10.0, 100.0, 1000.0)
_DIGITS = 4  # further ones depend on how many threads the linear algebra has
_CONSTANT = 1e-9  # a smaller deviation is rounding
_CERTAIN = 30.0  # the logit of a class that all training samples have, and minus that of one that none has


def pooled(values: NDArray[Any], lengths: NDArray[np.int64]) -> Floats:
    """(N, D): the mean of each sample's frames, which lie one sample after the other; NaN for one without frames."""
    means = np.full((len(lengths), values.shape[1]), np.nan)
    filled = lengths > 0
    if filled.any():
        starts = (np.cumsum(lengths) - lengths)[filled]
        means[filled] = np.add.reduceat(values, starts, dtype=np.float64) / lengths[filled, None]
    return means


@dataclass(frozen=True)
class LinearModel:
    """Outputs are logits of classes, or numbers in the units of the labels."""

    mean: Floats  # (D,) of the training samples that have the feature
    deviation: Floats  # (D,)
    weight: Floats  # (D, O)
    bias: Floats  # (O,)

    def __call__(self, features: Floats) -> Floats:
        """(N, O). What a sample lacks is as it is on average."""
        return _standardised(features, self.mean, self.deviation) @ self.weight + self.bias


def fitted(
    task: Task,
    train: tuple[Floats, Labels],
    valid: tuple[Floats, Labels],
    score: Callable[[Floats, Labels], float],
) -> LinearModel:
    """The model of the penalty with the highest ``score(outputs, labels)`` on validation.

    Each split is its features (N, D), NaN where a sample lacks them, and its labels.
    """
    features, target = train
    with np.errstate(invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a column that no training sample has
        mean, deviation = np.nan_to_num(np.nanmean(features, 0)), np.nan_to_num(np.nanstd(features, 0))
    deviation = np.where(deviation > _CONSTANT, deviation, 1.0)
    scaled = _standardised(features, mean, deviation)
    classes = isinstance(task, SingleLabel | MultiLabel)
    lines = _logistic(scaled, target, task) if classes else _ridge(scaled, target)
    models = [LinearModel(mean, deviation, weight, bias) for weight, bias in lines]
    return max(models, key=lambda model: score(model(valid[0]), valid[1]))


def linear_score(task: Task, features: Floats, target: Labels, partition: NDArray[np.int8]) -> dict[str, float]:
    """{metric: score} on test, in the metric that selects checkpoints."""
    metric, direction = task.score
    sign = -1 if direction == "min" else 1

    def score(outputs: Floats, labels: Labels) -> float:
        return sign * _MEASURES[metric](_decided(task, outputs), labels)

    train, valid, test = ((features[rows], target[rows]) for rows in (partition == n for n in range(len(SPLITS))))
    model = fitted(task, train, valid, score)
    return {metric: round(sign * score(model(test[0]), test[1]), _DIGITS)}


def _standardised(features: Floats, mean: Floats, deviation: Floats) -> Floats:
    return np.nan_to_num((features - mean) / deviation)


def _ridge(features: Floats, target: Labels) -> list[tuple[Floats, Floats]]:
    """[(weight (D, T), bias (T,))] for each penalty: w = (X'X + penalty I)^-1 X'y on what is centred.

    One decomposition serves all penalties, of the smaller one of X'X and XX'.
    """
    columns = target.reshape(len(target), -1).astype(np.float64)
    found = [_ridge_of_one(features, column) for column in columns.T]
    return [
        (np.column_stack([weight for weight, _ in each]), np.array([bias for _, bias in each]))
        for each in zip(*found, strict=True)
    ]


def _ridge_of_one(features: Floats, target: Floats) -> list[tuple[Floats, float]]:
    known = np.isfinite(target)  # ratings may lack labels
    if not known.any():
        return [(np.zeros(features.shape[1]), 0.0)] * len(_RIDGE_PENALTIES)
    x, y = features[known], target[known]
    middle, level = x.mean(0), y.mean()
    x, y = x - middle, y - level
    wide = x.shape[1] > x.shape[0]
    values, vectors = np.linalg.eigh(x @ x.T if wide else x.T @ x)
    along = vectors.T @ (y if wide else x.T @ y)
    lines = []
    for penalty in _RIDGE_PENALTIES:
        solved = vectors @ (along / (values.clip(0) + penalty))
        weight = x.T @ solved if wide else solved
        lines.append((weight, float(level - middle @ weight)))
    return lines


def _logistic(features: Floats, target: Labels, task: Task) -> list[tuple[Floats, Floats]]:
    """[(weight (D, C), bias (C,))] for each penalty; one model for all classes, or one for each of several labels."""
    if isinstance(task, SingleLabel):
        return [_logistic_of_one(features, target, penalty, task.outputs) for penalty in _LOGISTIC_PENALTIES]
    lines = []
    for penalty in _LOGISTIC_PENALTIES:
        each = [_logistic_of_one(features, label, penalty, 2) for label in target.T.astype(np.int64)]
        lines.append((np.column_stack([w[:, 1] - w[:, 0] for w, _ in each]), np.array([b[1] - b[0] for _, b in each])))
    return lines


def _logistic_of_one(features: Floats, target: Labels, penalty: float, classes: int) -> tuple[Floats, Floats]:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    weight, bias = np.zeros((features.shape[1], classes)), np.full(classes, -_CERTAIN)
    seen = np.unique(target)
    if len(seen) == 1:  # in a very small corpus
        bias[seen] = _CERTAIN
        return weight, bias
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it is regularised, and validation chooses
        model: Any = LogisticRegression(C=1 / penalty, max_iter=200).fit(features, target)
    if len(seen) == 2:  # then it has one line, between the two
        weight[:, seen[1]], bias[seen] = model.coef_[0], [0.0, model.intercept_[0]]
    else:
        weight[:, seen], bias[seen] = model.coef_.T, model.intercept_
    return weight, bias


def _decided(task: Task, outputs: Floats) -> Labels:
    if isinstance(task, SingleLabel):
        return outputs.argmax(1)
    if isinstance(task, MultiLabel):
        return (outputs > 0).astype(np.int64)
    return outputs[:, 0]


def _mae(predicted: Labels, target: Labels) -> float:
    return float(np.abs(predicted - target).mean())


def _weighted_f1(predicted: Labels, target: Labels) -> float:
    classes = np.eye(int(max(predicted.max(), target.max())) + 1)
    true, decided = classes[target.astype(np.int64)], classes[predicted.astype(np.int64)]
    with np.errstate(invalid="ignore"):  # a class that neither has
        return float(true.mean(0) @ np.nan_to_num(f1(true, decided)))


def _micro_f1(predicted: Labels, target: Labels) -> float:
    return float(2 * (predicted * target).sum() / max(predicted.sum() + target.sum(), 1))


# Those of twins. The metrics of results are in a room above.
_MEASURES: dict[str, Callable[[Labels, Labels], float]] = {"mae": _mae, "wf1": _weighted_f1, "micro_f1": _micro_f1}

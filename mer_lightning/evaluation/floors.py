"""Constant-predictor floors: the scores of models that ignore their input.

A constant is chosen on the training labels alone, then evaluated on a split as a model is. A score at or below its
floor is no evidence of learning: for IEMOCAP's four binary questions the answer "no" is right on 59 to 86 % of the
samples.

Shapes: N samples, C classes, O outputs of the model.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from mer_lightning.evaluation.metrics import describe, evaluate
from mer_lightning.tasks import MultiLabel, Ratings, Regression, SingleLabel, Task

_CERTAIN = 30.0  # a finite logit beyond every threshold


def floors(task: Task, train_target: Tensor, target: Tensor) -> dict[str, dict[str, float]]:
    """{constant: {metric: value}} on ``target``, of constants that are chosen on ``train_target``."""
    return {name: evaluate(task, logits, target) for name, logits in constants(task, train_target, len(target)).items()}


def constants(task: Task, train_target: Tensor, samples: int) -> dict[str, Tensor]:
    """{name: (N, O) logits} of the models that ignore their input."""
    return {name: each.expand(samples, -1) for name, each in _constants(task, train_target.detach().cpu()).items()}


def best_floor(task: Task, floors: dict[str, dict[str, float]]) -> dict[str, float]:
    """{metric: its best value over the constants}; NaN where no constant has a value."""
    best = {}
    for metric, info in describe(task).items():
        known = [values[metric] for values in floors.values() if not math.isnan(values[metric])]
        best[metric] = (min if info.direction == "min" else max)(known, default=math.nan)
    return best


def _constants(task: Task, train: Tensor) -> dict[str, Tensor]:
    """{name: (O,) logits}"""
    match task:
        case Regression():
            return _constant_intensities(train.double(), task.limit)
        case SingleLabel():
            most_frequent = int(torch.bincount(train).argmax())
            return {"always the most frequent class": _certain([most_frequent], len(task.classes))}
        case MultiLabel():
            return _constant_label_sets(train.double(), task.classes)
        case Ratings():
            labels = train.double().view(len(train), -1)
            # Half of a scale without a single training label is as good a guess as another.
            middle = (labels.new_tensor(task.low) + labels.new_tensor(task.high)) / 2
            constants = {"train mean": labels.nanmean(0), "train median": labels.nanquantile(0.5, 0)}
            return {name: values.where(values.isfinite(), middle) for name, values in constants.items()}
    raise TypeError(f"no constant predictors are known for {type(task).__name__}")


def _constant_intensities(train: Tensor, limit: float) -> dict[str, Tensor]:
    """Mean and median for errors, the most frequent of seven grades for Acc-7, and both signs for Acc-2."""
    grade = limit / 3
    chosen = {"train mean": train.mean(), "train median": train.quantile(0.5)}
    chosen["train mode"] = (train / grade).round().mode().values * grade
    for name, side in (("always positive", train[train > 0]), ("always negative", train[train < 0])):
        if len(side):
            chosen[name] = side.quantile(0.5)
    return {name: value.reshape(1) for name, value in chosen.items()}


def _constant_label_sets(train: Tensor, classes: tuple[str, ...]) -> dict[str, Tensor]:
    """No class, each class alone, all of them; and the training rates as probabilities.

    The rates predict the classes that most training samples have (at threshold .5) and rank classes by frequency, which
    gives the best average precision that a constant can reach.
    """
    every = range(len(classes))
    return {
        "none": _certain([], len(classes)),
        "all": _certain(every, len(classes)),
        **{f"only {classes[c]}": _certain([c], len(classes)) for c in every},
        "train rates": train.mean(0).logit(eps=1e-6),
    }


def _certain(chosen: Iterable[int], classes: int) -> Tensor:
    """(C,) logits that predict the chosen classes and no other."""
    logits = torch.full((classes,), -_CERTAIN)
    logits[list(chosen)] = _CERTAIN
    return logits

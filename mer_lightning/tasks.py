"""Tasks: the loss, the decision, the categories and the true-class probability of each kind of label.

Shapes: B batch, C classes, O outputs of the model. ``logits`` is always (B, O), also for one output.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor


def _precise(logits: Tensor) -> Tensor:
    """At least float32: in half precision, sigmoid and exponential are too coarse for thresholds and losses."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


class Task(ABC):
    """One kind of label. Metrics live in :mod:`mer_lightning.evaluation.metrics`, which looks them up by ``kind``."""

    kind: ClassVar[str]

    @property
    @abstractmethod
    def score(self) -> tuple[str, str]:
        """The metric that selects checkpoints on validation, and "min" or "max"."""

    @property
    @abstractmethod
    def outputs(self) -> int:
        """Width O of the model's output."""

    @property
    @abstractmethod
    def categories(self) -> int:
        """How many different values :meth:`category` can take."""

    @abstractmethod
    def losses(self, logits: Tensor, target: Tensor) -> Tensor:
        """(B,) one loss per sample: methods weight samples one by one."""

    @abstractmethod
    def distances(self, logits: Tensor, target_logits: Tensor) -> Tensor:
        """(B,) how far predictions are from others: the same measure as ``losses``, with a prediction as the target."""

    @abstractmethod
    def decide(self, logits: Tensor) -> Tensor:
        """The prediction, in the space of the targets."""

    @abstractmethod
    def probabilities(self, logits: Tensor) -> Tensor | None:
        """(B, C), or None for a task without classes."""

    @abstractmethod
    def true_class_probability(self, logits: Tensor, target: Tensor) -> Tensor:
        """(B,) in [0, 1]: the probability that the model gives to the true label."""

    @abstractmethod
    def certainty(self, logits: Tensor) -> Tensor:
        """(B,) the trivial confidence, which needs no training: the clearer the decision, the higher; 0 and more."""

    @abstractmethod
    def category(self, target: Tensor) -> Tensor:
        """(B,) int64: the emotion category that contrastive losses compare."""

    def fitted_to(self, target: Tensor) -> Self:
        """The task as a model learns it, given the labels of the training split. Most tasks need nothing of them."""
        return self

    def in_label_units(self, logits: Tensor) -> Tensor:
        """Outputs (..., O) of a model that learns this task, as the task of the corpus reads them."""
        return logits

    def right(self, logits: Tensor, target: Tensor) -> Tensor:
        """(B,) 1 where the predicted category is the true one, 0 where it is not, NaN where the target cannot tell.

        Several labels are right when all of them are.
        """
        return (self.category(self.decide(logits)) == self.category(target)).float()

    def card(self) -> dict[str, Any]:
        """Plain values, from which :func:`task_from_card` makes an equal task."""
        values = asdict(self)  # type: ignore[call-overload]
        return {"kind": self.kind, **{k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}}


@dataclass(frozen=True)
class Regression(Task):
    """Sentiment intensity in [-limit, limit]: 3 for MOSI and MOSEI, 1 for SIMS. :class:`Ratings` for other scales."""

    limit: float = 3.0

    kind: ClassVar[str] = "regression"
    score = ("mae", "min")
    outputs: ClassVar[int] = 1
    categories: ClassVar[int] = 3

    def losses(self, logits: Tensor, target: Tensor) -> Tensor:
        return (_precise(logits).squeeze(1) - target).abs()

    def distances(self, logits: Tensor, target_logits: Tensor) -> Tensor:
        return self.losses(logits, self.decide(target_logits))

    def decide(self, logits: Tensor) -> Tensor:
        return _precise(logits).squeeze(1)

    def probabilities(self, logits: Tensor) -> None:
        return None

    def true_class_probability(self, logits: Tensor, target: Tensor) -> Tensor:
        """exp(-|p - y|): the likelihood of y under a Laplace law of unit scale around p, relative to its peak.

        A regression has no classes. The L1 loss is the negative logarithm of this value, which is 1 only at p = y.
        """
        return torch.exp(-self.losses(logits, target))

    def certainty(self, logits: Tensor) -> Tensor:
        """How far the prediction is from the neutral zero, as a share of the scale's limit."""
        return self.decide(logits).abs() / self.limit

    def category(self, target: Tensor) -> Tensor:
        """0 negative, 1 neutral (exactly zero), 2 positive."""
        return torch.sign(target).long() + 1

    def right(self, logits: Tensor, target: Tensor) -> Tensor:
        """Whether the sign is right; a target of exactly 0 has none. A prediction of exactly 0 is wrong."""
        return super().right(logits, target).masked_fill(target == 0, torch.nan)


@dataclass(frozen=True)
class SingleLabel(Task):
    """Exactly one of ``classes``."""

    classes: tuple[str, ...]

    kind: ClassVar[str] = "single_label"
    score = ("wf1", "max")

    @property
    def outputs(self) -> int:
        return len(self.classes)

    @property
    def categories(self) -> int:
        return len(self.classes)

    def losses(self, logits: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(_precise(logits), target, reduction="none")

    def distances(self, logits: Tensor, target_logits: Tensor) -> Tensor:
        """KL(target || prediction): zero where they agree."""
        q, p = _precise(target_logits).log_softmax(1), _precise(logits).log_softmax(1)
        return (q.exp() * (q - p)).sum(1)

    def decide(self, logits: Tensor) -> Tensor:
        return logits.argmax(1)

    def probabilities(self, logits: Tensor) -> Tensor:
        return _precise(logits).softmax(1)

    def true_class_probability(self, logits: Tensor, target: Tensor) -> Tensor:
        return self.probabilities(logits).gather(1, target.unsqueeze(1)).squeeze(1)

    def certainty(self, logits: Tensor) -> Tensor:
        """The probability of the class that is predicted."""
        return self.probabilities(logits).amax(1)

    def category(self, target: Tensor) -> Tensor:
        return target


@dataclass(frozen=True)
class MultiLabel(Task):
    """Any subset of ``classes``; a class is predicted when its probability exceeds ``threshold``."""

    classes: tuple[str, ...]
    threshold: float = 0.5

    kind: ClassVar[str] = "multi_label"
    score = ("micro_f1", "max")

    @property
    def outputs(self) -> int:
        return len(self.classes)

    @property
    def categories(self) -> int:
        return int(2 ** len(self.classes))

    def losses(self, logits: Tensor, target: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(_precise(logits), target, reduction="none").mean(1)

    def distances(self, logits: Tensor, target_logits: Tensor) -> Tensor:
        """Mean over classes of KL(target || prediction): zero where they agree."""
        q, p = _precise(target_logits), _precise(logits)
        of_yes = q.sigmoid() * (F.logsigmoid(q) - F.logsigmoid(p))
        return (of_yes + (-q).sigmoid() * (F.logsigmoid(-q) - F.logsigmoid(-p))).mean(1)

    def decide(self, logits: Tensor) -> Tensor:
        """Logits are compared, because the sigmoid of a logit within 1e-8 of 0 rounds to .5."""
        logits = _precise(logits)
        return (logits > torch.tensor(self.threshold).logit()).to(logits.dtype)

    def probabilities(self, logits: Tensor) -> Tensor:
        return _precise(logits).sigmoid()

    def true_class_probability(self, logits: Tensor, target: Tensor) -> Tensor:
        """Mean probability of the true labels (CDaT's definition); 0 where a sample has none."""
        return (self.probabilities(logits) * target).sum(1) / target.sum(1).clamp(min=1)

    def certainty(self, logits: Tensor) -> Tensor:
        """Mean over classes of the probability that the decision about the class is right."""
        p = self.probabilities(logits)
        return torch.maximum(p, 1 - p).mean(1)

    def category(self, target: Tensor) -> Tensor:
        """The label set as a binary number: two samples have the same category if all their labels are equal."""
        weights = 2 ** torch.arange(len(self.classes), device=target.device)
        return (target.long() * weights).sum(1)


@dataclass(frozen=True)
class Ratings(Task):
    """Numbers on scales of one's own: named targets (valence, arousal, a trait), each with its range.

    A scale may begin and end anywhere, so no label counts as neutral, and there are no Acc-2 and Acc-7. A label may be
    missing (NaN): it takes no part in losses and metrics.

    A model learns standardised labels: (label - mean) / deviation, both of the training split (:meth:`fitted_to`). A
    scale of 1 to 7 then trains as well as one of -1 to 1, and no target outweighs another one by its unit. What a model
    that was not fitted says is in the units of the labels.
    """

    targets: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    loss: Literal["mae", "ccc"] = "mae"
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()

    kind: ClassVar[str] = "ratings"

    def __post_init__(self) -> None:
        if not self.targets or not len(self.targets) == len(self.low) == len(self.high):
            raise ValueError(f"ratings need one low and one high for each target, not {self.low} and {self.high}")
        if any(not low < high for low, high in zip(self.low, self.high, strict=True)):
            raise ValueError(f"each range must have low below high, not {self.low} and {self.high}")

    @property
    def score(self) -> tuple[str, str]:
        """The mean CCC of several targets; the error of one."""
        return ("mae", "min") if len(self.targets) == 1 else ("ccc", "max")

    @property
    def outputs(self) -> int:
        return len(self.targets)

    @property
    def categories(self) -> int:
        return int(2 ** len(self.targets))

    def fitted_to(self, target: Tensor) -> Self:
        columns = self._columns(target.double())
        known = [column[~column.isnan()] for column in columns.unbind(1)]
        mean = tuple(float(column.mean()) if len(column) else 0.0 for column in known)
        deviation = (float(column.std(unbiased=False)) if len(column) else 0.0 for column in known)
        return replace(self, mean=mean, deviation=tuple(each if each > 1e-6 else 1.0 for each in deviation))

    def in_label_units(self, logits: Tensor) -> Tensor:
        logits = _precise(logits)
        return logits * _constant(self.deviation, logits) + _constant(self.mean, logits) if self.mean else logits

    def losses(self, logits: Tensor, target: Tensor) -> Tensor:
        """Mean over the targets that a sample has a label of; 0 for a sample without any.

        mae: |p - y|. ccc: (p - y)^2 / D with D = var p + var y + (mean p - mean y)^2 over the samples given, so that
        the mean over the samples is 1 - CCC.
        """
        p, y = _precise(logits), self._standardised(target).to(_precise(logits).dtype)
        known = ~y.isnan()
        # What is unknown is set equal before the difference: a NaN times 0 would still be NaN in the gradient.
        y = y.where(known, p.detach())
        errors = (p - y).abs() if self.loss == "mae" else self._concordance_losses(p, y, known)
        return errors.where(known, 0.0).sum(1) / known.sum(1).clamp(min=1)

    @staticmethod
    def _concordance_losses(p: Tensor, y: Tensor, known: Tensor) -> Tensor:
        """(B, T)"""
        count = known.sum(0).clamp(min=1)
        mean_p, mean_y = (p.where(known, 0.0).sum(0) / count, y.where(known, 0.0).sum(0) / count)
        around = ((p - mean_p).square() + (y - mean_y).square()).where(known, 0.0).sum(0) / count
        return (p - y).square() / (around + (mean_p - mean_y).square()).clamp(min=1e-8)

    def distances(self, logits: Tensor, target_logits: Tensor) -> Tensor:
        return (_precise(logits) - _precise(target_logits)).abs().mean(1)

    def decide(self, logits: Tensor) -> Tensor:
        """(B, T), or (B,) for one target, as its labels are."""
        values = self.in_label_units(logits)
        return values.squeeze(1) if len(self.targets) == 1 else values

    def probabilities(self, logits: Tensor) -> None:
        return None

    def true_class_probability(self, logits: Tensor, target: Tensor) -> Tensor:
        """exp(-mean |p - y|), as for a sentiment; in deviations of the training labels once the task is fitted."""
        return torch.exp(-replace(self, loss="mae").losses(logits, target))

    def certainty(self, logits: Tensor) -> Tensor:
        """How far the predictions are from the middle of their ranges, as a share of half the range; the mean."""
        values = self.in_label_units(logits)
        low, high = _constant(self.low, values), _constant(self.high, values)
        return (2 * (values - (low + high) / 2).abs() / (high - low)).mean(1)

    def category(self, target: Tensor) -> Tensor:
        """Which labels are in the upper part of their scale, as a binary number; a missing one is not.

        The upper part begins above the mean of the training labels, or above the middle of the range where the task
        is not fitted.
        """
        values = self._columns(target)
        middle = self.mean or tuple((low + high) / 2 for low, high in zip(self.low, self.high, strict=True))
        weights = 2 ** torch.arange(len(self.targets), device=target.device)
        return ((values > _constant(middle, values)).long() * weights).sum(1)

    def card(self) -> dict[str, Any]:
        """Without what a model adds: the task of the corpus stays the same."""
        return {"kind": self.kind, "targets": list(self.targets), "low": list(self.low), "high": list(self.high)}

    def _columns(self, target: Tensor) -> Tensor:
        """(B, T)"""
        return target.unsqueeze(1) if target.dim() == 1 else target

    def _standardised(self, target: Tensor) -> Tensor:
        values = self._columns(target)
        return (values - _constant(self.mean, values)) / _constant(self.deviation, values) if self.mean else values


@functools.lru_cache(maxsize=64)
def _tensor_of(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # it is kept, and training may meet what validation made
        return torch.tensor(values, dtype=dtype, device=device)


def _constant(values: tuple[float, ...], like: Tensor) -> Tensor:
    """(T,) kept on the device of ``like``: making it anew in each step would wait for the accelerator."""
    return _tensor_of(values, like.dtype, like.device)


_KINDS: dict[str, type[Task]] = {cls.kind: cls for cls in (Regression, SingleLabel, MultiLabel, Ratings)}


def task_from_card(card: dict[str, Any]) -> Task:
    """The task that ``card`` describes; the inverse of :meth:`Task.card`."""
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in card.items() if k != "kind"}
    if card.get("kind") not in _KINDS:
        raise ValueError(f"task kind '{card.get('kind')}' is unknown; expected one of {', '.join(_KINDS)}")
    return _KINDS[card["kind"]](**options)

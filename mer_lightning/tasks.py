"""Tasks: the loss, the decision, the categories and the true-class probability of each kind of label.

Shapes: B batch, C classes, O outputs of the model. ``logits`` is always (B, O), also for one output.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor


def _precise(logits: Tensor) -> Tensor:
    """At least float32: in half precision, sigmoid and exponential are too coarse for thresholds and losses."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


class Task(ABC):
    """One kind of label. Metrics live in :mod:`mer_lightning.evaluation.metrics`, which looks them up by ``kind``."""

    kind: ClassVar[str]
    score: ClassVar[tuple[str, str]]  # the metric that selects checkpoints on validation, and "min" or "max"

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
    """Sentiment intensity in [-limit, limit]: 3 for MOSI and MOSEI, 1 for SIMS."""

    limit: float = 3.0

    kind: ClassVar[str] = "regression"
    score: ClassVar[tuple[str, str]] = ("mae", "min")
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
    score: ClassVar[tuple[str, str]] = ("wf1", "max")

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
    score: ClassVar[tuple[str, str]] = ("micro_f1", "max")

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


_KINDS: dict[str, type[Task]] = {cls.kind: cls for cls in (Regression, SingleLabel, MultiLabel)}


def task_from_card(card: dict[str, Any]) -> Task:
    """The task that ``card`` describes; the inverse of :meth:`Task.card`."""
    options = {k: tuple(v) if isinstance(v, list) else v for k, v in card.items() if k != "kind"}
    if card.get("kind") not in _KINDS:
        raise ValueError(f"task kind '{card.get('kind')}' is unknown; expected one of {', '.join(_KINDS)}")
    return _KINDS[card["kind"]](**options)

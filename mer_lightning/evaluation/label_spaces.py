"""Testing a model on a corpus with other classes, by a map that a person gives.

Several classes of the model can be mapped to one class of the corpus: it has the sum of their probabilities. Classes of
the model that are not mapped are left out, and the probabilities of the others are scaled to a sum of 1. Samples with
a label that no class is mapped to are left out, too. The classes of the corpus that remain are a task of their own.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from mer_lightning.errors import Refusal, did_you_mean
from mer_lightning.evaluation.predictions import Predictions
from mer_lightning.tasks import SingleLabel, Task


@dataclass(frozen=True)
class LabelMap:
    """A map {class of the model: class of the corpus} whose names exist on both sides."""

    model: SingleLabel
    corpus: SingleLabel
    read_as: dict[str, str]

    def __post_init__(self) -> None:
        for names, classes, owner in (
            (self.read_as, self.model.classes, "the run"),
            (self.read_as.values(), self.corpus.classes, "the corpus"),
        ):
            _refuse_unknown(names, classes, owner)
        if len(self.task.classes) < 2:
            raise Refusal("--labels", "at least two classes of the corpus", str(self.read_as), "map more classes")

    @functools.cached_property
    def task(self) -> SingleLabel:
        """The classes of the corpus that some class is mapped to, in the order of the corpus."""
        return SingleLabel(tuple(name for name in self.corpus.classes if name in self.read_as.values()))

    def __str__(self) -> str:
        return ", ".join(f"{'+'.join(self._sources(name))} as {name}" for name in self.task.classes)

    def _sources(self, name: str) -> list[str]:
        """The classes of the model that are mapped to one class of the corpus."""
        return [own for own in self.model.classes if self.read_as.get(own) == name]

    def kept(self, target: Tensor) -> Tensor:
        """(N,) bool: samples with a label that some class is mapped to."""
        return torch.isin(target, torch.tensor([self.corpus.classes.index(name) for name in self.task.classes]))

    def targets(self, target: Tensor) -> Tensor:
        """The labels of the kept samples, as numbers of :attr:`task`."""
        mapped = self.task.classes
        numbers = torch.tensor([mapped.index(name) if name in mapped else -1 for name in self.corpus.classes])
        return numbers[target[self.kept(target)]]

    def logits(self, logits: Tensor) -> Tensor:
        """(..., mapped classes) of (..., classes of the model); their softmax has the probabilities described above."""
        groups = [[self.model.classes.index(own) for own in self._sources(name)] for name in self.task.classes]
        return torch.stack([logits[..., group].logsumexp(-1) for group in groups], dim=-1)

    def predictions(self, given: Predictions) -> Predictions:
        """The predictions of the kept samples, in the classes of :attr:`task`."""
        assert given.target is not None
        kept = self.kept(given.target)
        extras = {name: values[kept] for name, values in given.extras.items()}
        return Predictions(self.logits(given.logits[kept]), self.targets(given.target), given.index[kept], extras)


def label_map(model: Task, corpus: Task, read_as: dict[str, str]) -> LabelMap:
    """The map; a Refusal unless run and corpus both have one of several classes per sample."""
    if not (isinstance(model, SingleLabel) and isinstance(corpus, SingleLabel)):
        expected, found = "a run and a corpus with one of several classes each", f"{model.kind} and {corpus.kind}"
        raise Refusal("--labels", expected, found, "numbers and label sets cannot be read as classes")
    return LabelMap(model, corpus, dict(read_as))


def _refuse_unknown(names: Iterable[str], classes: tuple[str, ...], owner: str) -> None:
    for name in names:
        if name not in classes:
            remedy = did_you_mean(name, classes, "name one of them", written="'{}'")
            raise Refusal("--labels", f"classes of {owner}: {', '.join(classes)}", f"'{name}'", remedy)

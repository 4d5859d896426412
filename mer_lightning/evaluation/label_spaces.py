"""Reading the classes of a model as those of another corpus, where a person has said which is which.

Classes that are read as one have the sum of their probabilities. Classes that are read as none are left out, and the
others share what is left; so are the samples of labels that no class is read as. What remains is a task of its own.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from mer_lightning.errors import Refusal
from mer_lightning.evaluation.predictions import Predictions
from mer_lightning.tasks import SingleLabel, Task


@dataclass(frozen=True)
class LabelMap:
    """{class of the model: class of the corpus}, both checked."""

    model: SingleLabel
    corpus: SingleLabel
    read_as: dict[str, str]

    def __post_init__(self) -> None:
        for said, classes, whose in (
            (self.read_as, self.model.classes, "the run"),
            (self.read_as.values(), self.corpus.classes, "the corpus"),
        ):
            _refuse_unknown(said, classes, whose)
        if len(self.task.classes) < 2:
            raise Refusal("--labels", "at least two classes of the corpus", str(self.read_as), "map more classes")

    @property
    def task(self) -> SingleLabel:
        """The classes that something is read as, in the order of the corpus."""
        return SingleLabel(tuple(name for name in self.corpus.classes if name in self.read_as.values()))

    def __str__(self) -> str:
        return ", ".join(f"{'+'.join(self._read_as(name))} as {name}" for name in self.task.classes)

    def _read_as(self, name: str) -> list[str]:
        return [mine for mine in self.model.classes if self.read_as.get(mine) == name]

    def kept(self, target: Tensor) -> Tensor:
        """(N,) bool: samples whose label something is read as."""
        return torch.isin(target, torch.tensor([self.corpus.classes.index(name) for name in self.task.classes]))

    def targets(self, target: Tensor) -> Tensor:
        """The labels of the kept samples, as numbers of :attr:`task`."""
        mapped = self.task.classes
        numbers = torch.tensor([mapped.index(name) if name in mapped else -1 for name in self.corpus.classes])
        return numbers[target[self.kept(target)]]

    def logits(self, logits: Tensor) -> Tensor:
        """(..., mapped classes) of (..., classes of the model); a softmax sums and shares as said above."""
        groups = [[self.model.classes.index(mine) for mine in self._read_as(name)] for name in self.task.classes]
        return torch.stack([logits[..., group].logsumexp(-1) for group in groups], dim=-1)

    def predictions(self, said: Predictions) -> Predictions:
        assert said.target is not None
        kept = self.kept(said.target)
        extras = {name: values[kept] for name, values in said.extras.items()}
        return Predictions(self.logits(said.logits[kept]), self.targets(said.target), said.index[kept], extras)


def label_map(model: Task, corpus: Task, read_as: dict[str, str]) -> LabelMap:
    """The map, or a Refusal where there is nothing to map."""
    if not (isinstance(model, SingleLabel) and isinstance(corpus, SingleLabel)):
        expected, found = "a run and a corpus with one of several classes each", f"{model.kind} and {corpus.kind}"
        raise Refusal("--labels", expected, found, "numbers and label sets cannot be read as classes")
    return LabelMap(model, corpus, dict(read_as))


def _refuse_unknown(said: Iterable[str], classes: tuple[str, ...], whose: str) -> None:
    for name in said:
        if name not in classes:
            near = difflib.get_close_matches(name, classes, n=1)
            remedy = f"did you mean '{near[0]}'?" if near else "name one of them"
            raise Refusal("--labels", f"classes of {whose}: {', '.join(classes)}", f"'{name}'", remedy)

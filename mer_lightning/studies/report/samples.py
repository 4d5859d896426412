"""The samples of a setting that a reader may look at: truth, what each method says, what changes without a modality.

Shapes: N samples, C conditions of which the first is the complete input.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mer_lightning.data.raw import SENTENCE
from mer_lightning.numerals import number
from mer_lightning.studies.comparing import Contender
from mer_lightning.studies.report.settings import Setting
from mer_lightning.tasks import Task

if TYPE_CHECKING:
    import pandas as pd

MOST = 80  # samples on a page
_LETTERS_OF_A_SENTENCE = 160


@dataclass(frozen=True)
class Answer:
    """What a method says of a sample with all modalities; the first seed's."""

    text: str
    right: bool | None  # None where the truth cannot tell
    flips: tuple[str, ...]  # letters of the modalities without which its category is another one


@dataclass(frozen=True)
class Sample:
    id: str
    sentence: str  # empty where the run does not know it
    truth: str
    answers: list[Answer]


@dataclass(frozen=True)
class Samples:
    methods: list[str]
    rows: list[Sample]
    of: int  # how many there are

    @property
    def sentences(self) -> bool:
        return any(row.sentence for row in self.rows)


def samples_of(setting: Setting) -> Samples | None:
    """Those on which most changes when a modality goes, over all methods that are shown; the first ones where equal.

    None where the complete input was not tested, or no one has ids.
    """
    methods = {label: each for label, each in setting.shown.items() if each.complete and "id" in each.tables[0]}
    if not methods:
        return None
    answers = {label: _answers(contender) for label, contender in methods.items()}
    ids = _ids(next(iter(methods.values())))
    changes = [sum(len(of[row].flips) for of in answers.values()) for row in range(len(ids))]
    chosen = sorted(sorted(range(len(ids)), key=lambda row: -changes[row])[:MOST])
    first = next(iter(methods.values()))
    sentences, truth = _sentences(first), _texts(first.task, first.target)
    rows = [
        Sample(str(ids[row]), sentences.get(ids[row], ""), truth[row], [of[row] for of in answers.values()])
        for row in sorted(chosen, key=lambda row: -changes[row])
    ]
    return Samples(list(methods), rows, len(ids))


def _answers(contender: Contender) -> list[Answer]:
    """Of every sample, in the order of the split."""
    assert contender.complete is not None
    task, complete = contender.task, contender.complete
    without = {letter: complete.replace(letter, "") for letter in complete}
    tested = {letter: name for letter, name in without.items() if name in contender.conditions}
    full, *masked = contender.logits([complete, *tested.values()])[0].unbind(0)
    decision = task.decide(full)
    category = task.category(decision)
    changed = [(task.category(task.decide(each)) != category).tolist() for each in masked]
    right = task.right(full, contender.target).tolist()
    return [
        Answer(
            text,
            None if is_right != is_right else bool(is_right),
            tuple(letter for letter, of_samples in zip(tested, changed, strict=True) if of_samples[row]),
        )
        for row, (text, is_right) in enumerate(zip(_texts(task, decision), right, strict=True))
    ]


def _texts(task: Task, values: Tensor) -> list[str]:
    """Labels as people read them."""
    classes: tuple[str, ...] | None = getattr(task, "classes", None)
    if classes is None:
        return [
            ", ".join(number(each, decimals=2) for each in torch.atleast_1d(row).tolist()) for row in values.double()
        ]
    if task.kind == "single_label":
        return [classes[int(each)] for each in values]
    return ["+".join(name for name, has in zip(classes, row, strict=True) if has) or "none" for row in values]


def _ids(contender: Contender) -> list[str]:
    table: pd.DataFrame = contender.tables[0]
    return [str(each) for each in table.loc[table["condition"] == table["condition"].iloc[0], "id"]]


def _sentences(contender: Contender) -> dict[str, str]:
    """{id: the beginning of its sentence}; nothing where the run does not know them."""
    table = contender.runs[0].samples()
    if SENTENCE not in table:
        return {}
    pairs = zip(table["id"].astype(str), table[SENTENCE].astype(str), strict=True)
    return {
        name: text if len(text) <= _LETTERS_OF_A_SENTENCE else f"{text[:_LETTERS_OF_A_SENTENCE]}…"
        for name, text in pairs
    }

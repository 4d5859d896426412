"""Contenders: the runs of one variant together, to be compared with those of another variant.

Shapes: S seeds, K conditions, N samples, O outputs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from mer_lightning.errors import Refusal
from mer_lightning.modalities import complete_among, means_over
from mer_lightning.studies.finished import Run, logits_of, run_in, targets_of
from mer_lightning.tasks import Task

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor


@dataclass(frozen=True)
class Contender:
    """Runs that differ only in their seed."""

    runs: tuple[Run, ...]

    @cached_property
    def tables(self) -> list[pd.DataFrame]:
        return [run.predictions() for run in self.runs]

    @cached_property
    def task(self) -> Task:
        return self.runs[0].task

    @cached_property
    def target(self) -> Tensor:
        return targets_of(self.tables[0], self.task)

    @cached_property
    def validation_score(self) -> float:
        """Mean over seeds of the best epoch's; less than any other where nothing was logged."""
        best = [max(run.facts.curve, default=-math.inf) for run in self.runs]
        return sum(best) / len(best)

    @cached_property
    def conditions(self) -> list[str]:
        return list(dict.fromkeys(self.tables[0]["condition"]))

    @property
    def complete(self) -> str | None:
        """The combination that contains all others that were tested."""
        return complete_among(self.conditions)

    def logits(self, conditions: list[str]) -> Tensor:
        """(S, K, N, O)."""
        import torch

        return torch.stack([logits_of(table, conditions) for table in self.tables])

    def score(self, conditions: list[str]) -> float:
        """Mean over seeds and conditions of the score that selects checkpoints; higher is better."""
        from mer_lightning.evaluation.metrics import evaluate, score

        logits = self.logits(conditions)
        values = [score(self.task, evaluate(self.task, k, self.target)) for run in logits for k in run]
        return sum(values) / len(values)

    def condition_groups(self) -> dict[str, list[str]]:
        """{title: conditions to average over}: the complete input, and all combinations where they were tested."""
        groups = {self.complete: [self.complete]} if self.complete else {}
        groups |= {name: list(combinations) for name, combinations in means_over(self.conditions).items()}
        return groups or {name: [name] for name in self.conditions}


def contender(folders: list[Path]) -> Contender:
    return Contender(tuple(map(run_in, folders)))


def refuse_other_samples(contenders: Iterable[Contender]) -> None:
    """A paired test needs the same samples, under the same masks, in every run."""
    runs = [run for contender in contenders for run in contender.runs]
    first, *others = (run.results().iloc[0] for run in runs)
    for run, other in zip(runs[1:], others, strict=True):
        for column in ("corpus_sha256", "partition", "split", "mask_hash"):
            if other[column] != first[column]:
                here, there = (f"{column} {each[column]}" for each in (other, first))
                raise Refusal(run.folder, f"{there}, as in {runs[0].folder}", here, "compare runs on the same samples")

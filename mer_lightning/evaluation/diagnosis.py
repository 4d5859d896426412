"""A diagnosis of one run from its stored predictions, as small tables, and the same of several methods side by side.

Shapes: N samples, M modalities that were masked, O outputs.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mer_lightning.evaluation.consistency import disagreement
from mer_lightning.evaluation.diagnostics import (
    agreement,
    auroc,
    contradiction,
    flips,
    most_confident,
    picks,
    without_contradicting,
)
from mer_lightning.evaluation.metrics import describe, evaluate
from mer_lightning.modalities import COMPLETE, LETTERS, MODALITIES
from mer_lightning.tasks import Task

if TYPE_CHECKING:
    import pandas as pd

CONFIDENCE = "confidence"  # the column in which a method stores its own
TRIVIAL = "trivial score"  # Task.certainty
CEILING = "ceiling: contradicting one masked"
ORACLE = "oracle (true class)"


@dataclass(frozen=True)
class Views:
    """What one run said about the samples of a split when it saw some of their modalities."""

    task: Task
    target: Tensor  # (N,) or (N, C)
    logits: dict[str, Tensor]  # {combination: (N, O)}
    letters: str = LETTERS  # of the modalities that the corpus has
    confidence: dict[str, Tensor] = field(default_factory=dict)  # {combination: (N,)}, where the method has its own
    contradicting: Tensor | None = None  # (N,) number of the modality, -1 for none; known of synthetic twins only
    references: dict[str, float] = field(default_factory=dict)  # {what: score} to read the scores of filters beside

    @property
    def complete(self) -> str | None:
        """The combination of everything that the corpus has; None if it was not tested."""
        return next((name for name in (self.letters, COMPLETE) if name in self.logits), None)

    @cached_property
    def masked(self) -> dict[str, str]:
        """{modality: the combination without it}, where that was tested."""
        without = {MODALITIES[LETTERS.index(letter)]: self.letters.replace(letter, "") for letter in self.letters}
        return {modality: name for modality, name in without.items() if name in self.logits}

    @cached_property
    def alone(self) -> dict[str, str]:
        """{modality: its own combination}, where that was tested."""
        single = {MODALITIES[LETTERS.index(letter)]: letter for letter in self.letters}
        return {modality: name for modality, name in single.items() if name in self.logits}

    @property
    def decided(self) -> Tensor:
        """(N,) bool: the target says what is right."""
        return ~self.task.right(next(iter(self.logits.values())), self.target).isnan()

    def right(self, name: str) -> Tensor:
        """(n,) bool of the decided samples."""
        return self.task.right(self.logits[name], self.target)[self.decided].bool()

    def category(self, name: str) -> Tensor:
        """(n,) of the decided samples."""
        return self.task.category(self.task.decide(self.logits[name]))[self.decided]

    def confidences(self) -> dict[str, Callable[[str], Tensor]]:
        """{name: a function from a combination to (N,)}: the method's own, where it has one, and the trivial score."""
        own = {CONFIDENCE: self.confidence.__getitem__} if self.confidence else {}
        return {**own, TRIVIAL: lambda name: self.task.certainty(self.logits[name])}

    def score(self, logits: Tensor, among: Tensor | None = None) -> float:
        """In the metric that selects checkpoints, among some samples."""
        chosen = slice(None) if among is None else among
        return evaluate(self.task, logits[chosen], self.target[chosen])[self.task.score[0]]

    def of(self, samples: Tensor) -> Views:
        """Some of the samples (N,) bool."""
        return replace(
            self,
            target=self.target[samples],
            logits={name: values[samples] for name, values in self.logits.items()},
            confidence={name: values[samples] for name, values in self.confidence.items()},
            contradicting=None if self.contradicting is None else self.contradicting[samples],
        )

    @property
    def contradicted(self) -> Tensor | None:
        """(N,) bool: some modality contradicts; None if that is not known or not tested, or no sample has one."""
        if self.contradicting is None or self.complete is None or len(self.masked) < len(self.letters):
            return None
        here = self.contradicting >= 0
        return here if bool(here.any()) else None

    @property
    def unusable(self) -> str | None:
        """Why nothing at all can be diagnosed, in one line."""
        if len(self.letters) == 1:
            return "the corpus has one modality, which cannot be masked"
        if self.complete is None:
            return f"the complete input, {self.letters}, was not tested"
        diverged = [name for name, values in self.logits.items() if not values.isfinite().all()]
        return f"predictions are not finite under {', '.join(diverged)}" if diverged else None

    @property
    def untested(self) -> list[str]:
        """Combinations that a whole diagnosis needs, and that this run was not tested under."""
        needed = [*self.letters, *(self.letters.replace(letter, "") for letter in self.letters)]
        wanting = [name for name in dict.fromkeys(needed) if name not in self.logits]
        return wanting if self.complete else [*wanting, self.letters]

    @property
    def missing(self) -> list[str]:
        """What else cannot be diagnosed, and why: one line each."""
        said = []
        if self.untested:
            said.append(f"not tested, and so left out below: {', '.join(self.untested)}")
        if self.contradicting is not None and not (self.contradicting >= 0).any():
            said.append("no modality contradicts in any sample: there is nothing to pick or to filter")
        elif self.contradicting is not None and self.contradicted is None:
            said.append("picking and filtering need every combination that lacks one modality")
        if not self.confidence:
            said.append("the method stores no confidence of its own: the trivial score stands alone")
        return said


def tables(views: Views) -> dict[str, pd.DataFrame]:
    """{title: table} of all that can be diagnosed."""
    if views.unusable:
        return {}
    found = {}
    metric = describe(views.task)[views.task.score[0]].title
    if views.masked:
        found[f"One modality masked: movement, fall of {metric}, rescue and spoil"] = masking(views)
    if len(views.alone) > 1:
        found["Predictions from one modality alone"] = unimodal(views)
    found["AUROC for 'the prediction is right'"] = discrimination(views)
    if views.contradicted is not None:
        found["Picking the modality that contradicts"] = picking(views)
        found[f"Filtering beside its ceiling, {metric}"] = filtering(views)
    return found


def masking(views: Views) -> pd.DataFrame:
    """One row per masked modality: reliance on it, what its absence rescues, and what it spoils.

    ``movement`` is the mean over samples of how far the prediction moves (see ``disagreement``), ``fall`` how much
    worse the score gets. ``any`` counts a sample once, whichever modality it was.
    """
    import pandas as pd

    assert views.complete is not None
    names = list(views.masked.values())
    found = flips(views.right(views.complete), torch.stack([views.right(name) for name in names]))
    stacked = torch.stack([views.logits[name] for name in (views.complete, *names)], dim=1)
    movement = disagreement(stacked, views.task)[0, 1:].tolist()
    worse = 1 if views.task.score[1] == "min" else -1
    whole = views.score(views.logits[views.complete])
    fall = [worse * (views.score(views.logits[name]) - whole) for name in names]
    rows: list[dict[str, Any]] = []
    for m, modality in enumerate((*views.masked, "any")):
        each = modality != "any"
        rescued = found.rescued[m] if each else found.rescued_by_any
        spoiled = found.spoiled[m] if each else found.spoiled_by_any
        rows.append(
            {
                "masked": modality,
                "movement": movement[m] if each else None,
                "fall": fall[m] if each else None,
                "rescued": rescued,
                "errors": found.errors,
                "rescue_rate": _share(rescued, found.errors),
                "spoiled": spoiled,
                "hits": found.hits,
                "spoil_rate": _share(spoiled, found.hits),
            }
        )
    return pd.DataFrame(rows)


def unimodal(views: Views) -> pd.DataFrame:
    """Where modalities alone all agree, and where two contradict each other: how often, and who is right then."""
    import pandas as pd

    assert views.complete is not None
    whole = views.right(views.complete)
    category = {modality: views.category(name) for modality, name in views.alone.items()}
    right = {modality: views.right(name) for modality, name in views.alone.items()}
    same = agreement(torch.stack(list(category.values())))
    agreed, together = int(same.sum()), next(iter(right.values()))  # all right, or all wrong
    rows: list[dict[str, Any]] = [
        {
            "predictions": "all agree",
            "samples": agreed,
            "share": _share(agreed, len(whole)),
            "first_right": _share(int((same & together).sum()), agreed),
            "second_right": _share(int((same & together).sum()), agreed),
            "neither_right": _share(int((same & ~together).sum()), agreed),
            "complete_right": _share(int((same & whole).sum()), agreed),
        }
    ]
    for one, other in itertools.combinations(views.alone, 2):
        found = contradiction((category[one], category[other]), (right[one], right[other]), whole)
        rows.append(
            {
                "predictions": f"{one} against {other}",
                "samples": found.samples,
                "share": _share(found.samples, len(whole)),
                "first_right": _share(found.first_right, found.samples),
                "second_right": _share(found.second_right, found.samples),
                "neither_right": _share(found.neither_right, found.samples),
                "complete_right": _share(found.complete_right, found.samples),
            }
        )
    return pd.DataFrame(rows)


def discrimination(views: Views) -> pd.DataFrame:
    """One row per combination: AUROC of each confidence, and how many of how many predictions are right."""
    import pandas as pd

    decided = views.decided
    rows: list[dict[str, Any]] = []
    for name in views.logits:
        right = views.right(name)
        scores = {what: auroc(confidence(name)[decided], right) for what, confidence in views.confidences().items()}
        rows.append({"condition": name, "right": int(right.sum()), "samples": len(right), **scores})
    return pd.DataFrame(rows)


def picking(views: Views) -> pd.DataFrame:
    """How often each confidence is highest when the truly contradicting modality is masked, beside two floors."""
    import pandas as pd

    assert views.contradicting is not None
    contradicting, names = _contradicting(views), list(views.masked.values())
    total = int((contradicting >= 0).sum())
    scores = views.confidences() | {ORACLE: lambda name: _belief(views, name)}
    shares = {
        what: float(picks(torch.stack([confidence(name) for name in names]), contradicting).mean())
        for what, confidence in scores.items()
    }
    counts = contradicting[contradicting >= 0].bincount(minlength=len(names))
    shares[f"always {list(views.masked)[int(counts.argmax())]}"] = int(counts.max()) / total
    shares["chance"] = 1 / len(names)
    rows = [{"picked by": what, "share": share, "contradicting": total} for what, share in shares.items()]
    return pd.DataFrame(rows)


def filtering(views: Views) -> pd.DataFrame:
    """Scores with one modality masked per sample, by who chooses it; among all samples, and where one contradicts.

    The ceiling masks the modality that truly contradicts, where one does. The oracle chooses with the label in hand,
    which no filter can. References are of other models, on all samples.
    """
    import pandas as pd

    assert views.complete is not None
    contradicted = views.contradicted
    assert contradicted is not None
    names = [views.complete, *views.masked.values()]
    stacked = torch.stack([views.logits[name] for name in names])
    chosen = {"nothing masked": stacked[0]}
    for what, confidence in (views.confidences() | {ORACLE: lambda name: _belief(views, name)}).items():
        chosen[f"masked by {what}"] = most_confident(stacked, torch.stack([confidence(name) for name in names]))
    chosen[CEILING] = without_contradicting(stacked[0], stacked[1:], _contradicting(views))
    rows: list[dict[str, Any]] = [
        {
            "predictions": what,
            "all": views.score(logits),
            "samples": len(logits),
            "contradicted": views.score(logits, contradicted),
            "contradicted_samples": int(contradicted.sum()),
        }
        for what, logits in chosen.items()
    ]
    everything = {"samples": len(views.target)}
    rows += [{"predictions": what, "all": value, **everything} for what, value in views.references.items()]
    return pd.DataFrame(rows).astype({"contradicted_samples": "Int64"})


def measures(views: Views) -> dict[str, float]:
    """{measure: value} of one run: what methods are compared by."""
    found: dict[str, float] = {}
    if views.unusable:
        return found
    if views.masked:
        for row in _records(masking(views)):
            found[f"rescue rate, {row['masked']}"] = row["rescue_rate"]
            found[f"spoil rate, {row['masked']}"] = row["spoil_rate"]
    if len(views.alone) > 1:
        found["modalities alone agree"] = unimodal(views)["share"][0]
    of_complete = next(row for row in _records(discrimination(views)) if row["condition"] == views.complete)
    found |= {f"AUROC of {name}": of_complete[name] for name in views.confidences()}
    if views.contradicted is not None:
        for row in _records(picking(views)):
            found[f"picked by {row['picked by']}"] = row["share"]
        metric = describe(views.task)[views.task.score[0]].title
        for row in _records(filtering(views)):
            found[f"{metric}, {row['predictions']}"] = row["all"]
    return found


def over_runs(methods: Mapping[str, Sequence[Mapping[str, float]]]) -> pd.DataFrame:
    """One row per measure and method: mean and deviation (n - 1) over its runs, and how many runs they are of.

    ``methods`` are {label: the measures of each run}. All runs must be of one setting: the same samples, conditions and
    metrics.
    """
    import pandas as pd

    rows = [
        {"measure": measure, "label": label, "value": value}
        for label, runs in methods.items()
        for found in runs
        for measure, value in found.items()
    ]
    if not rows:
        return pd.DataFrame(columns=["measure", "label", "mean", "std", "runs"])
    grouped = pd.DataFrame(rows).groupby(["measure", "label"], sort=False)["value"]
    return grouped.agg(mean="mean", std="std", runs="count").reset_index()


def _belief(views: Views, name: str) -> Tensor:
    return views.task.true_class_probability(views.logits[name], views.target)


def _contradicting(views: Views) -> Tensor:
    """(N,) as places in ``views.masked``, -1 for none."""
    assert views.contradicting is not None
    places = torch.tensor([list(views.masked).index(m) if m in views.masked else -1 for m in MODALITIES])
    return torch.where(views.contradicting >= 0, places[views.contradicting], -1)


def _records(table: pd.DataFrame) -> list[dict[Any, Any]]:
    return table.to_dict("records")


def _share(count: int, of: int) -> float | None:
    return count / of if of else None

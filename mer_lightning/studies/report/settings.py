"""What may stand in one table: runs on the same samples of the same features, under the same masks and metrics."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from mer_lightning.evaluation.metrics import describe
from mer_lightning.evaluation.results import remarks
from mer_lightning.methods.materiality import immaterial
from mer_lightning.modalities import complete_among
from mer_lightning.numerals import number
from mer_lightning.studies.comparing import Contender
from mer_lightning.studies.finished import Run
from mer_lightning.studies.ledger import SETTING, Ledger
from mer_lightning.studies.variants import variant_labels
from mer_lightning.tasks import Task

if TYPE_CHECKING:
    import pandas as pd

_MOST = 12  # methods in a figure


@dataclass(frozen=True)
class Setting:
    """One table: its contenders by label, and the ledger's rows of them."""

    rows: pd.DataFrame
    contenders: dict[str, Contender]

    def fact(self, name: str) -> str:
        return str(self.rows[name].iloc[0])

    @property
    def title(self) -> str:
        title = f"{self.fact('corpus')}, {self.fact('split')} split of {self.fact('partition')}"
        if self.fact("trained_on") != self.fact("corpus"):
            title += f", trained on {self.fact('trained_on')}"
        return title

    @property
    def provenance(self) -> str:
        seeds = sorted(set(self.rows["seed"]))
        return (
            f"features {self.fact('feature_set')}; labels: {self.fact('labels')}; "
            f"protocol {self.fact('protocol')}, masks {self.fact('mask_hash')}; "
            f"{self.fact('samples')} samples; seeds {', '.join(map(str, seeds))}; "
            f"metrics version {self.fact('metrics_version')}"
        )

    @property
    def synthetic(self) -> bool:
        return "(synthetic)" in self.fact("corpus")

    @cached_property
    def shown(self) -> dict[str, Contender]:
        """Those in figures and tests: all, or the best on validation where there are more than a reader can see."""
        if len(self.contenders) <= _MOST:
            return self.contenders
        ranked = sorted(self.contenders, key=lambda label: -self.contenders[label].validation_score)
        best = set(ranked[:_MOST])
        return {label: contender for label, contender in self.contenders.items() if label in best}

    @cached_property
    def task(self) -> Task:
        return next(iter(self.contenders.values())).task

    @property
    def conditions(self) -> list[str]:
        """Conditions, then their averages, in the order of the results."""
        return list(dict.fromkeys(self.rows["condition"]))

    @property
    def notes(self) -> list[str]:
        """What a reader must know before comparing: unequal numbers of seeds, budgets or selection rules."""
        notes = []
        of_label = self.rows.groupby("label", sort=False)
        if of_label["selection"].first().nunique() > 1:
            notes.append("Checkpoints of the methods were chosen by different rules; see the column.")
        if of_label["training_masks"].first().nunique() > 1:
            notes.append("Methods were trained under different masks; see the column.")
        if len(self.shown) < len(self.contenders):
            notes.append(
                f"Of {len(self.contenders)} methods, figures and tests have the {len(self.shown)} best on validation."
            )
        counts = {label: len(contender.runs) for label, contender in self.contenders.items()}
        if len(set(counts.values())) > 1:
            listed = ", ".join(f"{label} {count}" for label, count in counts.items())
            notes.append(f"Methods have different numbers of seeds: {listed}.")
        if not self.equal_budgets:
            listed = ", ".join(
                f"{label} {budget:.0f}" if budget else f"{label} unknown" for label, budget in self._budgets.items()
            )
            notes.append(f"Budgets differ (epochs, of all phases), so no best score is marked: {listed}.")
        if self.rows["fold_mean"].notna().any():
            notes.append("Scores are of all folds' predictions together; in brackets, mean ± deviation over folds.")
        notes += self._below_linear()
        notes += [f"{line}." for line in remarks(self.rows)]
        for label, shares in self.gradient_shares.groupby("label", sort=False):
            if line := immaterial(dict(zip(shares["loss"], shares["share"], strict=True))):
                notes.append(f"{label}: {line}. A claim about it says next to nothing.")
        return notes

    def _below_linear(self) -> list[str]:
        """The methods that a linear model of mean features equals or beats on the complete input (rule 12)."""
        metric, direction = self.task.score
        complete = complete_among(self.conditions)
        rows = self.rows[(self.rows["metric"] == metric) & (self.rows["condition"] == complete)]
        if not rows["linear"].notna().any():
            return []
        means = rows.groupby("label", sort=False)[["value", "linear"]].mean()
        worse = means["value"] >= means["linear"] if direction == "min" else means["value"] <= means["linear"]
        if not worse.any():
            return []
        linear = number(means["linear"].iloc[0])
        title = describe(self.task)[metric].title
        listed = ", ".join(f"{label} {number(value)}" for label, value in means.loc[worse, "value"].items())
        return [f"A linear model of mean features has {title} {linear} under {complete}; not better: {listed}."]

    @property
    def equal_budgets(self) -> bool:
        return len(set(self._budgets.values())) < 2

    @property
    def _budgets(self) -> dict[str, float]:
        """{label: epochs of all phases}"""
        first = self.rows.drop_duplicates("label")
        return dict(zip(first["label"], first["budget"], strict=True))

    @cached_property
    def gradient_shares(self) -> pd.DataFrame:
        """label, loss, share, cosine: means over seeds of what each loss does to the encoders."""
        import pandas as pd

        rows = []
        for label, contender in self.contenders.items():
            seeds = [run.facts.gradient_shares for run in contender.runs]
            for loss in dict.fromkeys(loss for shares in seeds for loss in shares):
                share, cosine = np.mean([shares[loss] for shares in seeds if loss in shares], axis=0)
                rows.append((label, loss, share, cosine))
        return pd.DataFrame(rows, columns=["label", "loss", "share", "cosine"])


def settings_of(ledger: Ledger) -> list[Setting]:
    """The settings of some runs, in the order of the first run of each."""
    runs, settings = {str(run.folder): run for run in ledger.runs}, []
    for _, part in ledger.rows.groupby(SETTING, sort=False, dropna=False, observed=True):
        here = [runs[folder] for folder in part["run"].unique()]
        labels = variant_labels({run.variant: run.options for run in here})
        contenders: dict[str, list[Run]] = {}
        for run in here:
            contenders.setdefault(labels[run.variant], []).append(run)
        texts = part.select_dtypes("category")
        part = part.astype(dict.fromkeys(texts, object))
        part["label"] = part["variant"].map(labels)
        settings.append(Setting(part, {label: Contender(tuple(mine)) for label, mine in contenders.items()}))
    return settings

"""What may stand in one table: runs on the same samples of the same features, under the same masks and metrics."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from mer_lightning.studies.comparing import Contender
from mer_lightning.studies.finished import Run
from mer_lightning.studies.ledger import SETTING, Ledger
from mer_lightning.studies.marks import places
from mer_lightning.studies.report.of_studies import Trials, labels_of_parts, sweeps_of, without_losers
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
    sweeps: tuple[Trials, ...] = ()
    full: str | None = None  # of an ablation: the label of the method with all of its parts

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
        """Those in figures and tests: all, or the best where there are more than a reader can see."""
        return self.best(_MOST)

    def best(self, most: int) -> dict[str, Contender]:
        """So many that were best on validation, or all; in their order."""
        if len(self.contenders) <= most:
            return self.contenders
        ranked = sorted(self.contenders, key=lambda label: -self.contenders[label].validation_score)
        chosen = set(ranked[:most])
        return {label: contender for label, contender in self.contenders.items() if label in chosen}

    @cached_property
    def task(self) -> Task:
        return next(iter(self.contenders.values())).task

    @property
    def conditions(self) -> list[str]:
        """Conditions, then their averages, in the order of the results."""
        return list(dict.fromkeys(self.rows["condition"]))

    @property
    def equal_budgets(self) -> bool:
        return len(set(self.budgets.values())) < 2

    @property
    def budgets(self) -> dict[str, float]:
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
    """The settings of some runs, in the order of the first run of each.

    Of a sweep, only the trial that validation chose is a contender: the test scores of the others would choose again.
    """
    runs, settings = {str(run.folder): run for run in ledger.runs}, []
    studies = places([run.folder for run in ledger.runs])
    for _, part in ledger.rows.groupby(SETTING, sort=False, dropna=False, observed=True):
        here = [runs[folder] for folder in part["run"].unique()]
        sweeps = sweeps_of(here, studies)
        kept = without_losers(here, sweeps)
        labels = variant_labels({run.variant: run.options for run in kept})
        labels |= {sweep.winner.runs[0].variant: sweep.label for sweep in sweeps}
        parts, full = labels_of_parts(kept, studies)
        labels |= parts
        contenders: dict[str, list[Run]] = {}
        for run in sorted(
            kept, key=lambda run: labels[run.variant] != full
        ):  # what the others are compared with is first
            contenders.setdefault(labels[run.variant], []).append(run)
        texts = part.select_dtypes("category")
        part = part[part["variant"].isin(labels)].astype(dict.fromkeys(texts, object))
        part["label"] = part["variant"].map(labels)
        settings.append(
            Setting(part, {label: Contender(tuple(mine)) for label, mine in contenders.items()}, sweeps, full)
        )
    return settings

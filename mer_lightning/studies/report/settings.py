"""What may stand in one table: runs on the same samples of the same features, under the same masks and metrics."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from mer_lightning.studies.comparing import Contender
from mer_lightning.studies.ledger import SETTING, Run, ledger, variant_labels
from mer_lightning.tasks import Task

if TYPE_CHECKING:
    import pandas as pd


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
    def task(self) -> Task:
        return next(iter(self.contenders.values())).task

    @property
    def conditions(self) -> list[str]:
        """Conditions, then their averages, in the order of the results."""
        return list(dict.fromkeys(self.rows["condition"]))

    @property
    def notes(self) -> list[str]:
        """What a reader must know before comparing: unequal numbers of seeds, budgets or selection rules."""
        said = []
        for fact, words in (
            ("selection", "chosen by different rules"),
            ("training_masks", "trained under different masks"),
        ):
            if self.rows.groupby("label")[fact].first().nunique() > 1:
                said.append(f"Methods were {words}; see the column.")
        counts = {label: len(contender.runs) for label, contender in self.contenders.items()}
        if len(set(counts.values())) > 1:
            said.append(
                "Methods have different numbers of seeds: " + ", ".join(f"{k} {v}" for k, v in counts.items()) + "."
            )
        budgets = self.rows.groupby("label", sort=False)["budget"].first().to_dict()
        if len(set(budgets.values())) > 1:
            listed = ", ".join(f"{label} {budget:.0f}" for label, budget in budgets.items())
            said.append(f"Budgets differ (epochs, of all phases): {listed}.")
        return said


def settings_of(runs: list[Run]) -> list[Setting]:
    """In the order of the first run of each."""
    rows, found = ledger(runs), []
    for _, part in rows.groupby(SETTING, sort=False, dropna=False):
        folders = set(part["run"])
        here = [run for run in runs if str(run.folder) in folders]
        labels = variant_labels(here)
        contenders: dict[str, list[Run]] = {}
        for run in here:
            contenders.setdefault(labels[run.variant], []).append(run)
        part = part.assign(label=part["variant"].map(labels))
        found.append(Setting(part, {label: Contender(tuple(mine)) for label, mine in contenders.items()}))
    return found

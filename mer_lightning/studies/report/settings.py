"""What may stand in one table: runs on the same samples of the same features, under the same masks and metrics."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from mer_lightning.evaluation.results import remarks
from mer_lightning.methods.materiality import COSINE, SHARE, immaterial
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
        notes = []
        of_label = self.rows.groupby("label", sort=False)
        if of_label["selection"].first().nunique() > 1:
            notes.append("Checkpoints of the methods were chosen by different rules; see the column.")
        if of_label["training_masks"].first().nunique() > 1:
            notes.append("Methods were trained under different masks; see the column.")
        counts = {label: len(contender.runs) for label, contender in self.contenders.items()}
        if len(set(counts.values())) > 1:
            listed = ", ".join(f"{label} {count}" for label, count in counts.items())
            notes.append(f"Methods have different numbers of seeds: {listed}.")
        if not self.equal_budgets:
            listed = ", ".join(f"{label} {budget:.0f}" for label, budget in self._budgets.items())
            notes.append(f"Budgets differ (epochs, of all phases), so no best score is marked: {listed}.")
        notes += [f"{line}." for line in remarks(self.rows)]
        for label, shares in self.gradient_shares.groupby("label", sort=False):
            if line := immaterial(dict(zip(shares["loss"], shares["share"], strict=True))):
                notes.append(f"{label}: {line}. A claim about it says next to nothing.")
        return notes

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
        """label, loss, share, cosine: means over measurements and seeds of what each loss does to the encoders."""
        import pandas as pd

        rows = []
        for label, contender in self.contenders.items():
            logs = pd.concat([run.metrics_over_time() for run in contender.runs])
            for name in map(str, logs.columns):
                phase, measured, loss = name.partition(SHARE)
                if measured:
                    means = logs[[name, f"{phase}{COSINE}{loss}"]].mean()
                    rows.append((label, f"{phase}{loss}", *means))
        return pd.DataFrame(rows, columns=["label", "loss", "share", "cosine"])


def settings_of(runs: list[Run]) -> list[Setting]:
    """The settings of some runs, in the order of the first run of each."""
    rows, settings = ledger(runs), []
    for _, part in rows.groupby(SETTING, sort=False, dropna=False):
        folders = set(part["run"])
        here = [run for run in runs if str(run.folder) in folders]
        labels = variant_labels(here)
        contenders: dict[str, list[Run]] = {}
        for run in here:
            contenders.setdefault(labels[run.variant], []).append(run)
        part = part.assign(label=part["variant"].map(labels))
        settings.append(Setting(part, {label: Contender(tuple(mine)) for label, mine in contenders.items()}))
    return settings

"""The corpora of the field: labels, expected counts, and where to request each of them."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mer_lightning.errors import Refusal
from mer_lightning.tasks import Task, task_from_card
from mer_lightning.yaml_text import from_yaml


@dataclass(frozen=True)
class CatalogueEntry:
    """One corpus. The values are in catalogue.yaml in the same folder."""

    name: str
    title: str
    task_card: dict[str, Any]
    obtain: str  # where to request it
    licence: str  # what its licence requires of a user
    counts: dict[str, dict[str, int]] = field(default_factory=dict)  # {partition: {split: expected samples}}
    labels: str = ""  # how its labels are to be read

    @functools.cached_property
    def task(self) -> Task:
        return task_from_card(self.task_card)


@functools.cache
def catalogue() -> dict[str, CatalogueEntry]:
    values = from_yaml((Path(__file__).with_name("catalogue.yaml")).read_text())
    return {name: CatalogueEntry(name=name, **entry) for name, entry in values.items()}


def lookup(name: str) -> CatalogueEntry:
    if name not in catalogue():
        raise Refusal(name, f"a corpus among {', '.join(catalogue())}", "another name", "see `mer-lightning data list`")
    return catalogue()[name]

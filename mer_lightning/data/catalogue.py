"""What is known of corpora before a file is read: labels, expected counts, and where to request each of them.

The corpora of the field are in catalogue.yaml in this folder. A person's own are in $MER_DATA/catalogue.yaml, in the
same words; of those only ``task_card`` is needed.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from mer_lightning.data.places import data_root
from mer_lightning.errors import Refusal, did_you_mean
from mer_lightning.yaml_text import from_yaml

if TYPE_CHECKING:
    from mer_lightning.tasks import Task

# Corpora with a synthetic twin: those whose shapes synthetic/twins.py knows.
TWINS = ("mosi", "mosei", "mosei_emotions", "iemocap4", "iemocap")
_NEAR = 0.7  # names of corpora are short, and alike


@dataclass(frozen=True)
class CatalogueEntry:
    """One corpus."""

    name: str
    title: str = ""
    task_card: dict[str, Any] = field(default_factory=dict)
    obtain: str = ""  # where to request it
    licence: str = ""  # what its licence requires of a user
    counts: dict[str, dict[str, int]] = field(default_factory=dict)  # {partition: {split: expected samples}}
    labels: str = ""  # how its labels are to be read

    @functools.cached_property
    def task(self) -> Task:
        from mer_lightning.tasks import task_from_card  # with torch, for which a wrong name does not wait

        return task_from_card(self.task_card)


@functools.cache
def catalogue() -> dict[str, CatalogueEntry]:
    """The corpora of the field."""
    values = from_yaml((Path(__file__).with_name("catalogue.yaml")).read_text())
    return {name: CatalogueEntry(name=name, **entry) for name, entry in values.items()}


def own_catalogue() -> dict[str, CatalogueEntry]:
    """The corpora that a person describes beside the data; none without such a file."""
    path = data_root() / "catalogue.yaml"
    if not path.is_file():
        return {}
    remedy = "describe each corpus as mer_lightning/data/catalogue.yaml does, e.g. mine: {task_card: {kind: ...}}"
    try:
        entries = {name: CatalogueEntry(name=name, **entry) for name, entry in from_yaml(path.read_text()).items()}
        tasks = {name: entry.task for name, entry in entries.items()}
    except (OSError, yaml.YAMLError, TypeError, ValueError, AttributeError, KeyError) as error:
        raise Refusal(path, "a catalogue of corpora", f"{type(error).__name__}: {error}", remedy) from error
    if taken := sorted(tasks.keys() & catalogue().keys()):
        raise Refusal(path, "names of your own", f"'{taken[0]}', a corpus of the field", "choose another name")
    return entries


def known_corpus(name: str) -> CatalogueEntry | None:
    return catalogue().get(name) or own_catalogue().get(name)


def lookup(name: str) -> CatalogueEntry:
    if entry := known_corpus(name):
        return entry
    expected = f"a corpus among {', '.join([*catalogue(), *own_catalogue()])}"
    raise Refusal(name, expected, "another name", nearest(name) or "see `mer-lightning data list`")


def nearest(name: str) -> str:
    """A question after the corpus that a person may have meant by a name; empty where none is near."""
    return did_you_mean(name, [*catalogue(), *own_catalogue()], cutoff=_NEAR)


def refuse_no_twin(name: str) -> None:
    if name not in TWINS:
        expected = f"one of {', '.join(TWINS)} for a synthetic corpus"
        raise Refusal(name, expected, "another name", did_you_mean(name, TWINS, "choose one of them", _NEAR))

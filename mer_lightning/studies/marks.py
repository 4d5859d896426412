"""The mark of a study in its folder: a report of its runs then knows what they were compared for.

FOLDER/study.json   the kind of study and its name; of a sweep also the metric that chooses
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from mer_lightning.errors import reading
from mer_lightning.plain_values import made_of
from mer_lightning.whole_files import write_whole

MARK = "study.json"
_WHAT, _REMEDY = "the mark of a study", "remove it, or start the study again: it writes another one"
_DEPTH = 3  # an ablation's runs are in FOLDER/PART/NUMBER/run, those of a sweep in FOLDER/TRIAL/run


@dataclass(frozen=True)
class Study:
    """What the runs below one folder were made for."""

    kind: Literal["sweep", "ablation"]
    name: str
    metric: str = ""  # of a sweep: what chooses the trial, on validation
    maximize: bool = True


@dataclass(frozen=True)
class Place:
    """A run within a study."""

    study: Study
    folder: Path  # the study's
    group: str  # the folder below it: the part that an ablation leaves out, or the trial of a sweep


def mark(folder: Path, study: Study) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / MARK, json.dumps(asdict(study), indent=2) + "\n")


def places(runs: list[Path]) -> dict[Path, Place]:
    """{folder of a run: its place}, for those that belong to a study; each folder is looked into once."""
    known: dict[Path, Study | None] = {}
    found = {}
    for run in runs:
        below = run
        for folder in run.absolute().parents[:_DEPTH]:
            if folder not in known:
                known[folder] = _read(folder / MARK)
            if study := known[folder]:
                found[run] = Place(study, folder, below.name)
                break
            below = folder
    return found


def _read(path: Path) -> Study | None:
    if not path.is_file():
        return None
    with reading(path, _WHAT, _REMEDY):
        content = json.loads(path.read_text(encoding="utf-8"))
    return made_of(Study, content, path, _REMEDY)

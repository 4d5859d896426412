"""A file read as the corpus that a person asked for: one of the catalogue, or one of their own."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml

from mer_lightning.data.catalogue import known_corpus
from mer_lightning.data.importing.arrays import ratings_for
from mer_lightning.data.importing.base import Reader, read_raw
from mer_lightning.data.raw import RawCorpus
from mer_lightning.errors import Refusal, did_you_mean
from mer_lightning.tasks import MultiLabel, Ratings, Regression, SingleLabel, Task, task_from_card
from mer_lightning.yaml_text import from_yaml

KINDS = ("regression", "ratings", "single_label", "multi_label")
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
_OTHER = "import it under a name of your own: --as other"


def refuse_strange_name(name: str) -> None:
    """It names a folder, and a command line says it."""
    if not _NAME.fullmatch(name):
        raise Refusal("--as", "a name of letters, digits, '.', '_' and '-'", f"'{name}'", "choose another one")


def read_asked(
    path: Path, name: str, reader: Reader, features: dict[str, str], task: str = "", classes: str = ""
) -> RawCorpus:
    """``path`` as the corpus ``name``.

    A corpus of the catalogue, or of a person's own catalogue, has its task. Any other one has the task that the file
    shows, or ``task``: a kind, or a card as the catalogue has it. ``classes`` says which class of the file stands for
    which class of the corpus.
    """
    entry = known_corpus(name)
    if entry is not None and task:
        raise Refusal("--task", f"none, because {name} has its own", task, f"leave it out, or {_OTHER}")
    if not classes:
        raw = read_raw(reader, path, entry, features)
        return _with_task(raw, task) if task else raw
    if entry is None:
        raise Refusal(
            "--classes",
            "a corpus whose classes are known",
            f"'{name}', whose classes are those of the file",
            "leave it out, or name a corpus of `mer-lightning data list`",
        )
    return _with_classes(read_raw(reader, path, None, features), entry.task, classes)


def _with_task(raw: RawCorpus, asked: str) -> RawCorpus:
    """The same labels, read as another task."""
    if asked in KINDS:
        task = _of_kind(raw, asked)
    else:
        try:
            task = task_from_card(from_yaml(asked))
        except (yaml.YAMLError, TypeError, ValueError, AttributeError) as error:
            card = "'{kind: ratings, targets: [valence], low: [1], high: [7]}'"
            expected = f"one of {', '.join(KINDS)}, or a card, e.g. {card}"
            raise Refusal("--task", expected, f"'{asked}'", str(error)) from error
    return replace(raw, task=task)


def _of_kind(raw: RawCorpus, kind: str) -> Task:
    names = getattr(raw.task, "classes", ()) or getattr(raw.task, "targets", ())
    target = np.asarray(raw.target, np.float64)
    known = target[np.isfinite(target)]
    whole = bool((known == np.rint(known)).all())
    if kind == "ratings":
        return raw.task if isinstance(raw.task, Ratings) else ratings_for(target, names if target.ndim == 2 else ())
    if kind == "regression" and target.ndim == 1 and np.abs(known).max(initial=0) <= 3:
        return Regression(1.0 if np.abs(known).max(initial=0) <= 1 else 3.0)
    if kind == "single_label" and target.ndim == 1 and whole and known.min(initial=0) >= 0:
        numbers = range(int(known.max(initial=0)) + 1)
        return raw.task if isinstance(raw.task, SingleLabel) else SingleLabel(tuple(map(str, numbers)))
    if kind == "multi_label" and target.ndim == 2 and np.isin(known, (0, 1)).all():
        return MultiLabel(tuple(names))
    needed = {
        "regression": "one number per sample within -3 and 3; other scales are --task ratings",
        "single_label": "one whole number per sample, from 0",
        "multi_label": "a column of 0 and 1 for each class",
    }[kind]
    found = f"labels from {known.min(initial=0):g} to {known.max(initial=0):g}, of shape {target.shape}"
    raise Refusal(raw.source, f"for --task {kind} {needed}", found, f"choose another of {', '.join(KINDS)}")


def _with_classes(raw: RawCorpus, task: Task, text: str) -> RawCorpus:
    """The labels of a file in the numbers of another task's classes."""
    mapped = _mapping(text)
    if not (isinstance(raw.task, SingleLabel) and isinstance(task, SingleLabel)):
        found = f"{raw.task.kind} in the file, {task.kind} in the corpus"
        raise Refusal("--classes", "one of several named classes in the file and in the corpus", found, _OTHER)
    for given, known, where in ((mapped, raw.task.classes, "the file"), (mapped.values(), task.classes, "the corpus")):
        if unknown := [each for each in given if each not in known]:
            remedy = did_you_mean(unknown[0], known, "name one of them", written="'{}'")
            raise Refusal("--classes", f"classes of {where}: {', '.join(known)}", f"'{unknown[0]}'", remedy)
    if left := [each for each in raw.task.classes if each not in mapped]:
        raise Refusal(
            "--classes", f"every class of the file: {', '.join(raw.task.classes)}", f"no '{left[0]}'", "add it"
        )
    numbers = np.array([task.classes.index(mapped[each]) for each in raw.task.classes])
    notes = [*raw.notes, "Classes were read as: " + ", ".join(f"{mine} as {theirs}" for mine, theirs in mapped.items())]
    return replace(raw, task=task, target=numbers[np.asarray(raw.target).astype(np.int64)], notes=notes)


def _mapping(text: str) -> dict[str, str]:
    try:
        mapped = from_yaml(text if text.strip().startswith("{") else f"{{{text}}}")
    except yaml.YAMLError:
        mapped = None
    if not isinstance(mapped, dict) or not mapped or not all(mapped.values()):
        raise Refusal("--classes", "'mine: theirs, ...', each class of the file", f"'{text}'", "write it so")
    return {str(mine): str(theirs) for mine, theirs in mapped.items()}

"""Pickles of conversations: those of DialogueRNN, DialogueGCN, bc-LSTM, MMGCN and their kin.

One list or tuple of dicts {dialogue: one entry per turn}, and of two collections of dialogues:

    ids, speakers, labels, one dict or more of features, sentences, dialogues to train on, dialogues to test on

What follows, such as MELD's three sentiments, is not read. The features are text; text and audio; or text, audio and
vision, in this order. A file with more dicts of features needs to be told which is which, by their positions.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mer_lightning.data.catalogue import CatalogueEntry
from mer_lightning.data.importing.arrays import string, task_for_numbers
from mer_lightning.data.importing.base import Reader
from mer_lightning.data.importing.folds import FOLDS_NOTE, session_folds
from mer_lightning.data.importing.unpickle import load_pickle
from mer_lightning.data.raw import PackedSequences, RawCorpus, Sequences
from mer_lightning.data.store import carve_valid, partition_from
from mer_lightning.errors import Refusal, reading
from mer_lightning.modalities import MODALITIES
from mer_lightning.tasks import SingleLabel, Task

_EXPECTED = "dicts of ids, speakers, labels, features and sentences by dialogue, then dialogues to train and to test on"
_REMEDY = "check that this is the file of features and not that of sentences alone"
_FIRST = 3  # position of the first dict of features
# The classes of these files in the order of their numbers, by the first word of their names.
_CLASSES = {
    "iemocap": ("happy", "sad", "neutral", "angry", "excited", "frustrated"),
    "meld": ("neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger"),
}

Items = list[dict[str, Any]]


class Conversations(Reader):
    name = "conversations"
    describes = "pickle of conversations (DialogueRNN, MMGCN): IEMOCAP_features.pkl, MELD_features_raw.pkl"
    suffixes = (".pkl", ".pickle")

    def detects(self, path: Path) -> bool:
        if not path.is_file() or path.suffix not in self.suffixes:
            return False
        try:
            return len(_dicts(load_pickle(path))) > _FIRST + 1
        except Refusal:
            return False

    def read(self, path: Path, entry: CatalogueEntry | None, features: dict[str, str]) -> RawCorpus:
        content = load_pickle(path)
        items = _dicts(content)
        if len(items) <= _FIRST + 1 or len(content) < len(items) + 2:
            kinds = ", ".join(type(each).__name__ for each in content) if isinstance(content, list | tuple) else "other"
            raise Refusal(path, _EXPECTED, kinds[:200], _REMEDY)
        train, test = (_names(path, each) for each in content[len(items) : len(items) + 2])
        ids, speakers, labels, *_ = items
        dialogues = sorted(name for name in ids if string(name) in train | test)
        turns = [(dialogue, turn) for dialogue in dialogues for turn in range(len(ids[dialogue]))]
        groups = [string(dialogue) for dialogue, _ in turns]
        split = carve_valid(partition_from(["test" if each in test else "train" for each in groups]), groups)
        notes = ["The file has no validation set: whole dialogues with about 15 % of its training turns became one."]
        partitions = {"official": split}
        if all(each.startswith("Ses0") for each in groups):
            partitions |= session_folds(groups, path)
            notes.append(FOLDS_NOTE)
        target, task = _labels(path, _flat(path, "labels", labels, ids, turns), entry)
        with reading(path, _EXPECTED, _REMEDY):
            read = {
                modality: _features(path, modality, items[position], ids, turns)
                for modality, position in _positions(path, items, features).items()
            }
            columns = {
                "dialogue": groups,
                "turn": [str(turn) for _, turn in turns],
                "speaker": [_speaker(each) for each in _flat(path, "speakers", speakers, ids, turns)],
                "sentence": [string(each) for each in _flat(path, "sentences", items[-1], ids, turns)],
            }
            names = [string(each) for each in _flat(path, "ids", ids, ids, turns)]
        if len(set(names)) < len(names):  # MELD counts the turns of each dialogue from 0
            names = [f"{dialogue}_{name}" for dialogue, name in zip(groups, names, strict=True)]
        return RawCorpus(
            format=self.name,
            source=path,
            task=task,
            alignment="utterance",
            features=read,
            feature_set={modality: f"{path.stem} {each.width}" for modality, each in read.items()},
            target=target,
            ids=names,
            partitions=partitions,
            groups=groups,
            columns=columns,
            notes=notes,
        )


def _dicts(content: Any) -> Items:
    """The dicts at the beginning of a list or tuple that have the same dialogues as the first one."""
    if not isinstance(content, list | tuple) or not content or not isinstance(content[0], dict):
        return []
    return list(takewhile(lambda each: isinstance(each, dict) and each.keys() == content[0].keys(), content))


def _names(path: Path, dialogues: Any) -> set[str]:
    if not isinstance(dialogues, list | tuple | set | frozenset | np.ndarray):
        raise Refusal(path, _EXPECTED, f"a {type(dialogues).__name__} in place of dialogues", _REMEDY)
    return {string(each) for each in dialogues}


def _flat(path: Path, what: str, item: Mapping[str, Any], ids: Mapping[str, Any], turns: list[Any]) -> list[Any]:
    """What a dict holds of every turn."""
    for dialogue, _ in turns:
        found = len(item[dialogue]) if isinstance(item[dialogue], list | tuple | np.ndarray) else "no list"
        if found != len(ids[dialogue]):
            expected = f"{len(ids[dialogue])} {what} in dialogue {dialogue}"
            raise Refusal(path, expected, str(found), "copy or make the file again")
    return [item[dialogue][turn] for dialogue, turn in turns]


def _positions(path: Path, items: Items, features: dict[str, str]) -> dict[str, int]:
    """{modality: position in the file} of the dicts between labels and sentences."""
    positions = range(_FIRST, len(items) - 1)
    if not features and len(positions) <= len(MODALITIES):
        return dict(zip(MODALITIES, positions, strict=False))
    chosen = {modality: int(name) if name.isdecimal() else -1 for modality, name in features.items()}
    if not chosen or not set(chosen.values()) <= set(positions):
        found = ", ".join(f"{position}: {_width(items[position])} wide" for position in positions)
        remedy = f"say which is which, e.g. --features text={_FIRST},audio={_FIRST + 1}"
        raise Refusal(path, "features of up to three modalities, or their positions", found, remedy)
    return {modality: chosen[modality] for modality in MODALITIES if modality in chosen}


def _width(item: dict[str, Any]) -> int:
    turns = next(iter(item.values()))
    return int(np.size(turns[0])) if len(turns) else 0


def _features(path: Path, modality: str, item: dict[str, Any], ids: Mapping[str, Any], turns: list[Any]) -> Sequences:
    vectors = [np.asarray(each).reshape(-1) for each in _flat(path, f"vectors of {modality}", item, ids, turns)]
    widths = sorted({len(each) for each in vectors})
    if len(widths) != 1 or widths == [0] or vectors[0].dtype.kind not in "biuf":
        found = f"widths {', '.join(map(str, widths[:5]))} of {vectors[0].dtype}" if vectors else "nothing"
        raise Refusal(path, f"numbers of one width in {modality}", found, _REMEDY)
    return PackedSequences(np.stack(vectors), np.ones(len(vectors), np.int64))


def _labels(path: Path, values: list[Any], entry: CatalogueEntry | None) -> tuple[NDArray[Any], Task]:
    """Classes in the order of ``entry``, or of the file; or numbers."""
    with reading(path, "a number as label of every turn", _REMEDY):
        target = np.array([float(each) for each in values])
    own = next((names for name, names in _CLASSES.items() if path.name.lower().startswith(name)), ())
    whole = target.size > 0 and bool((target == np.rint(target)).all()) and target.min() >= 0
    if entry is not None and entry.name in _CLASSES:
        own = _CLASSES[entry.name]
    classes: tuple[str, ...] = getattr(entry.task, "classes", ()) if entry else ()
    if not whole or (entry is not None and entry.task.kind != "single_label"):
        return target, entry.task if entry else task_for_numbers(target)
    target = target.astype(np.int64)
    if len(own) != target.max() + 1:
        names = tuple(map(str, range(int(target.max()) + 1)))
        return target, entry.task if entry else SingleLabel(names)
    if not classes or set(classes) != set(own):
        if entry is not None:
            remedy = "say which is which, --classes '{mine: theirs, ...}', or import it under a name of your own"
            raise Refusal(path, f"the classes of {entry.name}, {', '.join(classes)}", ", ".join(own), remedy)
        return target, SingleLabel(own)
    return np.array([classes.index(name) for name in own])[target], entry.task  # type: ignore[union-attr]


def _speaker(value: Any) -> str:
    """A name, or the position of the 1 in a row of 0 and 1."""
    if isinstance(value, list | tuple | np.ndarray) and np.size(value) > 1:
        return str(int(np.argmax(np.asarray(value, np.float64))))
    return string(value)

"""Folders of MMIN and its successors: frames in HDF5, one data set per utterance, and ten folds of labels.

    A/comparE.h5 (T, 130), V/denseface.h5 (T, 342), L/bert_large.h5 (T, 1024)
    target/<fold 1..10>/{trn,val,tst}_label.npy and {trn,val,tst}_int2name.npy

The features and the folder `target` may be up to two levels below the given folder. Each utterance is stored once, and
each fold becomes a partition.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mer_lightning.data.catalogue import CatalogueEntry
from mer_lightning.data.importing.base import Reader
from mer_lightning.data.importing.feature_files import read_npy
from mer_lightning.data.importing.hdf5 import H5File
from mer_lightning.data.raw import SPLITS, UNUSED, LoadedSequences, RawCorpus
from mer_lightning.errors import Refusal
from mer_lightning.tasks import SingleLabel

FEATURES = {"text": "bert_large", "audio": "comparE", "vision": "denseface"}
_FOLDERS = {"text": "L", "audio": "A", "vision": "V"}
_SETS = dict(zip(("trn", "val", "tst"), SPLITS, strict=True))
_DEPTH = 2  # levels of folders to search; more would be slow, because every path that a user gives is searched
# How many utterances of IEMOCAP have each of the four labels. All counts differ, so a count identifies its class.
_IEMOCAP4 = {1636: "happy", 1084: "sad", 1708: "neutral", 1103: "angry"}

Labels = dict[str, dict[str, Any]]  # {fold: {utterance: (split, class)}}


class MMIN(Reader):
    name = "mmin"
    describes = "MMIN folder: A/comparE.h5, V/denseface.h5, L/bert_large.h5 and target/<fold>/*_label.npy"

    def detects(self, path: Path) -> bool:
        try:
            return _find(path, _holds_features) is not None and _find(path, _holds_target) is not None
        except OSError:  # not a folder, or one that may not be read
            return False

    def read(self, path: Path, entry: CatalogueEntry | None, features: dict[str, str]) -> RawCorpus:
        feature_root = _find(path, _holds_features)
        target_root = _find(path, _holds_target)
        if feature_root is None or target_root is None:
            expected = f"folders A, V and L, and 1/trn_label.npy, up to {_DEPTH} levels below"
            found = "no folders A, V and L" if feature_root is None else "no 1/trn_label.npy"
            raise Refusal(path, expected, found, "give the folder that holds both")
        folds = _read_folds(target_root)
        ids = sorted({utterance for fold in folds.values() for utterance in fold})
        classes = {utterance: number for fold in folds.values() for utterance, (_, number) in fold.items()}
        notes = [
            "MMIN normalises audio in training. The features of this corpus are those of the file, not normalised."
        ]
        target, task = _name_classes(np.array([classes[name] for name in ids]), entry, target_root, notes)
        read = {}
        for modality, name in (FEATURES | features).items():
            if modality not in _FOLDERS:
                raise Refusal(path, f"modalities {', '.join(_FOLDERS)}", f"'{modality}'", "name one of those")
            read[modality] = _read_h5(feature_root / _FOLDERS[modality] / f"{name}.h5", ids, modality, notes)
        partitions = {f"fold-{fold}": _partition(labels, ids) for fold, labels in folds.items()}
        groups = [name.rsplit("_", 1)[0] for name in ids]
        if _splits_share_groups(partitions, groups):
            notes.append("The folds leave out speakers: a dialogue can have utterances in more than one split.")
        return RawCorpus(
            format=self.name,
            source=path,
            task=task,
            alignment="unaligned",
            features=dict(read),
            feature_set={m: f"{(FEATURES | features)[m]} {read[m].width}" for m in read},
            target=target,
            ids=ids,
            partitions=partitions,
            groups=groups,
            notes=notes,
        )


def _holds_features(folder: Path) -> bool:
    return all((folder / name).is_dir() and any((folder / name).glob("*.h5")) for name in _FOLDERS.values())


def _holds_target(folder: Path) -> bool:
    return (folder / "1" / "trn_label.npy").is_file()


def _find(folder: Path, fits: Callable[[Path], bool], depth: int = _DEPTH) -> Path | None:
    """The given folder or a folder below it for which ``fits`` is true: the highest, and of those the first by name."""
    level = [folder]
    for _ in range(depth + 1):
        for candidate in level:
            if fits(candidate):
                return candidate
        level = [sub for candidate in level for sub in sorted(candidate.iterdir()) if sub.is_dir()]
    return None


def _read_folds(root: Path) -> Labels:
    folds: Labels = {}
    known: dict[str, int] = {}
    for folder in sorted((f for f in root.iterdir() if f.is_dir() and f.name.isdigit()), key=lambda f: int(f.name)):
        fold = folds.setdefault(folder.name, {})
        for prefix, split in _SETS.items():
            for utterance, number in _read_set(folder, prefix):
                if utterance in fold:
                    raise Refusal(folder, "each utterance in one set", f"'{utterance}' in two", "make the folds again")
                if known.setdefault(utterance, number) != number:
                    found = f"classes {known[utterance]} and {number} for '{utterance}'"
                    raise Refusal(folder, "one label per utterance in all folds", found, "make the folds again")
                fold[utterance] = (split, number)
    return folds


def _read_set(folder: Path, prefix: str) -> list[tuple[str, int]]:
    label_path, name_path = folder / f"{prefix}_label.npy", folder / f"{prefix}_int2name.npy"
    for path in (label_path, name_path):
        if not path.is_file():
            raise Refusal(path, "a file of MMIN's labels", "nothing there", "copy the whole fold")
    labels, names = read_npy(label_path), read_npy(name_path)
    if labels.ndim == 2 and ((labels == 1).sum(axis=1) == 1).all():
        labels = labels.argmax(axis=1)
    if labels.ndim != 1 or len(labels) != len(names):
        found = f"labels of shape {labels.shape} for {len(names)} names"
        raise Refusal(label_path, "one class, or one one-hot row, per name", found, "make the folds again")
    utterances = [row[0] if isinstance(row, (np.ndarray, list, tuple)) else row for row in names]
    decoded = [name.decode() if isinstance(name, bytes) else str(name) for name in utterances]
    return list(zip(decoded, labels.astype(int).tolist(), strict=True))


def _name_classes(
    numbers: NDArray[Any], entry: CatalogueEntry | None, where: Path, notes: list[str]
) -> tuple[NDArray[Any], SingleLabel]:
    """The labels in the order of ``entry``'s classes, if the counts of the labels identify the classes.

    MMIN's files contain numbers of classes and no names, and its repository does not document their order.
    """
    counts = np.bincount(numbers).tolist()
    if entry is not None and (not isinstance(entry.task, SingleLabel) or entry.task.outputs != len(counts)):
        remedy = "choose the corpus of these labels with --as"
        raise Refusal(where, f"labels of {entry.name} ({entry.task.kind})", f"{len(counts)} classes", remedy)
    if sorted(counts) == sorted(_IEMOCAP4) and entry is not None and isinstance(entry.task, SingleLabel):
        order = [entry.task.classes.index(_IEMOCAP4[count]) for count in counts]
        notes.append("The classes were recognised by how often each occurs in IEMOCAP.")
        return np.array(order)[numbers], entry.task
    notes.append("The label files contain numbers of classes and no names: classes are called by these numbers.")
    return numbers, SingleLabel(tuple(f"class {number}" for number in range(len(counts))))


def _read_h5(path: Path, ids: list[str], modality: str, notes: list[str]) -> LoadedSequences:
    if not path.is_file():
        others = ", ".join(sorted(file.name for file in path.parent.glob("*.h5"))) or "no .h5"
        raise Refusal(path, f"the {modality} features", others, f"name another file with --features {modality}=NAME")
    file = H5File(path)
    existing = set(file.names())
    shapes = {name: file.shape(name) for name in ids if name in existing}
    if not shapes:
        remedy = "check that features and labels belong together"
        raise Refusal(path, f"data sets named like '{ids[0]}'", f"{len(existing)} others", remedy)
    widths = Counter(shape[-1] for shape in shapes.values() if len(shape) == 2)
    if len(widths) != 1 or widths.total() != len(shapes):
        odd = next(name for name in shapes if len(shapes[name]) != 2 or shapes[name][1] != max(widths, default=0))
        remedy = "check how the features were extracted"
        raise Refusal(path, "frames (T, D) of one width", f"shape {shapes[odd]} for '{odd}'", remedy)
    if absent := len(ids) - len(shapes):
        notes.append(
            f"{absent} of {len(ids)} utterances have no {modality} features in {path.name}; it counts as missing."
        )
    if modality == "audio" and path.with_name(f"{path.stem}_mean_std.h5").is_file():
        notes.append(
            f"{path.stem}_mean_std.h5 holds the mean and deviation of each fold's training audio. It is not used."
        )
    lengths = [shapes[name][0] if name in shapes else 0 for name in ids]
    return LoadedSequences(lambda i: file.array(ids[i]), lengths, next(iter(widths)))


def _partition(labels: dict[str, Any], ids: list[str]) -> NDArray[np.int8]:
    splits = [SPLITS.index(labels[name][0]) if name in labels else UNUSED for name in ids]
    return np.array(splits, dtype=np.int8)


def _splits_share_groups(partitions: dict[str, NDArray[np.int8]], groups: list[str]) -> bool:
    for partition in partitions.values():
        seen = {(group, int(split)) for group, split in zip(groups, partition, strict=True) if split != UNUSED}
        if len(seen) > len({group for group, _ in seen}):
            return True
    return False

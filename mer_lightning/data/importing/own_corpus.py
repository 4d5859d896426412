"""A corpus of one's own from arrays with the names that docs/reference/npz-format.md gives them.

Readers of other containers bring what they find into these names, and leave the rest to this file.

Shapes: N samples, L longest sequence, D width, C classes, T targets.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mer_lightning.data.catalogue import CatalogueEntry
from mer_lightning.data.importing.arrays import (
    lengths_without_padding,
    numbers,
    padded,
    padded_numbers,
    per_sample,
    strings,
    task_for_numbers,
)
from mer_lightning.data.raw import SPLITS, UNUSED, Alignment, PackedSequences, Padding, RawCorpus, Sequences
from mer_lightning.data.store import carve_valid
from mer_lightning.errors import Refusal
from mer_lightning.modalities import MODALITIES
from mer_lightning.tasks import MultiLabel, SingleLabel, Task

KNOWN = {
    "ids",
    "label",
    "classes",
    "targets",
    "ranges",
    "video_id",
    "split",
    *MODALITIES,
    *(f"{m}_lengths" for m in MODALITIES),
}
_GROUPS = ("video_id", "dialogue")  # what must not be in two splits, by the first of these names
DID_YOU_MEAN = "did you mean"
HELP = "see mer-lightning docs npz-format"
_CARVED = "Partition '{}' has no valid split: whole videos with about 15 % of its training samples became one."

SPLIT_NAMES = {split: split for split in SPLITS} | dict.fromkeys(("val", "dev", "validation"), "valid")

Arrays = dict[str, NDArray[Any]]


def texts(values: Sequence[str]) -> NDArray[Any]:
    """One array of texts, of which a long one does not make all others as long."""
    return np.array(values, dtype=object)


def misspelt(names: Collection[str]) -> list[str]:
    """A note on each array whose name is nearly one that is needed, and is not there."""
    near = {name: get_close_matches(name, KNOWN - set(names), 1, 0.8) for name in sorted(set(names) - KNOWN)}
    return [f"Array {name}: {DID_YOU_MEAN} {meant[0]}?" for name, meant in near.items() if meant]


def own_corpus(
    format: str,
    path: Path,
    arrays: Arrays,
    entry: CatalogueEntry | None,
    notes: list[str],
    sequences: dict[str, Sequences] | None = None,
    feature_set: dict[str, str] | None = None,
    padding: Padding = "none",
) -> RawCorpus:
    """The corpus of ``arrays``. ``sequences`` are given where the features are not among them."""
    if missing := [key for key in ("ids", "label") if key not in arrays]:
        near = get_close_matches(missing[0], arrays, 1, 0.8)
        remedy = f"{DID_YOU_MEAN} that with {near[0]}? {HELP}" if near else HELP
        raise Refusal(path, f"an array '{missing[0]}'", f"only {', '.join(sorted(arrays))}", remedy)
    ids = strings(path, "ids", arrays["ids"])
    n = len(ids)
    task, target = labels_of(path, arrays, n, entry)
    if sequences is None:
        padding = "end" if any(arrays[each].ndim == 3 for each in MODALITIES if each in arrays) else "none"
        sequences = features_of(path, arrays, n)
    columns, notes = _columns(path, arrays, n, notes)
    groups = next((columns[name] for name in _GROUPS if name in columns), ids)
    if groups is ids:
        notes.append(
            "No video_id or dialogue: each sample is a group of its own, even if several samples are of one video."
        )
    partitions = _partitions(path, arrays, n)
    for name, partition in partitions.items():
        if not (partition == SPLITS.index("valid")).any():
            partitions[name] = carve_valid(partition, groups)
            notes.append(_CARVED.format(name))
    return RawCorpus(
        format=format,
        source=path,
        task=task,
        alignment=alignment_of(sequences),
        features=sequences,
        feature_set=feature_set or {modality: f"{path.stem} {each.width}" for modality, each in sequences.items()},
        target=target,
        ids=ids,
        partitions=partitions,
        groups=groups,
        columns={name: column for name, column in columns.items() if name != "video_id"},
        padding=padding,
        notes=notes,
    )


def _columns(path: Path, arrays: Arrays, n: int, notes: list[str]) -> tuple[dict[str, list[str]], list[str]]:
    """({name: one text per sample} of every array that the format has no other use for, notes with the others)."""
    columns, left = {}, []
    for name, values in arrays.items():
        if (name in KNOWN and name != "video_id") or name.startswith("split_"):
            continue
        if values.shape == (n,) and name not in ("id", "group"):
            columns[name] = strings(path, name, values, n)
        else:
            left.append(name)
    return columns, [*notes, *([f"Arrays that were not read: {', '.join(left)}."] if left else [])]


def features_of(path: Path, arrays: Arrays, n: int) -> dict[str, Sequences]:
    """Sequences from arrays (N, D), one step each; (N, L, D), padded at the end; or (sum of lengths, D), joined."""
    sequences: dict[str, Sequences] = {}
    without_lengths: Arrays = {}
    for modality in MODALITIES:
        if modality not in arrays:
            continue
        values = numbers(path, modality, arrays[modality])
        if values.ndim not in (2, 3):
            raise Refusal(path, f"(N, D), (N, L, D) or (sum of lengths, D) in {modality}", f"{values.shape}", HELP)
        key = f"{modality}_lengths"
        if key not in arrays:
            steps = values[:, None] if values.ndim == 2 else values
            without_lengths[modality] = padded_numbers(path, modality, steps, n)
            continue
        lengths = per_sample(path, key, arrays[key], n)
        if values.ndim == 3:
            sequences[modality] = padded(path, modality, padded_numbers(path, modality, values, n), lengths)
        elif len(values) == lengths.sum() and (lengths >= 0).all():
            sequences[modality] = PackedSequences(values, lengths)
        elif len(values) == n and set(np.unique(lengths)) <= {0, 1}:
            sequences[modality] = padded(path, modality, values[:, None], lengths)  # absent where the length is 0
        else:
            expected = f"{lengths.sum()} rows in {modality}, the sum of {key}"
            raise Refusal(path, expected, f"{len(values)}", "put the steps of all samples one after the other")
    for modality, lengths in lengths_without_padding(without_lengths).items():
        sequences[modality] = padded(path, modality, without_lengths[modality], lengths)
    return {modality: sequences[modality] for modality in MODALITIES if modality in sequences}


def alignment_of(features: dict[str, Sequences]) -> Alignment:
    if all(each.lengths.max(initial=0) <= 1 for each in features.values()):
        return "utterance"
    lengths = np.stack([each.lengths for each in features.values()])
    longest = lengths.max(axis=0)
    return "aligned" if ((lengths == longest) | (lengths == 0)).all() else "unaligned"


def labels_of(path: Path, arrays: Arrays, n: int, entry: CatalogueEntry | None) -> tuple[Task, NDArray[Any]]:
    label = numbers(path, "label", arrays["label"], n)
    label = label.reshape(n) if label.size == n else label
    classes = tuple(strings(path, "classes", arrays["classes"])) if "classes" in arrays else ()
    if label.ndim > 2:
        raise Refusal(path, f"labels of shape ({n},) or ({n}, C)", f"{label.shape}", HELP)
    task = entry.task if entry else _task(path, arrays, label, classes)
    if entry is not None and classes and getattr(task, "classes", None) != classes:
        raise _other_labels(path, entry, f"the classes {', '.join(classes)}")
    if task.outputs > 1 and task.kind != "single_label" and label.shape != (n, task.outputs):
        raise Refusal(path, f"labels of shape ({n}, {task.outputs}), one column each", f"{label.shape}", HELP)
    if task.kind == "single_label":
        known = label[np.isfinite(label)]
        if label.ndim > 1 or not np.isin(known, range(task.outputs)).all():
            found = f"{label.min()} to {label.max()}" if label.ndim == 1 else f"{label.shape}"
            expected = f"labels 0 to {task.outputs - 1}, the positions in classes"
            raise Refusal(path, expected, found, "number the classes 0, 1, 2, ...")
    return task, label


def _task(path: Path, arrays: Arrays, label: NDArray[Any], classes: tuple[str, ...]) -> Task:
    """What the file says: classes, or named targets, or numbers."""
    names = strings(path, "targets", arrays["targets"]) if "targets" in arrays else []
    columns = label.shape[1] if label.ndim == 2 else 1
    if classes and (names or "ranges" in arrays):
        raise Refusal(path, "classes, or targets with ranges", "both", "leave one of them out")
    if classes:
        return SingleLabel(classes) if label.ndim == 1 else MultiLabel(classes)
    ranges = numbers(path, "ranges", arrays["ranges"]) if "ranges" in arrays else np.zeros((0, 2))
    if (names and len(names) != columns) or (len(ranges) and ranges.shape != (columns, 2)):
        expected = f"{columns} names in targets, and ranges of shape ({columns}, 2), as label has columns"
        raise Refusal(path, expected, f"{len(names)} names and {ranges.shape}", HELP)
    try:
        return task_for_numbers(label, names, [(low, high) for low, high in ranges.tolist()])
    except ValueError as error:
        raise Refusal(path, "ranges from a lower to a higher number", str(error), HELP) from error


def _other_labels(path: Path, entry: CatalogueEntry, found: str) -> Refusal:
    task = entry.task
    classes: tuple[str, ...] = getattr(task, "classes", ())
    expected = f"the classes of {entry.name}, {', '.join(classes)}" if classes else f"numbers, as {entry.name} has them"
    way = "say which is which, --classes '{mine: theirs, ...}', or " if classes else ""
    return Refusal(path, expected, found, f"{way}import it under a name of your own: --as other")


def _partitions(path: Path, arrays: Arrays, n: int) -> dict[str, NDArray[np.int8]]:
    numbered = {given: SPLITS.index(split) for given, split in SPLIT_NAMES.items()} | {"": UNUSED}
    partitions: dict[str, NDArray[np.int8]] = {}
    keys = sorted(name for name in arrays if name == "split" or name.startswith("split_"))
    if not keys:
        raise Refusal(path, "an array 'split' or 'split_NAME'", f"only {', '.join(sorted(arrays))}", HELP)
    for key in keys:
        splits = strings(path, key, arrays[key], n)
        if unknown := sorted(set(splits) - set(numbered)):
            expected = f"{', '.join(SPLITS)}, or an empty string for unused samples, in {key}"
            raise Refusal(path, expected, f"'{unknown[0]}'", "rename it")
        name = "official" if key == "split" else key.removeprefix("split_")
        partitions[name] = np.array([numbered[split] for split in splits], np.int8)
    return partitions

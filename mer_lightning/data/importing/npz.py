"""A corpus of one's own: one .npz file of plain arrays, as docs/reference/npz-format.md describes it.

Shapes: N samples, L longest sequence, D width, C classes.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mer_lightning.data.catalogue import CatalogueEntry
from mer_lightning.data.corpus import Corpus, CorpusCard
from mer_lightning.data.importing.arrays import (
    lengths_without_padding,
    numbers,
    padded,
    padded_numbers,
    per_sample,
    regression_for,
    strings,
)
from mer_lightning.data.importing.base import Reader
from mer_lightning.data.importing.feature_files import NpzFile
from mer_lightning.data.raw import SPLITS, UNUSED, Alignment, PackedSequences, RawCorpus, Sequences
from mer_lightning.data.store import carve_valid, clean
from mer_lightning.errors import Refusal
from mer_lightning.modalities import MODALITIES
from mer_lightning.tasks import MultiLabel, Regression, SingleLabel, Task

_KNOWN = {
    "ids",
    "label",
    "classes",
    "video_id",
    "sentence",
    "split",
    *MODALITIES,
    *(f"{m}_lengths" for m in MODALITIES),
}
_HELP = "see docs/reference/npz-format.md"
_CARVED = "Partition '{}' has no valid split: whole videos with about 15 % of its training samples became one."

Arrays = dict[str, NDArray[Any]]


class NPZ(Reader):
    name = "npz"
    describes = "own features in one .npz, see docs/reference/npz-format.md"

    def detects(self, path: Path) -> bool:
        return bool(_names(path) & {*MODALITIES})

    def read(self, path: Path, entry: CatalogueEntry | None, features: dict[str, str]) -> RawCorpus:
        arrays, notes = _load(path)
        if missing := [key for key in ("ids", "label") if key not in arrays]:
            raise Refusal(path, f"an array '{missing[0]}'", f"only {', '.join(sorted(arrays))}", _HELP)
        ids = strings(path, "ids", arrays["ids"])
        n = len(ids)
        task, target = _labels(path, arrays, n, entry)
        sequences = _features(path, arrays, n)
        groups = strings(path, "video_id", arrays["video_id"], n) if "video_id" in arrays else ids
        if groups is ids:
            notes.append("No video_id: each sample is a group of its own, even if several samples are of one video.")
        partitions = _partitions(path, arrays, n)
        for name, partition in partitions.items():
            if not (partition == SPLITS.index("valid")).any():
                partitions[name] = carve_valid(partition, groups)
                notes.append(_CARVED.format(name))
        return RawCorpus(
            format=self.name,
            source=path,
            task=task,
            alignment=_alignment(sequences),
            features=sequences,
            feature_set={modality: f"{path.stem} {each.width}" for modality, each in sequences.items()},
            target=target,
            ids=ids,
            partitions=partitions,
            groups=groups,
            columns={"sentence": strings(path, "sentence", arrays["sentence"], n)} if "sentence" in arrays else {},
            padding="end" if any(arrays[modality].ndim == 3 for modality in sequences) else "none",
            notes=notes,
        )


def open_npz(path: Path) -> Corpus:
    """A file of features as a corpus in memory, for prediction. It may lack labels, splits and modalities.

    The task on its card is inferred from the labels. Without labels it is a placeholder that no code may read.
    """
    arrays, notes = _load(path)
    n = _samples(path, arrays)
    sequences = _features(path, arrays, n)
    task: Task = Regression()
    target: NDArray[Any] | None = None
    if "label" in arrays:
        task, target = _labels(path, arrays, n, None)
        if not np.isfinite(target).all():
            notes.append("Not every sample has a finite label: labels are left out.")
            target = None
    cleaned: dict[str, Counter[str]] = {modality: Counter() for modality in sequences}
    tensors = {}
    for modality, each in sequences.items():
        tensors[f"{modality}.values"] = torch.from_numpy(clean(each.packed(0, n), cleaned[modality]))
        tensors[f"{modality}.offsets"] = torch.from_numpy(np.concatenate([[0], np.cumsum(each.lengths)]))
    if target is not None:
        tensors["target"] = torch.from_numpy(target.astype(np.int64 if task.kind == "single_label" else np.float32))
    card = CorpusCard(
        name=path.stem,
        alignment=_alignment(sequences),
        task=task.card(),
        feature_set={modality: f"{path.stem} {each.width}" for modality, each in sequences.items()},
        dims={modality: each.width for modality, each in sequences.items()},
        samples=n,
        partitions={},
        sha256="",
        source={"file": path.name, "format": NPZ.name},
        cleaned={modality: dict(counts) for modality, counts in cleaned.items() if counts},
        notes=notes,
    )
    corpus = Corpus(card, tensors, folder=None)
    if "ids" in arrays:
        import pandas as pd

        corpus.samples = pd.DataFrame({"id": strings(path, "ids", arrays["ids"], n)})
    return corpus


def _names(path: Path) -> set[str]:
    try:
        return set(NpzFile(path).names)
    except Refusal:
        return set()


def _load(path: Path) -> tuple[Arrays, list[str]]:
    """The arrays that the format knows, and a note on all others."""
    archive = NpzFile(path)
    names = set(archive.names)
    wanted = {name for name in names if name in _KNOWN or name.startswith("split_")}
    if not wanted & {*MODALITIES}:
        raise Refusal(path, f"at least one array of {', '.join(MODALITIES)}", ", ".join(sorted(names)), _HELP)
    arrays = {name: archive.array(name, objects=False) for name in sorted(wanted)}
    for name, array in arrays.items():
        if array.ndim == 0 or len(array) == 0:
            raise Refusal(path, f"an array '{name}' with one row per sample", "a single value or nothing", _HELP)
    ignored = ", ".join(sorted(names - wanted))
    return arrays, [f"Arrays that were not read: {ignored}."] if ignored else []


def _samples(path: Path, arrays: Arrays) -> int:
    """The number of samples of a file that may have no ids: the number of its lengths, or of its rows of features."""
    counts = {len(arrays.get(f"{modality}_lengths", arrays[modality])) for modality in MODALITIES if modality in arrays}
    counts |= {len(arrays[name]) for name in ("ids", "label") if name in arrays}
    if len(counts) > 1:
        raise Refusal(path, "as many samples in each array", " and ".join(map(str, sorted(counts))), _HELP)
    return counts.pop()


def _features(path: Path, arrays: Arrays, n: int) -> dict[str, Sequences]:
    """Sequences from arrays (N, D), one step each; (N, L, D), padded at the end; or (sum of lengths, D), joined."""
    sequences: dict[str, Sequences] = {}
    without_lengths: Arrays = {}
    for modality in MODALITIES:
        if modality not in arrays:
            continue
        values = numbers(path, modality, arrays[modality])
        if values.ndim not in (2, 3):
            raise Refusal(path, f"(N, D), (N, L, D) or (sum of lengths, D) in {modality}", f"{values.shape}", _HELP)
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


def _alignment(features: dict[str, Sequences]) -> Alignment:
    if all(each.lengths.max(initial=0) <= 1 for each in features.values()):
        return "utterance"
    lengths = np.stack([each.lengths for each in features.values()])
    longest = lengths.max(axis=0)
    return "aligned" if ((lengths == longest) | (lengths == 0)).all() else "unaligned"


def _labels(path: Path, arrays: Arrays, n: int, entry: CatalogueEntry | None) -> tuple[Task, NDArray[Any]]:
    label = numbers(path, "label", arrays["label"], n)
    classes = tuple(strings(path, "classes", arrays["classes"])) if "classes" in arrays else ()
    task = entry.task if entry else None
    if task is None and classes:
        task = SingleLabel(classes) if label.size == n else MultiLabel(classes)
    if isinstance(task, SingleLabel | MultiLabel) and classes and task.classes != classes:
        expected = f"the classes {', '.join(task.classes)}"
        raise Refusal(path, expected, ", ".join(classes), "put labels and classes in the order of the corpus")
    if isinstance(task, MultiLabel):
        if label.shape != (n, len(task.classes)):
            expected = f"labels of shape ({n}, {len(task.classes)}), one column per class"
            raise Refusal(path, expected, f"{label.shape}", _HELP)
        return task, label
    label = per_sample(path, "label", label, n)
    if isinstance(task, SingleLabel) and not np.isin(label[np.isfinite(label)], range(len(task.classes))).all():
        expected = f"labels 0 to {len(task.classes) - 1}, the positions in classes"
        raise Refusal(
            path,
            expected,
            f"{label.min()} to {label.max()}",
            "number the classes 0, 1, 2, ...",
        )
    return task or regression_for(label), label


def _partitions(path: Path, arrays: Arrays, n: int) -> dict[str, NDArray[np.int8]]:
    numbered = {split: number for number, split in enumerate(SPLITS)} | {"": UNUSED}
    partitions: dict[str, NDArray[np.int8]] = {}
    keys = sorted(name for name in arrays if name == "split" or name.startswith("split_"))
    if not keys:
        raise Refusal(path, "an array 'split' or 'split_NAME'", f"only {', '.join(sorted(arrays))}", _HELP)
    for key in keys:
        splits = strings(path, key, arrays[key], n)
        if unknown := sorted(set(splits) - set(numbered)):
            expected = f"{', '.join(SPLITS)}, or an empty string for unused samples, in {key}"
            raise Refusal(path, expected, f"'{unknown[0]}'", "rename it")
        name = "official" if key == "split" else key.removeprefix("split_")
        partitions[name] = np.array([numbered[split] for split in splits], np.int8)
    return partitions

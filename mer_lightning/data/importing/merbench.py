"""Folders of MERBench (MERTools): labels in a .npz file, and a folder for each feature set.

    label.npz, or label_4way.npz and label_6way.npz (IEMOCAP), or label-6way.npz (MER2023)
    features/<feature set>/<name>.npy, or a folder <name>/ with one .npy per face
    transcription-engchi-polish.csv with the columns name, chinese, english

A feature set whose name ends in UTT has one vector per utterance. If a file has several rows, their mean is taken, as
MERBench does.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mer_lightning.data.catalogue import CatalogueEntry
from mer_lightning.data.importing.base import Reader
from mer_lightning.data.importing.feature_files import FileSequences, NpzFile, feature_folders, files_of
from mer_lightning.data.importing.folds import FOLDS_NOTE, session_folds
from mer_lightning.data.raw import Alignment, RawCorpus
from mer_lightning.data.store import carve_valid, partition_from
from mer_lightning.errors import Refusal
from mer_lightning.tasks import Regression, SingleLabel, Task

_NO_VALUE = -10  # what MERBench writes in 'val' where a corpus has classes only
_TRANSCRIPTIONS = ("transcription-engchi-polish.csv", "transcription.csv")

Labels = dict[str, dict[str, Any]]  # {name: {"emo": class, "val": number}}


class MERBench(Reader):
    name = "merbench"
    describes = "MERBench folder: label*.npz and features/<feature set>/<name>.npy"

    def detects(self, path: Path) -> bool:
        return path.is_dir() and any(path.glob("label*.npz")) and (path / "features").is_dir()

    def read(self, path: Path, entry: CatalogueEntry | None, features: dict[str, str]) -> RawCorpus:
        folders = _choose_features(path / "features", features)
        label_path = _choose_labels(path, entry)
        corpora = _read_labels(label_path)
        labels = {name: label for corpus in corpora.values() for name, label in corpus.items()}
        ids = list(labels)
        task = entry.task if entry else _infer_task(labels)
        groups = _groups(ids)
        notes: list[str] = []
        read = {}
        for modality, folder in folders.items():
            files = [files_of(folder, name) or [] for name in ids]
            read[modality] = FileSequences(folder, files, pooled=folder.name.endswith("UTT"))
            if absent := int((read[modality].lengths == 0).sum()):
                notes.append(f"{absent} of {len(ids)} samples have no {modality} features in {folder.name}.")
        alignment: Alignment = "utterance" if all(sequences.pooled for sequences in read.values()) else "unaligned"
        return RawCorpus(
            format=self.name,
            source=path,
            task=task,
            alignment=alignment,
            features=dict(read),
            feature_set={modality: f"{folders[modality].name} {read[modality].width}" for modality in read},
            target=_target(labels, task, label_path),
            ids=ids,
            partitions=_partitions(corpora, ids, groups, label_path, notes),
            groups=groups,
            columns=_transcriptions(path, ids),
            notes=notes,
        )


def _choose_features(root: Path, features: dict[str, str]) -> dict[str, Path]:
    if not features:
        existing = ", ".join(sorted(folder.name for folder in root.iterdir() if folder.is_dir())) or "none"
        remedy = "import it with --features text=A,audio=B,vision=C"
        raise Refusal(root, "the name of a feature set for each modality", f"these to choose from: {existing}", remedy)
    return feature_folders(root, features)


def _choose_labels(path: Path, entry: CatalogueEntry | None) -> Path:
    files = sorted(path.glob("label*.npz"))
    if len(files) > 1 and entry is not None:
        files = [file for file in files if f"{entry.task.outputs}way" in file.name]
    if len(files) != 1:
        existing = ", ".join(file.name for file in sorted(path.glob("label*.npz"))) or "none"
        remedy = "import it as a corpus with as many classes as one of them"
        raise Refusal(path, f"one label file{f' for {entry.name}' if entry else ''}", existing, remedy)
    return files[0]


def _read_labels(path: Path) -> dict[str, Labels]:
    """{corpus: labels} of a .npz file. Each of its members is a 0-d array that holds one pickled dict."""
    corpora: dict[str, Any] = {}
    archive = NpzFile(path)
    for member in archive.names:
        content = archive.array(member)
        corpora[member.removesuffix("_corpus")] = content.item() if content.ndim == 0 else content
    for key, labels in corpora.items():
        rows = labels.values() if isinstance(labels, dict) else [None]
        if not all(isinstance(row, dict) and {"emo", "val"} <= row.keys() for row in rows):
            expected = "{name: {'emo': class, 'val': number}} in every member"
            raise Refusal(path, expected, f"something else in '{key}'", "check that this is MERBench's label file")
    if "whole" not in corpora and not ("train" in corpora and any(key.startswith("test") for key in corpora)):
        found = ", ".join(f"{key}_corpus" for key in corpora) or "nothing"
        remedy = "check that this is MERBench's label file"
        raise Refusal(path, "whole_corpus, or train_corpus and test_corpus", found, remedy)
    return corpora


def _infer_task(labels: Labels) -> Task:
    """The task that the labels fit. If a corpus has sentiment only, MERBench writes class 0 for all samples.

    Sentiment is between -1 and 1 in SIMS, and between -3 and 3 in MOSI and MOSEI.
    """
    classes = {row["emo"] for row in labels.values()}
    if classes == {0}:
        return Regression(limit=3.0 if max(abs(float(row["val"])) for row in labels.values()) > 1 else 1.0)
    if all(isinstance(name, str) for name in classes):
        return SingleLabel(tuple(sorted(classes)))
    return SingleLabel(tuple(f"class {number}" for number in range(int(max(classes)) + 1)))


def _target(labels: Labels, task: Task, where: Path) -> NDArray[Any]:
    def all_of(key: str, convert: Callable[[Any], Any], expected: str) -> NDArray[Any]:
        values = []
        for name, row in labels.items():
            try:
                values.append(convert(row[key]))
            except (ValueError, TypeError) as error:
                found = f"{row[key]!r} for '{name}'"
                raise Refusal(where, expected, found, "choose the corpus of these labels with --as") from error
        return np.array(values)

    def value(stored: Any) -> float:
        if float(stored) == _NO_VALUE:
            raise ValueError("MERBench's placeholder")
        return float(stored)

    if isinstance(task, Regression):
        return all_of("val", value, "a sentiment value for every sample")
    if isinstance(task, SingleLabel):
        classes = task.classes
        names = f"one of the classes {', '.join(classes)}, or its number"
        return all_of("emo", lambda stored: classes.index(stored) if isinstance(stored, str) else int(stored), names)
    remedy = "import it as a corpus with one label per sample"
    raise Refusal(where, "a task for which these labels are enough", f"{task.kind}", remedy)


def _groups(ids: list[str]) -> list[str]:
    """The video or dialogue of each sample: its name without the number of the clip.

    If all names have the same beginning, as in MER2023, which numbers all clips in one row, each sample is a group of
    its own.
    """
    groups = [re.sub(r"_[^_]*$", "", name) for name in ids]
    return groups if len(set(groups)) > 1 else ids


def _partitions(
    corpora: dict[str, Labels], ids: list[str], groups: list[str], where: Path, notes: list[str]
) -> dict[str, NDArray[np.int8]]:
    """``official``, or one partition per test set (MER2023 has three), or five folds of IEMOCAP's sessions."""
    if "whole" in corpora:
        notes.append(FOLDS_NOTE)
        return session_folds(groups, where)
    partitions = {}
    for key in corpora:
        if not key.startswith("test"):
            continue
        splits = {"train": corpora["train"], "valid": corpora.get("val", {}), "test": corpora[key]}
        twice = [
            name for name, count in Counter(name for split in splits.values() for name in split).items() if count > 1
        ]
        if twice:
            raise Refusal(where, "each sample in one split", f"'{twice[0]}' in two", "repair the label file")
        split_of = {name: split for split, labels in splits.items() for name in labels}
        partition = partition_from([split_of.get(name, "") for name in ids])
        if "val" not in corpora:
            partition = carve_valid(partition, groups)
        partitions["official" if key == "test" else key] = partition
    if "val" not in corpora:
        notes.append("The file has no validation set: one is carved from the training set by whole groups.")
    return partitions


def _transcriptions(path: Path, ids: list[str]) -> dict[str, list[str]]:
    """The columns of texts: ``sentence`` in English if the file has it, else in Chinese; with both also ``chinese``."""
    file = next((path / name for name in _TRANSCRIPTIONS if (path / name).is_file()), None)
    if file is None:
        return {}
    with open(file, encoding="utf-8-sig", newline="") as stream:
        rows = {row.get("name", ""): row for row in csv.DictReader(stream)}
    languages = [key for key in ("english", "chinese") if any(key in row for row in rows.values())]
    names = dict(zip(("sentence", "chinese"), languages, strict=False))
    return {name: [rows.get(i, {}).get(key) or "" for i in ids] for name, key in names.items()}

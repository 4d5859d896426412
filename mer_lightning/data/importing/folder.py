"""A folder of one's own: a table of labels, and the features of each modality in files beside it.

    labels.csv or labels.parquet     id, split, label, and columns of one's own
    text/ID.npy                      one file per sample, (D,) or (T, D), in a folder for each set of features
    text.csv or text.parquet         or all of them in one table: id, and D columns of numbers; several rows are steps

docs/reference/folder-format.md describes it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mer_lightning.data.catalogue import CatalogueEntry
from mer_lightning.data.importing.base import Reader
from mer_lightning.data.importing.csv_file import csv_columns, csv_features
from mer_lightning.data.importing.feature_files import FileSequences, files_of
from mer_lightning.data.importing.label_columns import is_label, label_arrays
from mer_lightning.data.importing.own_corpus import Arrays, own_corpus, texts
from mer_lightning.data.raw import PackedSequences, RawCorpus, Sequences
from mer_lightning.data.tables import read_table
from mer_lightning.errors import Refusal
from mer_lightning.modalities import MODALITIES

_LABELS = ("labels.csv", "labels.parquet")
_TABLES = (".csv", ".parquet")
_HELP = "see mer-lightning docs folder-format"


class Folder(Reader):
    name = "folder"
    describes = "own folder: labels.csv, features as text/ID.npy or text.csv, see mer-lightning docs folder-format"

    def detects(self, path: Path) -> bool:
        return path.is_dir() and any((path / name).is_file() for name in _LABELS)

    def read(self, path: Path, entry: CatalogueEntry | None, features: dict[str, str]) -> RawCorpus:
        table = _one(path, [path / name for name in _LABELS], "a table of labels")
        columns = _columns(table)
        if "id" not in columns:
            raise Refusal(table, "a column 'id'", f"only {', '.join(columns)}", _HELP)
        ids = columns.pop("id")
        arrays: Arrays = {"ids": texts(ids), **label_arrays(table, columns, entry)}
        arrays |= {name: texts(cells) for name, cells in columns.items() if not is_label(name)}
        notes: list[str] = []
        places = _places(path, features)
        sequences = {modality: _features(place, ids, modality, notes) for modality, place in places.items()}
        names = {m: place.stem if place.is_file() else place.name for m, place in places.items()}
        feature_set = {modality: f"{names[modality]} {sequences[modality].width}" for modality in sequences}
        return own_corpus(self.name, path, arrays, entry, notes, sequences, feature_set)


def _one(folder: Path, candidates: list[Path], what: str) -> Path:
    found = [each for each in candidates if each.exists()]
    if len(found) == 1:
        return found[0]
    names = " or ".join(each.name for each in candidates)
    present = " and ".join(each.name for each in found) or "none of them"
    raise Refusal(folder, f"{what}: {names}", present, "keep one of them" if found else _HELP)


def _columns(table: Path) -> dict[str, list[str]]:
    if table.suffix == ".csv":
        return csv_columns(table)
    frame = read_table(table, "a table of labels")
    return {
        str(name): ["" if missing else str(cell) for cell, missing in zip(column, column.isna(), strict=True)]
        for name, column in frame.items()
    }


def _places(folder: Path, features: dict[str, str]) -> dict[str, Path]:
    """{modality: folder of files, or table}: those named by ``features``, else those with the modality's name."""
    places = {}
    for modality in MODALITIES:
        name = features.get(modality, modality)
        if Path(name).name != name:
            raise Refusal("--features", f"the name of a folder or table in {folder}", f"'{name}'", "name one of those")
        candidates = [folder / name, *(folder / f"{name}{suffix}" for suffix in _TABLES)]
        if modality in features or any(each.exists() for each in candidates):
            places[modality] = _one(folder, candidates, f"the {modality} features")
    if not places:
        present = ", ".join(sorted(each.name for each in folder.iterdir() if each.name not in _LABELS)) or "nothing"
        expected = f"features in folders or tables named {', '.join(MODALITIES)}"
        raise Refusal(folder, expected, present, "or name yours: --features text=A,audio=B,vision=C")
    return places


def _features(place: Path, ids: list[str], modality: str, notes: list[str]) -> Sequences:
    """Those of each sample; a sample without a file, or without a row, lacks the modality."""
    sequences: Sequences
    if place.is_dir():
        sequences = FileSequences(place, [files_of(place, name) or [] for name in ids])
    else:
        names, values = _rows(place)
        sequences = _of_samples(names, values, ids)
        if unknown := len(set(names) - set(ids)):
            notes.append(f"{unknown} ids of {place.name} are not in the table of labels.")
    if absent := int((sequences.lengths == 0).sum()):
        notes.append(f"{absent} of {len(ids)} samples have no {modality} in {place.name}.")
    return sequences


def _rows(table: Path) -> tuple[list[str], NDArray[np.float32]]:
    if table.suffix == ".csv":
        return csv_features(table, "id")
    frame = read_table(table, "a table of features")
    if "id" not in frame:
        raise Refusal(table, "a column 'id'", f"only {', '.join(map(str, frame.columns[:5]))}", _HELP)
    names = [str(name) for name in frame.pop("id")]
    if not frame.shape[1] or not all(column.dtype.kind in "iuf" for _, column in frame.items()):
        raise Refusal(table, "numbers in every column but id", "others", _HELP)
    return names, frame.to_numpy(np.float32)


def _of_samples(names: list[str], values: NDArray[np.float32], ids: list[str]) -> PackedSequences:
    """The rows of each sample in the order of the table, samples in the order of ``ids``."""
    numbers = {name: number for number, name in enumerate(ids)}
    owner = np.array([numbers.get(name, -1) for name in names])
    order = np.argsort(owner, kind="stable")[(owner < 0).sum() :]
    return PackedSequences(values[order], np.bincount(owner[owner >= 0], minlength=len(ids)))

"""HDF5 with one array for each modality and split, as in MFN's data of POM, ICT-MMMO and YouTube.

audio_train.h5, video_train.h5, text_train_emb.h5, y_train.h5, and the same of valid and test
or one file with the data sets audio_train, vision_train, text_train, label_train, ...
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mer_lightning.data.catalogue import CatalogueEntry
from mer_lightning.data.importing.base import Reader
from mer_lightning.data.importing.hdf5 import H5File
from mer_lightning.data.importing.own_corpus import SPLIT_NAMES, own_corpus
from mer_lightning.data.importing.split_arrays import PLAIN_NAME, joined_splits, plain_splits
from mer_lightning.data.raw import RawCorpus
from mer_lightning.errors import Refusal

_SUFFIXES = (".h5", ".hdf5")
_EXPECTED = "arrays or files named MODALITY_SPLIT, such as audio_train, and y_train"


class SplitH5(Reader):
    name = "split-h5"
    describes = "HDF5 of arrays by split: audio_train.h5, video_train.h5, text_train_emb.h5, y_train.h5, ..."
    suffixes = _SUFFIXES

    def detects(self, path: Path) -> bool:
        try:
            return bool(_found(path))
        except Refusal:
            return False

    def read(self, path: Path, entry: CatalogueEntry | None, features: dict[str, str]) -> RawCorpus:
        found = _found(path)
        if not found:
            raise Refusal(path, _EXPECTED, "none", "name them so")
        notes: list[str] = []
        arrays, sequences, padding = joined_splits(path, plain_splits(path, _by_split(path, found)), notes)
        return own_corpus(self.name, path, arrays, entry, notes, sequences, padding=padding)


def _found(path: Path) -> dict[tuple[str, str], tuple[H5File, str]]:
    """{(split, name of the array): (file, data set)}"""
    if path.is_dir():
        files = sorted(each for each in path.iterdir() if each.suffix in _SUFFIXES and _place(each.stem))
        return {_place(each.stem): (H5File(each), "") for each in files}  # type: ignore[misc]
    if path.suffix not in _SUFFIXES or not path.is_file():
        return {}
    file = H5File(path)
    return {place: (file, name) for name in file.names() if (place := _place(name))}


def _place(name: str) -> tuple[str, str] | None:
    """(split, name of the array) from `audio_train` or `text_train_emb`."""
    words = name.removesuffix("_emb").split("_")
    fits = len(words) == 2 and words[0] in PLAIN_NAME and words[1] in SPLIT_NAMES
    return (words[1], words[0]) if fits else None


def _by_split(path: Path, found: dict[tuple[str, str], tuple[H5File, str]]) -> dict[str, dict[str, Any]]:
    splits: dict[str, dict[str, Any]] = {}
    for (split, name), (file, dataset) in found.items():
        names = [dataset] if dataset else file.names()
        if len(names) != 1:
            raise Refusal(file.path, "one data set in the file", ", ".join(names) or "none", "check how it was made")
        splits.setdefault(split, {})[name] = file.array(names[0])
    return splits

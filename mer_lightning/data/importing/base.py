"""The base class of readers. Each file format has one file in this folder, with one subclass of ``Reader``.

A reader recognises files of its format and turns them into a :class:`~mer_lightning.data.raw.RawCorpus`. It never
executes anything that a file contains. A new file in this folder is found without being registered.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from mer_lightning.data.catalogue import CatalogueEntry
from mer_lightning.data.importing.contents import pointer_size
from mer_lightning.data.importing.unpickle import load_pickle
from mer_lightning.data.raw import RawCorpus
from mer_lightning.discovery import classes_by_file
from mer_lightning.errors import Refusal, reading


class Reader(ABC):
    name: ClassVar[str]  # short, as in "mmsa"
    describes: ClassVar[str]  # one line for `mer-lightning data list`
    suffixes: ClassVar[tuple[str, ...]] = ()  # of its files; none for a format that is a folder

    @abstractmethod
    def detects(self, path: Path) -> bool:
        """Whether ``path`` looks like this format. It must be quick, and must not raise on files of any other kind."""

    @abstractmethod
    def read(self, path: Path, entry: CatalogueEntry | None, features: dict[str, str]) -> RawCorpus:
        """Read ``path`` as the corpus ``entry``. If it is None, as for `inspect`, the reader infers what it can.

        ``features`` names for each modality which of several feature sets to read. It is empty for formats with only
        one. Raises Refusal, and no other error, if something in the file does not fit.
        """


@functools.cache
def all_readers() -> dict[str, Reader]:
    """{name: reader} of every module in this folder, in alphabetical order of the modules."""
    return {cls.name: cls() for cls in classes_by_file("mer_lightning.data.importing", Reader).values()}


def read_raw(reader: Reader, path: Path, entry: CatalogueEntry | None, features: dict[str, str]) -> RawCorpus:
    """What ``reader`` makes of ``path``; a Refusal for whatever the content does to it."""
    with reading(path, f"the format {reader.name}", "check how the file was made"):
        return reader.read(path, entry, features)


def detect(path: Path) -> Reader:
    """The reader that recognises ``path``."""
    if not path.exists():
        raise Refusal(path, "a feature file or folder", "nothing there", "check the path")
    if size := pointer_size(path):
        remedy = "run git lfs pull in the repository that it is from, or download the file itself"
        raise Refusal(path, "the file itself", f"a Git-LFS pointer to {size} bytes", remedy)
    for reader in all_readers().values():
        with reading(path, "a feature file or folder"):
            if reader.detects(path):
                return reader
    if path.is_file() and path.suffix in (".pkl", ".pickle"):
        load_pickle(path)  # a pickle that is cut off, or that would run code, gets a refusal that says so
    known = ", ".join(all_readers())
    remedy = f"`mer-lightning data inspect {path}` says what is in it, and what is missing"
    raise Refusal(path, f"one of the formats {known}", "none of them", remedy)


def whats_missing(path: Path) -> dict[str, str]:
    """{format: why ``path`` cannot be read as that}, of the formats of such files."""
    missing = {}
    for name, each in all_readers().items():
        if path.suffix in each.suffixes or (path.is_dir() and not each.suffixes):
            try:
                read_raw(each, path, None, {})
            except Refusal as refusal:
                missing[name] = f"expected {refusal.expected}; found {refusal.found}; {refusal.remedy}"
    return missing

"""The contract of a reader: one file in this folder per on-disk format, found by itself.

A reader recognises a path by looking at it, and turns it into a :class:`~mer_lightning.data.raw.RawCorpus` without
executing anything that the file contains. Adding a format means adding one file with one subclass of ``Reader``.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from mer_lightning.data.catalogue import CatalogueEntry
from mer_lightning.data.importing.unpickle import load_pickle
from mer_lightning.data.raw import RawCorpus
from mer_lightning.discovery import classes_by_file
from mer_lightning.errors import Refusal


class Reader(ABC):
    name: ClassVar[str]  # short, as in "mmsa"
    describes: ClassVar[str]  # one line for `mer-lightning data list`

    @abstractmethod
    def detects(self, path: Path) -> bool:
        """Whether ``path`` looks like this format. Cheap, and never raises on strange files."""

    @abstractmethod
    def read(self, path: Path, entry: CatalogueEntry | None, features: dict[str, str]) -> RawCorpus:
        """Read ``path`` as the corpus ``entry`` (None: infer what can be inferred, for `inspect`).

        ``features`` names, per modality, which of several feature sets in a folder to take; empty for formats that
        hold one. Raises Refusal on anything that does not fit; never a bare KeyError.
        """


@functools.cache
def all_readers() -> dict[str, Reader]:
    """{name: reader} of every module in this folder, in alphabetical order of the modules."""
    return {cls.name: cls() for cls in classes_by_file("mer_lightning.data.importing", Reader).values()}


def detect(path: Path) -> Reader:
    """The reader that recognises ``path``."""
    if not path.exists():
        raise Refusal(path, "a feature file or folder", "nothing there", "check the path")
    for reader in all_readers().values():
        if reader.detects(path):
            return reader
    if path.is_file() and path.suffix in (".pkl", ".pickle"):
        load_pickle(path)  # a pickle that is cut off or asks for something to be run is refused as that
    known = ", ".join(all_readers())
    raise Refusal(path, f"one of the formats {known}", "none of them", "see `mer-lightning data list` for what is read")

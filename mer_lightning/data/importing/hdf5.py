"""HDF5 files of unknown origin: only what is in the file itself, and no more of it than so long a file can hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mer_lightning.bounds import array_bytes, refuse_growth
from mer_lightning.errors import Refusal, reading

_READABLE = "HDF5 data that h5py can read"
_NUMBERS_AND_STRINGS = "biufS"
_ROWS_AT_A_TIME = 64  # of texts of any length, whose length shows when they are read


class H5File:
    """An HDF5 file, open for reading. Groups and data sets have paths in it, such as ``words/data/video``."""

    def __init__(self, path: Path) -> None:
        try:
            import h5py
        except ImportError as error:
            raise Refusal(path, "h5py, to read HDF5", "no h5py", "run pip install 'mer-lightning[h5]'") from error
        self.path, self._size, self._bytes = path, path.stat().st_size, 0
        self._counted: set[str] = set()  # data sets whose bytes are among those
        with reading(path, "an HDF5 file", "copy the file again; it may be cut off"):
            self._file = h5py.File(path, "r")
        self._group_type, self._dataset_type, self._hard_link = h5py.Group, h5py.Dataset, h5py.HardLink

    def names(self, group: str = "") -> list[str]:
        """What is in a group, in the order of the file; nothing where there is no such group."""
        with reading(self.path, _READABLE):
            found = self._object(group)
            return list(found) if isinstance(found, self._group_type) else []

    def shape(self, dataset: str) -> tuple[int, ...]:
        return tuple(self._dataset(dataset).shape)

    def is_text(self, dataset: str) -> bool:
        return self._dataset(dataset).dtype.kind in "SO"

    def array(self, dataset: str) -> NDArray[Any]:
        """All of a data set: numbers, or texts as bytes."""
        found = self._dataset(dataset)
        with reading(self.path, _READABLE):
            if found.dtype.kind != "O":
                return np.asarray(found[()])
            return self._texts(found)

    def _texts(self, found: Any) -> NDArray[Any]:
        pieces, size = [np.zeros((0, *found.shape[1:]), object)], 0
        for start in range(0, len(found), _ROWS_AT_A_TIME):
            pieces.append(found[start : start + _ROWS_AT_A_TIME])
            size += sum(map(len, pieces[-1].flat))
            refuse_growth(self.path, size, self._size)
        return np.concatenate(pieces)

    def _dataset(self, name: str) -> Any:
        with reading(self.path, _READABLE):
            found = self._object(name)
            if not isinstance(found, self._dataset_type) or found.shape is None:
                raise Refusal(self.path, f"the data set '{name}'", "none of that name", "copy the file again")
            if name not in self._counted:
                self._check(found, name)
                self._counted.add(name)
            return found

    def _check(self, found: Any, name: str) -> None:
        if found.external or found.is_virtual:
            what = f"'{name}', which takes its content from other files"
            raise Refusal(self.path, "data sets that are in the file itself", what, "copy their content into this file")
        kind = found.dtype.kind
        text = kind == "O" and found.dtype.metadata is not None and found.dtype.metadata.get("vlen") in (str, bytes)
        if kind not in _NUMBERS_AND_STRINGS and not text:
            raise Refusal(self.path, f"numbers or texts in '{name}'", str(found.dtype), "check how the file was made")
        self._bytes += array_bytes(self.path, found.shape, found.dtype.itemsize)
        refuse_growth(self.path, self._bytes, self._size)

    def _object(self, name: str) -> Any:
        """The group or data set of that path, without following a link that is no plain one; None if it is not there.

        Other links lead to another file, or to a place that a loop of links never reaches.
        """
        found: Any = self._file
        for part in filter(None, name.split("/")):
            link = found.get(part, getlink=True) if isinstance(found, self._group_type) else None
            if link is None:
                return None
            if not isinstance(link, self._hard_link):
                target = f"'{name}', a {type(link).__name__}"
                remedy = "copy what it names into this file"
                raise Refusal(self.path, "data sets that are in the file itself", target, remedy)
            found = found[part]
        return found

"""Reading folders of features, with one .npy file or one folder of .npy files per sample, and single .npy files.

No code in a file is ever executed: arrays of objects are read by the restricted unpickler, all others as plain bytes.

Shapes: T time, D width.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from mer_lightning.bounds import array_bytes, refuse_growth
from mer_lightning.data.importing.unpickle import load_pickle_stream
from mer_lightning.data.raw import Sequences
from mer_lightning.errors import Refusal, reading
from mer_lightning.modalities import MODALITIES

_ARRAY = "an array as numpy.save writes it"
_LONGEST_NAME = 200  # file systems end at 255 bytes
_SMALL = 2**20  # bytes: an array is read at once
_PART = 2**20  # bytes read at a time
_LOCAL_HEADER = 30  # bytes before the name of a member of an archive
_NUMBERS = "biuf"  # kinds of numpy numbers that a feature can have


def read_header(stream: IO[bytes], where: str | Path, size: int) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """(shape, Fortran order, dtype) of a .npy stream of ``size`` bytes. Afterwards the stream is at its data."""
    with reading(where, _ARRAY):
        version = npy.read_magic(stream)
        read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
        if read is None:
            raise _no_array(where, f"version {version[0]}.{version[1]} of it")
        shape, fortran, dtype = read(stream)
        declared = array_bytes(where, shape, dtype.itemsize)
    if not dtype.hasobject and declared > size:
        raise _no_array(where, f"{size} bytes where its header says shape {shape}")
    return shape, fortran, dtype


def read_array(stream: IO[bytes], where: str | Path, size: int, objects: bool = True) -> NDArray[Any]:
    """The array of a .npy stream of ``size`` bytes.

    Objects in it, where they are allowed, may be containers, strings, numbers and arrays, and nothing else.
    """
    shape, fortran, dtype = read_header(stream, where, size)
    if dtype.hasobject and not objects:
        remedy = "save strings as np.array(list_of_str), never as objects"
        raise Refusal(where, "an array of numbers or strings", "one of objects", remedy)
    if dtype.hasobject:
        values = load_pickle_stream(stream, where, size)
        if not isinstance(values, np.ndarray) or values.shape != shape:
            raise _no_array(where, f"a pickled {type(values).__name__} where its header says an array of shape {shape}")
        return values
    values = np.frombuffer(stream.read(size), dtype)
    if len(values) != int(np.prod(shape)):
        raise _no_array(where, f"{len(values)} elements where its header says shape {shape}")
    return values.reshape(shape, order="F" if fortran else "C")


def read_npy(path: Path) -> NDArray[Any]:
    with reading(path, _ARRAY), open(path, "rb") as stream:
        return read_array(stream, path, path.stat().st_size)


class NpzFile:
    """The members of a .npz file by their names, each an array of plain values."""

    def __init__(self, path: Path) -> None:
        self.path, self._bytes = path, 0
        with reading(path, "a .npz file", "copy the file again"), zipfile.ZipFile(path) as archive:
            self._members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}

    @property
    def names(self) -> list[str]:
        return list(self._members)

    def header(self, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """(shape, dtype) of one member."""
        info = self._member(name)
        where = f"{self.path}: {name}"
        with reading(where, _ARRAY), zipfile.ZipFile(self.path) as archive, archive.open(info) as member:
            shape, _, dtype = read_header(member, where, info.file_size)
            return shape, dtype

    def array(self, name: str, objects: bool = True) -> NDArray[Any]:
        """One member; with ``objects``, what :func:`read_array` allows may be in it."""
        info = self._member(name)
        self._bytes += info.file_size
        refuse_growth(self.path, self._bytes, self.path.stat().st_size)
        where = f"{self.path}: {name}"
        with reading(where, _ARRAY), zipfile.ZipFile(self.path) as archive, archive.open(info) as member:
            if info.compress_type == zipfile.ZIP_STORED and info.file_size > _SMALL:
                shape, fortran, dtype = read_header(member, where, info.file_size)
                if not dtype.hasobject:
                    return self._mapped(info, member.tell(), shape, fortran, dtype)
                member.seek(0)
            return read_array(member, where, info.file_size, objects)

    def _mapped(
        self, info: zipfile.ZipInfo, header: int, shape: tuple[int, ...], fortran: bool, dtype: np.dtype[Any]
    ) -> NDArray[Any]:
        """An array that stays in the file until somebody reads from it, so that a large one needs no memory."""
        with open(self.path, "rb") as file:
            file.seek(info.header_offset)
            start = file.tell() + _LOCAL_HEADER + sum(struct.unpack("<HH", file.read(_LOCAL_HEADER)[26:30]))
            file.seek(start)
            checksum, left = 0, info.file_size
            while left and (part := file.read(min(left, _PART))):
                checksum, left = zlib.crc32(part, checksum), left - len(part)
        if left or checksum != info.CRC:
            raise _no_array(f"{self.path}: {info.filename}", "other bytes than were written")
        return np.memmap(self.path, dtype, "r", start + header, shape, "F" if fortran else "C")

    def _member(self, name: str) -> zipfile.ZipInfo:
        info = self._members[name]
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise _no_array(self.path, f"'{name}' compressed in another way than numpy does")
        return info


def _no_array(where: str | Path, found: str) -> Refusal:
    return Refusal(where, _ARRAY, found, "copy or make the file again")


def feature_folders(root: Path, features: dict[str, str]) -> dict[str, Path]:
    """{modality: folder} for the feature sets that ``features`` names under ``root``."""
    existing = sorted(entry.name for entry in root.iterdir() if entry.is_dir()) if root.is_dir() else []
    listed = ", ".join(existing) or "nothing"
    for modality, name in features.items():
        if modality not in MODALITIES:
            raise Refusal(root, f"modalities {', '.join(MODALITIES)}", f"'{modality}'", "name one of those")
        if name not in existing:
            remedy = f"name one of these folders with --features {modality}=NAME"
            raise Refusal(root, f"a folder '{name}' with the {modality} features", listed, remedy)
    return {modality: root / features[modality] for modality in MODALITIES if modality in features}


def files_of(folder: Path, name: str) -> list[Path] | None:
    """The files of one sample: ``name.npy``, or those in the folder ``name``, sorted; None if neither exists."""
    if Path(name).name != name or name == ".." or "\0" in name or len(name) > _LONGEST_NAME:
        raise Refusal(folder, "ids that are names of files in it", f"'{name}'", "do not trust this file of labels")
    single = folder / f"{name}.npy"
    if single.is_file():
        return [single]
    return sorted((folder / name).glob("*.npy")) if (folder / name).is_dir() else None


class FileSequences(Sequences):
    """Samples stored in files of shape (D,), (1, D) or (T, D). If a sample has several files, they are joined in time.

    A sample without frames lacks the modality. With ``pooled``, a sample is the mean over T instead of its frames.
    """

    def __init__(self, folder: Path, files: Sequence[list[Path]], pooled: bool = False) -> None:
        self.files, self.pooled = list(files), pooled
        widths: dict[int, Path] = {}
        lengths = []
        for sample in self.files:
            steps = 0
            for path in sample:
                length, width = _steps_and_width(path)
                steps += length
                if length:
                    widths.setdefault(width, path)
            lengths.append(min(steps, 1) if pooled else steps)
        if len(widths) != 1:
            found = " and ".join(f"{width} in {path.name}" for width, path in widths.items()) or "no feature at all"
            remedy = "check the ids of its files, and extract the features again with one model"
            raise Refusal(folder, "features of one width for these samples", found, remedy)
        self.width = next(iter(widths))
        self.lengths = np.array(lengths, dtype=np.int64)

    def packed(self, start: int, stop: int) -> NDArray[Any]:
        samples = [self._sample(i) for i in range(start, stop) if self.lengths[i]]
        return np.concatenate(samples) if samples else np.zeros((0, self.width), np.float32)

    def _sample(self, i: int) -> NDArray[Any]:
        arrays = [read_npy(path) for path in self.files[i]]
        frames = np.concatenate([array.reshape(-1, self.width) for array in arrays if array.size])
        return frames.mean(axis=0, keepdims=True) if self.pooled else frames


class ZeroFilled(Sequences):
    """Utterance-level features in which a sample without features gets a zero vector, and counts as present."""

    def __init__(self, inner: Sequences) -> None:
        self.inner, self.width = inner, inner.width
        self.lengths = np.ones(len(inner), dtype=np.int64)

    def packed(self, start: int, stop: int) -> NDArray[Any]:
        existing = self.inner.packed(start, stop)
        values = np.zeros((stop - start, self.width), existing.dtype)
        values[self.inner.lengths[start:stop] > 0] = existing
        return values


def _steps_and_width(path: Path) -> tuple[int, int]:
    """(T, D) from the header alone."""
    with open(path, "rb") as stream:
        shape, _, dtype = read_header(stream, path, path.stat().st_size)
    squeezed = [size for size in shape if size != 1] or [1]
    if dtype.kind not in _NUMBERS or len(squeezed) > 2:
        found = f"{dtype} of shape {shape}"
        raise Refusal(path, "numbers of shape (D,), (1, D) or (T, D)", found, "check how the features were extracted")
    if 0 in shape:
        return 0, 0
    # After squeezing, (T, 1) looks like (1, D). It is read as (1, D), since no one extracts features of width 1.
    return (1, squeezed[0]) if len(squeezed) == 1 else (squeezed[0], squeezed[1])

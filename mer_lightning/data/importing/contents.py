"""What is in a file or folder of any kind: names, shapes and types, without knowing what it is for.

It is what `data inspect` shows where no reader knows the file, or where one knows it and cannot read it.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from mer_lightning.data.importing.csv_file import csv_rows
from mer_lightning.data.importing.feature_files import NpzFile, read_header
from mer_lightning.data.importing.hdf5 import H5File
from mer_lightning.data.importing.torch_file import load_torch
from mer_lightning.data.importing.unpickle import load_pickle
from mer_lightning.errors import Refusal, reading

_POINTER = b"version https://git-lfs.github.com/spec/"
_KINDS = {  # of files that hold no features, by their first bytes, from the given place on
    "a video or sound (MP4)": (4, b"ftyp"),
    "a video (Matroska)": (0, b"\x1aE\xdf\xa3"),
    "a video or sound (RIFF)": (0, b"RIFF"),
    "sound (FLAC)": (0, b"fLaC"),
    "sound (MP3)": (0, b"ID3"),
    "a picture (PNG)": (0, b"\x89PNG"),
    "a picture (JPEG)": (0, b"\xff\xd8\xff"),
    "a document (PDF)": (0, b"%PDF"),
    "a compressed file (gzip): unpack it first": (0, b"\x1f\x8b"),
    "a compressed archive (7z): unpack it first": (0, b"7z\xbc\xaf"),
    "a compressed archive (RAR): unpack it first": (0, b"Rar!"),
    "an archive (tar): unpack it first": (257, b"ustar"),
}
_LEVELS, _FIRST = 3, 12  # of what is in each other, and of many things of one level
_LONGEST_JSON = 4 * 2**20
_FILES = 100_000  # of a folder that are counted


@dataclass
class Contents:
    """What a file or folder holds."""

    path: str
    kind: str
    parts: list[tuple[str, str]] = field(default_factory=list)  # (name, indented by its level; what it is)
    missing: dict[str, str] = field(default_factory=dict)  # {format: why it cannot be read as that}

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def contents_of(path: Path) -> Contents:
    """A Refusal if the file is damaged, or would run code."""
    if path.is_dir():
        return Contents(path.name, "a folder", list(_folder(path)))
    with open(path, "rb") as stream:
        head = stream.read(512)
    if size := pointer_size(path):
        kind = f"a Git-LFS pointer to {size} bytes that are not here"
        return Contents(path.name, kind, [("run", "git lfs pull, in the repository that it is from")])
    kind, parts = _parts(path, head)
    return Contents(path.name, kind, parts)


def pointer_size(path: Path) -> int:
    """The bytes that a Git-LFS pointer stands for; 0 for every other file."""
    if not path.is_file() or path.stat().st_size > 1024:
        return 0
    found = re.match(_POINTER + rb".*\nsize (\d{1,18})\n", path.read_bytes(), re.DOTALL)
    return int(found[1]) if found else 0


def _parts(path: Path, head: bytes) -> tuple[str, list[tuple[str, str]]]:
    suffix = path.suffix.lower()
    if head.startswith(b"\x93NUMPY"):
        with open(path, "rb") as stream:
            shape, _, dtype = read_header(stream, path, path.stat().st_size)
        return "an array of numpy (.npy)", [("", f"{dtype} {shape}")]
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return "HDF5", list(_h5(H5File(path)))
    if head.startswith(b"PAR1"):
        return "a table (Parquet)", _parquet(path)
    if suffix == ".arrow" or head.startswith(b"ARROW1"):
        from mer_lightning.data.importing.arrow_files import read_arrow

        table = read_arrow(path)
        return f"a table (Arrow) of {table.num_rows} rows", [(each.name, str(each.type)) for each in table.schema]
    if head.startswith(b"PK\x03\x04"):
        return _archive(path)
    if suffix in (".pkl", ".pickle", ".p") or re.match(rb"\x80[\x02-\x05]", head):
        return "a pickle", list(_walk("", load_pickle(path)))
    for kind, (start, magic) in _KINDS.items():
        if head[start : start + len(magic)] == magic:
            return kind, []
    return _text(path, head, suffix)


def _text(path: Path, head: bytes, suffix: str) -> tuple[str, list[tuple[str, str]]]:
    size = path.stat().st_size
    if b"\0" in head or not head:
        return f"{size} bytes of no kind that is known here" if head else "an empty file", []
    with suppress(Refusal):  # what is no table, or no JSON, is still text
        if suffix == ".csv":
            return _csv(path)
        if suffix == ".json" and size <= _LONGEST_JSON:
            with reading(path, "JSON"):
                return "JSON", list(_walk("", json.loads(path.read_text(encoding="utf-8"))))
    lines = head.decode("utf-8", "replace").splitlines()
    return f"text of {size} bytes", [(f"line {number}", line[:80]) for number, line in enumerate(lines[:3], 1)]


def _csv(path: Path) -> tuple[str, list[tuple[str, str]]]:
    rows = csv_rows(path)
    header = next(rows)
    example = next(rows, [])
    count = bool(example) + sum(1 for _ in rows)
    cells = [f"such as {cell[:40]}" for cell in example] or ["nothing"] * len(header)
    return f"a table (CSV) of {count} rows", list(_first(zip(header, cells, strict=True)))


def _archive(path: Path) -> tuple[str, list[tuple[str, str]]]:
    with reading(path, "an archive (zip)"), zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
    names = [info.filename for info in infos]
    if any(name.endswith("/data.pkl") for name in names):
        return "tensors (torch.save)", list(_walk("", load_torch(path, "a file of torch.save")))
    if not names or not all(name.endswith(".npy") for name in names):
        return "an archive (zip): unpack it first", list(_first((i.filename, f"{i.file_size} bytes") for i in infos))
    archive_of_arrays = NpzFile(path)
    headers = [(name, archive_of_arrays.header(name)) for name in archive_of_arrays.names]
    return "arrays of numpy (.npz)", list(_first((name, f"{dtype} {shape}") for name, (shape, dtype) in headers))


def _parquet(path: Path) -> list[tuple[str, str]]:
    from pyarrow import parquet

    with reading(path, "a Parquet file"), parquet.ParquetFile(path) as file:
        rows = ("rows", str(file.metadata.num_rows))
        return [rows, *_first((each.name, str(each.type)) for each in file.schema_arrow)]


def _h5(file: H5File, group: str = "", level: int = 0) -> Iterator[tuple[str, str]]:
    names = file.names(group)
    for name in names[:_FIRST]:
        place = f"{group}/{name}" if group else name
        try:
            what = f"{'text' if file.is_text(place) else 'numbers'} {file.shape(place)}"
        except Refusal as refusal:
            inside = file.names(place)
            what = f"group of {len(inside)}" if inside else f"unread: {refusal.found}"
        yield "  " * level + name, what
        if level < _LEVELS and what.startswith("group"):
            yield from _h5(file, place, level + 1)
    yield from _more(names, level)


def _folder(path: Path) -> Iterator[tuple[str, str]]:
    """What is in a folder, files of one suffix together where there are many."""
    files = [each for each in islice(path.rglob("*"), _FILES) if each.is_file()]
    pointers = sum(pointer_size(each) > 0 for each in files[:1000])
    if pointers:
        yield "Git-LFS pointers", f"{pointers} files whose content is not here: run git lfs pull"
    by_folder: dict[Path, list[Path]] = {}
    for each in files:
        by_folder.setdefault(each.parent, []).append(each)
    for folder in sorted(by_folder)[: 5 * _FIRST]:
        own = sorted(by_folder[folder])
        place = f"{folder.relative_to(path)}/" if folder != path else ""
        if len(own) <= _FIRST:
            yield from ((place + each.name, f"{each.stat().st_size} bytes") for each in own)
        else:
            counts = Counter(each.suffix or "no suffix" for each in own)
            yield place or "./", ", ".join(f"{count} files {suffix}" for suffix, count in counts.most_common(5))
    yield from _more(sorted(by_folder), 0, 5 * _FIRST)


def _walk(name: str, value: Any, level: int = 0) -> Iterator[tuple[str, str]]:
    yield "  " * level + name, _described(value)
    if level >= _LEVELS:
        return
    inside: Iterable[tuple[str, Any]] = ()
    if isinstance(value, dict):
        inside = ((str(key)[:60], each) for key, each in islice(value.items(), _FIRST))
    elif isinstance(value, list | tuple) and any(isinstance(each, dict | list | tuple) for each in value[:1]):
        inside = ((f"[{number}]", each) for number, each in enumerate(value[: _FIRST if level == 0 else 1]))
    for key, each in inside:
        yield from _walk(key, each, level + 1)
    if isinstance(value, dict):
        yield from _more(value, level + 1)


def _described(value: Any) -> str:
    if isinstance(value, np.ndarray | np.generic):
        return f"{value.dtype} {value.shape}"
    if hasattr(value, "dtype") and hasattr(value, "shape"):  # a tensor
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    if isinstance(value, dict):
        return f"dict of {len(value)}"
    if isinstance(value, list | tuple | set | frozenset):
        kinds = Counter(type(each).__name__ for each in islice(value, 1000)).most_common(3)
        return f"{type(value).__name__} of {len(value)}{': ' if kinds else ''}{', '.join(kind for kind, _ in kinds)}"
    return (
        f"{type(value).__name__} {ascii(value)[:40]}" if isinstance(value, str | float | bool) else type(value).__name__
    )


def _first(parts: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """The first of many, and how many more there are."""
    every = list(parts)
    yield from every[: 5 * _FIRST]
    yield from _more(every, 0, 5 * _FIRST)


def _more(values: Any, level: int, shown: int = _FIRST) -> Iterator[tuple[str, str]]:
    if len(values) > shown:
        yield "  " * level + "...", f"and {len(values) - shown} more"

"""Folders of the library datasets: Arrow as `save_to_disk` writes it, or Parquet as a repository on the hub holds it.

    train/*.arrow and dataset_info.json, test/*.arrow, ...
    train-00000-of-00001.parquet, test-00000-of-00001.parquet, ..., in the folder or in its folder `data`

Columns have the names of docs/reference/npz-format.md: id, label, text, audio, vision, and any others. A feature is a
list of numbers, or a list of such lists, one for each step.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mer_lightning.data.catalogue import CatalogueEntry
from mer_lightning.data.importing.arrow_files import read_arrow, read_parquet
from mer_lightning.data.importing.base import Reader
from mer_lightning.data.importing.label_columns import is_label, label_arrays
from mer_lightning.data.importing.own_corpus import SPLIT_NAMES, Arrays, own_corpus, texts
from mer_lightning.data.raw import SPLITS, JoinedSequences, PackedSequences, RawCorpus
from mer_lightning.errors import Refusal, reading
from mer_lightning.modalities import MODALITIES

if TYPE_CHECKING:
    import pyarrow as pa

_HELP = "see mer-lightning docs bring-your-own-data"
_LARGEST_INFO = 2**20  # bytes


class HuggingFace(Reader):
    name = "hugging-face"
    describes = "folder of the library datasets: train/*.arrow as save_to_disk writes it, or train-*.parquet"

    def detects(self, path: Path) -> bool:
        return path.is_dir() and bool(_files(path))

    def read(self, path: Path, entry: CatalogueEntry | None, features: dict[str, str]) -> RawCorpus:
        files = _files(path)
        if not files:
            raise Refusal(path, "train/*.arrow or train-*.parquet, and the same of test", "neither", _HELP)
        tables = [(split, table) for split, own in files.items() for table in map(_table, own)]
        names = tables[0][1].column_names
        if any(table.column_names != names for _, table in tables):
            raise Refusal(path, "the same columns in all files", "others", "write them again from one dataset")
        notes: list[str] = []
        columns: dict[str, list[str]] = {}
        read: dict[str, JoinedSequences] = {}
        feature_set = {}
        used = {modality: modality for modality in MODALITIES if modality not in features}
        used |= {name: modality for modality, name in features.items()}
        if unknown := [features[each] for each in features if features[each] not in names]:
            raise Refusal(path, f"the columns {', '.join(names)}", f"no '{unknown[0]}'", "name one of those")
        for name in names:
            parts = [table.column(name) for _, table in tables]
            if name in used and all(_is_list(part.type) for part in parts):
                read[used[name]] = JoinedSequences([_sequences(path, name, part) for part in parts])
                feature_set[used[name]] = f"{name} {_one_width(path, name, read[used[name]])}"
            elif all(_is_plain(part.type) for part in parts):
                cells = [_cell(cell) for part in parts for cell in part.to_pylist()]
                columns["sentence" if name == "text" else name] = cells
            else:
                notes.append(f"Column {name} was not read.")
        if not read:
            found = f"only {', '.join(names)}"
            expected = f"columns {', '.join(MODALITIES)} of lists of numbers"
            raise Refusal(path, expected, found, "or name yours: --features text=A,audio=B,vision=C")
        splits = [split for split, table in tables for _ in range(table.num_rows)]
        ids = columns.pop("id", None) or [f"{split}-{number}" for number, split in enumerate(splits)]
        classes = _class_names(path, files, tables[0][1])
        if classes and "label" in columns:
            columns["label"] = [classes.get(cell, cell) for cell in columns["label"]]
        arrays: Arrays = {
            "ids": texts(ids),
            "split": texts(splits),
            **label_arrays(path, columns, entry, classes.values()),
        }
        arrays |= {name: texts(cells) for name, cells in columns.items() if not is_label(name) and name not in arrays}
        return own_corpus(self.name, path, arrays, entry, notes, dict(read), feature_set)


def _files(path: Path) -> dict[str, list[Path]]:
    """{split: its files} in the order of train, valid, test."""
    found: dict[str, list[Path]] = {}
    for given, split in SPLIT_NAMES.items():
        arrow = sorted((path / given).glob("*.arrow"))
        parquet = [
            file
            for folder in (path, path / "data")
            for pattern in (f"{given}.parquet", f"{given}-*.parquet", f"{given}/*.parquet")
            for file in sorted(folder.glob(pattern))
        ]
        if arrow or parquet:
            found.setdefault(split, []).extend(arrow or parquet)
    return {split: found[split] for split in SPLITS if split in found}


def _table(file: Path) -> pa.Table:
    return read_arrow(file) if file.suffix == ".arrow" else read_parquet(file)


def _is_list(kind: Any) -> bool:
    """Of numbers, or of lists of numbers."""
    import pyarrow as pa

    inner = kind
    for _ in range(2):
        if pa.types.is_list(inner) or pa.types.is_large_list(inner) or pa.types.is_fixed_size_list(inner):
            inner = inner.value_type
    return inner is not kind and _is_number(inner)


def _is_number(kind: Any) -> bool:
    import pyarrow as pa

    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _is_plain(kind: Any) -> bool:
    import pyarrow as pa

    return _is_number(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_boolean(kind)


def _cell(value: Any) -> str:
    return "" if value is None else str(int(value) if isinstance(value, bool) else value)


def _sequences(path: Path, name: str, column: pa.ChunkedArray) -> PackedSequences:
    """A list of numbers is one step; a row that is null or empty is a sample without the modality."""
    parts = [_steps(path, name, chunk) for chunk in column.chunks if len(chunk)]
    widths = {values.shape[1] for values, _ in parts if len(values)}
    if len(widths) > 1:
        raise _mixed(path, name, sorted(widths))
    width = widths.pop() if widths else 0
    values = np.concatenate([values for values, _ in parts if len(values)] or [np.zeros((0, width), np.float32)])
    return PackedSequences(values, np.concatenate([lengths for _, lengths in parts] or [np.zeros(0, np.int64)]))


def _steps(path: Path, name: str, chunk: Any) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """((sum of lengths, D), (N,) lengths)"""
    import pyarrow.compute as pc

    counts = np.asarray(pc.fill_null(pc.list_value_length(chunk), 0), np.int64)
    inner = chunk.flatten()
    if _is_number(inner.type):
        lengths, widths, values = (counts > 0).astype(np.int64), counts[counts > 0], inner
    else:
        lengths, widths, values = counts, np.asarray(pc.fill_null(pc.list_value_length(inner), 0)), inner.flatten()
    if len(set(widths.tolist())) > 1:
        raise _mixed(path, name, sorted(set(widths.tolist())))
    numbers = np.asarray(values.to_numpy(zero_copy_only=False))
    return numbers.reshape(len(widths), -1) if len(widths) else np.zeros((0, 0), np.float32), lengths


def _one_width(path: Path, name: str, joined: JoinedSequences) -> int:
    widths = {part.width for part in joined.parts if part.lengths.any()}
    if len(widths) != 1:
        raise _mixed(path, name, sorted(widths))
    joined.width = widths.pop()
    for part in joined.parts:
        part.width = joined.width
    return joined.width


def _mixed(path: Path, name: str, widths: list[int]) -> Refusal:
    found = " and ".join(map(str, widths[:5])) or "no numbers at all"
    return Refusal(path, f"lists of one length in column {name}", found, "take the features of one model")


def _class_names(path: Path, files: dict[str, list[Path]], table: pa.Table) -> dict[str, str]:
    """{number: name} of the classes of column label, as dataset_info.json or the Parquet file itself names them."""
    with reading(path, "dataset_info.json as the library datasets writes it"):
        info: Any = json.loads((table.schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {})
        beside = next(iter(files.values()))[0].parent / "dataset_info.json"
        if beside.is_file() and beside.stat().st_size < _LARGEST_INFO:
            info = json.loads(beside.read_text(encoding="utf-8"))
        names = info.get("features", {}).get("label", {}).get("names", [])
        return {str(number): str(name) for number, name in enumerate(names)}

"""Folders of the library datasets, written with pyarrow alone as that library writes them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from mer_lightning.data.importing.arrow_files import read_arrow
from mer_lightning.data.importing.base import detect, read_raw
from mer_lightning.data.raw import RawCorpus
from mer_lightning.data.store import check
from mer_lightning.errors import Refusal

COUNTS = {"train": 4, "validation": 2, "test": 2}
INFO = {"features": {"label": {"names": ["sad", "glad"], "_type": "ClassLabel"}}}


def table(samples: int, frames: bool = True) -> pa.Table:
    """Sentences as text, one audio vector each, and of vision 0 to 2 steps, the first being none."""
    steps = [[[float(i), 1.0]] * (i % 3) if i else None for i in range(samples)]
    columns = {
        "label": pa.array([i % 2 for i in range(samples)], pa.int64()),
        "text": pa.array([f"caf\xe9 {i}" for i in range(samples)]),
        "audio": pa.array([[i, i + 1, i + 2] for i in range(samples)], pa.list_(pa.float32())),
        "speaker": pa.array(["Ann", "Bo"] * (samples // 2)),
        "box": pa.array([{"x": 1}] * samples),
    }
    if frames:
        columns["vision"] = pa.array(steps, pa.list_(pa.list_(pa.float64())))
    return pa.table(columns)


def arrow(root: Path, in_file: bool = False, **options: object) -> Path:
    for split, samples in COUNTS.items():
        (root / split).mkdir(parents=True)
        made = table(samples)
        writer = pa.ipc.new_file if in_file else pa.ipc.new_stream
        place = str(root / split / "data-00000-of-00001.arrow")
        with writer(place, made.schema, options=pa.ipc.IpcWriteOptions(**options)) as sink:
            sink.write_table(made, max_chunksize=2)
        (root / split / "dataset_info.json").write_text(json.dumps(INFO))
    return root


def hub(root: Path) -> Path:
    (root / "data").mkdir(parents=True)
    for split, samples in COUNTS.items():
        made = table(samples).replace_schema_metadata({"huggingface": json.dumps({"info": INFO})})
        parquet.write_table(made, root / "data" / f"{split}-00000-of-00001.parquet")
    return root


def read(root: Path, **features: str) -> RawCorpus:
    reader = detect(root)
    assert reader.name == "hugging-face"
    raw = read_raw(reader, root, None, features)
    check(raw)
    return raw


@pytest.mark.parametrize("layout", ["stream", "file", "hub"])
def test_every_layout_is_the_same_corpus(tmp_path: Path, layout: str) -> None:
    raw = read(hub(tmp_path / "x") if layout == "hub" else arrow(tmp_path / "x", layout == "file"))
    assert raw.task.card() == {"kind": "single_label", "classes": ["sad", "glad"]}
    assert raw.target.tolist() == [0, 1, 0, 1, 0, 1, 0, 1]
    assert raw.ids[3:5] == ["train-3", "valid-4"]
    assert raw.partitions["official"].tolist() == [0] * 4 + [1] * 2 + [2] * 2
    assert raw.columns == {
        "sentence": [f"caf\xe9 {i}" for n in COUNTS.values() for i in range(n)],
        "speaker": ["Ann", "Bo"] * 4,
    }
    assert raw.feature_set == {"audio": "audio 3", "vision": "vision 2"}
    assert raw.features["audio"].packed(2, 6).tolist() == [[2, 3, 4], [3, 4, 5], [0, 1, 2], [1, 2, 3]]
    assert raw.features["vision"].lengths.tolist() == [0, 1, 2, 0, 0, 1, 0, 1]
    assert raw.features["vision"].packed(0, 8).tolist() == [[1, 1], [2, 1], [2, 1], [1, 1], [1, 1]]
    assert "Column box was not read." in raw.notes


def test_a_column_of_another_name(tmp_path: Path) -> None:
    raw = read(hub(tmp_path), text="audio")
    assert raw.feature_set == {"text": "audio 3", "vision": "vision 2"}
    with pytest.raises(Refusal, match="no 'bert'; name one of those"):
        read(tmp_path, text="bert")


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="Arrow without compression"):
        read(arrow(tmp_path / "packed", compression="zstd"))
    root = hub(tmp_path / "hub")
    made = table(2)
    uneven = made.set_column(2, "audio", pa.array([[1.0], [1.0, 2.0]]))
    parquet.write_table(uneven, root / "data" / "test-00000-of-00001.parquet")
    with pytest.raises(Refusal, match="lists of one length in column audio; found 1 and 2"):
        read(root)
    parquet.write_table(table(2, frames=False), root / "data" / "test-00000-of-00001.parquet")
    with pytest.raises(Refusal, match="the same columns in all files"):
        read(root)
    parquet.write_table(made, root / "data" / "test-00000-of-00001.parquet", compression="gzip")
    with pytest.raises(Refusal, match="compressed by snappy; found GZIP"):
        read(root)


def test_bombs_of_arrow_are_refused_before_memory_is_taken(tmp_path: Path) -> None:
    zeros = pa.table({"x": np.zeros(10**6)})
    with pa.ipc.new_stream(
        str(tmp_path / "x.arrow"), zeros.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")
    ) as sink:
        sink.write_table(zeros)
    assert (tmp_path / "x.arrow").stat().st_size < 10_000
    before = pa.total_allocated_bytes()
    with pytest.raises(Refusal, match="found compressed parts"):
        read_arrow(tmp_path / "x.arrow")
    assert pa.total_allocated_bytes() == before
    rows = pa.table({"audio": pa.array([[0.0] * 10**7], pa.list_(pa.float64()))})
    parquet.write_table(rows, tmp_path / "train.parquet")
    assert (tmp_path / "train.parquet").stat().st_size < 10_000
    with pytest.raises(Refusal, match="bytes that would become"):
        read_raw(detect(tmp_path), tmp_path, None, {})

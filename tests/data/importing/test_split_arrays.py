"""Arrays by split in .pt files and in HDF5: joined, without their padding, and without what is only zeros."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mer_lightning.data.catalogue import lookup
from mer_lightning.data.importing.base import detect, read_raw
from mer_lightning.data.importing.tensors import Tensors
from mer_lightning.data.raw import RawCorpus
from mer_lightning.data.store import check
from mer_lightning.errors import Refusal

h5py = pytest.importorskip("h5py")
COUNTS = {"train": 4, "valid": 2, "test": 3}
STEPS = 5


def padded(samples: int, width: int, front: bool) -> np.ndarray:
    """Sample i has i % 4 + 1 steps, all of the number i + 1."""
    values = np.zeros((samples, STEPS, width), np.float32)
    for number, sample in enumerate(values):
        length = number % 4 + 1
        sample[STEPS - length if front else 0 : None if front else length] = number + 1
    return values


def splits(front: bool = True) -> dict[str, dict[str, np.ndarray]]:
    made = {}
    for split, samples in COUNTS.items():
        made[split] = {m: padded(samples, width, front) for m, width in (("text", 3), ("audio", 2), ("vision", 4))}
        made[split]["label"] = np.linspace(1, 5, samples)
        made[split]["vision"][1] = 0
    return made


def read(path: Path, corpus: str | None = None) -> RawCorpus:
    raw = read_raw(detect(path), path, lookup(corpus) if corpus else None, {})
    check(raw)
    return raw


def write_h5(folder: Path, made: dict[str, dict[str, np.ndarray]]) -> Path:
    folder.mkdir()
    names = {"text": "text_{}_emb", "audio": "audio_{}", "vision": "video_{}", "label": "y_{}"}
    for split, arrays in made.items():
        for name, values in arrays.items():
            with h5py.File(folder / f"{names[name].format(split)}.h5", "w") as file:
                file["data"] = values
    return folder


@pytest.mark.parametrize("front", [True, False])
def test_a_folder_of_h5(tmp_path: Path, front: bool) -> None:
    made = splits(front)
    del made["test"]["text"]
    raw = read(write_h5(tmp_path / "mmmo", made))
    assert raw.format == "split-h5"
    assert raw.task.card() == {"kind": "ratings", "targets": ["label"], "low": [1], "high": [5]}
    assert raw.ids[:5] == ["train-0", "train-1", "train-2", "train-3", "valid-0"]
    assert raw.partitions["official"].tolist() == [0] * 4 + [1] * 2 + [2] * 3
    assert raw.alignment == "aligned"
    assert raw.features["audio"].lengths.tolist() == [1, 2, 3, 4, 1, 2, 1, 2, 3]
    assert raw.features["text"].lengths.tolist() == [1, 2, 3, 4, 1, 2, 0, 0, 0]
    assert raw.features["vision"].lengths.tolist() == [1, 0, 3, 4, 1, 0, 1, 0, 3]
    assert raw.features["vision"].packed(0, 3)[:, 0].tolist() == [1, 3, 3, 3]
    assert "3 of 9 samples have no text: only zeros, or no array." in raw.notes
    assert raw.padding == ("front" if front else "end")


def test_one_h5_of_traits(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "pom.h5", "w") as file:
        for split, arrays in splits().items():
            for name, values in arrays.items():
                file[f"{name}_{split}"] = np.column_stack([values, 8 - values]) if name == "label" else values
    raw = read(tmp_path / "pom.h5")
    assert raw.task.card() == {"kind": "ratings", "targets": ["label 1", "label 2"], "low": [1, 3], "high": [5, 7]}
    assert raw.target.shape == (9, 2)


def tailor() -> dict[str, dict[str, Any]]:
    names = {"text": "src-text", "audio": "src-audio", "vision": "src-visual"}
    made: dict[str, dict[str, Any]] = {}
    for split, arrays in splits().items():
        made[split] = {names[m]: torch.from_numpy(arrays[m]) for m in names}
        made[split]["tgt"] = [[2, 4, 3], [2, 5, 7, 3], [2, 3], [9]][: COUNTS[split]]
    return made


def test_tailor(tmp_path: Path) -> None:
    torch.save(tailor(), tmp_path / "train_valid_test.pt")
    raw = read(tmp_path / "train_valid_test.pt", "mosei_emotions")
    assert (raw.format, raw.task.kind) == ("tensors", "multi_label")
    assert raw.target[:4].tolist() == [[1, 0, 0, 0, 0, 0], [0, 1, 0, 1, 0, 0], [0] * 6, [0, 0, 0, 0, 0, 1]]
    assert read(tmp_path / "train_valid_test.pt").task.classes == lookup("mosei_emotions").task.classes
    assert raw.features["text"].lengths[:4].tolist() == [1, 2, 3, 4]


def test_tensors_in_the_names_of_npz(tmp_path: Path) -> None:
    content = {
        "ids": [f"clip{i}" for i in range(6)],
        "text": torch.ones(6, 3, dtype=torch.bfloat16),
        "label": torch.arange(6) % 2,
        "classes": ["no", "yes"],
        "split": ["train", "train", "train", "val", "test", "test"],
        "speaker": ["a", "b"] * 3,
    }
    torch.save(content, tmp_path / "mine.pt")
    raw = read(tmp_path / "mine.pt")
    assert raw.task.card() == {"kind": "single_label", "classes": ["no", "yes"]}
    assert raw.columns == {"speaker": ["a", "b"] * 3}
    assert raw.partitions["official"].tolist() == [0, 0, 0, 1, 2, 2]


def test_refusals(tmp_path: Path) -> None:
    torch.save(tailor() | {"val": {}}, tmp_path / "x.pt")
    with pytest.raises(Refusal, match="each split and each array once"):
        read(tmp_path / "x.pt")
    without = tailor()
    del without["valid"]["tgt"]
    torch.save(without, tmp_path / "x.pt")
    with pytest.raises(Refusal, match="labels of split valid; found only text, audio, vision"):
        read(tmp_path / "x.pt")
    torch.save({"text": np.zeros((2, 2))}, tmp_path / "x.pt")
    with pytest.raises(Refusal, match="one that asks for numpy"):
        read_raw(Tensors(), tmp_path / "x.pt", None, {})
    made = splits()
    made["test"]["audio"] = made["test"]["audio"][:, :, :1]
    with pytest.raises(Refusal, match="audio of one width in all splits; found 1 and 2"):
        read(write_h5(tmp_path / "h5", made))

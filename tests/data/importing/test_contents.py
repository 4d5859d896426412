"""`data inspect` on any file: what is in it, by name, shape and type, and what is missing to be read."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from mer_lightning import cli
from mer_lightning.commands.data import main
from mer_lightning.data.importing.base import detect
from mer_lightning.data.importing.contents import contents_of
from mer_lightning.errors import Refusal

POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 123456\n"


def parts(path: Path) -> dict[str, str]:
    return {name.strip(): what for name, what in contents_of(path).parts}


def test_pickles(tmp_path: Path) -> None:
    content = {"train": {"x": np.zeros((2, 3), np.float32), "y": ["a", 1]}, **{f"video{i}": i for i in range(20)}}
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(content))
    found = parts(tmp_path / "x.pkl")
    assert found == {
        "": "dict of 21",
        "train": "dict of 2",
        "x": "float32 (2, 3)",
        "y": "list of 2: str, int",
        **{f"video{i}": "int" for i in range(11)},
        "...": "and 9 more",
    }
    (tmp_path / "x.pkl").write_bytes(pickle.dumps([{"a": [1, 2]}, {"b"}, "c"]))
    assert list(parts(tmp_path / "x.pkl").values()) == [
        "list of 3: dict, set, str",
        "dict of 1",
        "list of 2: int",
        "set of 1: str",
        "str 'c'",
    ]


def test_arrays_tensors_and_tables(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    np.savez(tmp_path / "x.npz", ids=np.array(["a"]), frames=np.zeros((4, 2)))
    np.save(tmp_path / "x.npy", np.zeros((4, 2), np.int16))
    torch.save({"w": torch.zeros(3, 2)}, tmp_path / "x.pt")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["clip/features"] = np.zeros((5, 3))
    pd.DataFrame({"name": ["a", "b"], "value": [1.0, 2.0]}).to_parquet(tmp_path / "x.parquet")
    (tmp_path / "x.csv").write_text("name,value\na,1\nb,2\n")
    (tmp_path / "x.json").write_text(json.dumps({"train": ["a", "b"]}))
    assert parts(tmp_path / "x.npz") == {"ids": "<U1 (1,)", "frames": "float64 (4, 2)"}
    assert parts(tmp_path / "x.npy") == {"": "int16 (4, 2)"}
    assert parts(tmp_path / "x.pt") == {"": "dict of 1", "w": "float32 (3, 2)"}
    assert parts(tmp_path / "x.h5") == {"clip": "group of 1", "features": "numbers (5, 3)"}
    assert parts(tmp_path / "x.parquet")["rows"] == "2"
    assert parts(tmp_path / "x.parquet")["value"] == "double"
    assert parts(tmp_path / "x.csv") == {"name": "such as a", "value": "such as 1"}
    assert parts(tmp_path / "x.json") == {"": "dict of 1", "train": "list of 2: str"}
    assert parts(tmp_path) == {
        each.name: f"{each.stat().st_size} bytes" for each in sorted(tmp_path.iterdir(), key=lambda each: each.name)
    }


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\0\0\0\x18ftypmp42", "a video or sound (MP4)"),
        (b"\x1f\x8b\x08", "a compressed file (gzip): unpack it first"),
        (b"", "an empty file"),
        (b"\0\1\2", "3 bytes of no kind that is known here"),
        (b"a,b\n1,2,3\n", "text of 10 bytes"),
    ],
)
def test_what_holds_no_features(tmp_path: Path, data: bytes, kind: str) -> None:
    (tmp_path / "x.csv").write_bytes(data)
    assert contents_of(tmp_path / "x.csv").kind == kind


def test_pointers_are_said_to_be_pointers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mosi.pkl"
    file.write_text(POINTER)
    assert main(["inspect", str(file)]) == 0
    assert "a Git-LFS pointer to 123456 bytes that are not here" in capsys.readouterr().out
    with pytest.raises(Refusal, match="a Git-LFS pointer to 123456 bytes; run git lfs pull"):
        detect(file)
    assert "1 files whose content is not here" in parts(tmp_path)["Git-LFS pointers"]


def inspected(path: Path, capsys: pytest.CaptureFixture[str], code: int = 0) -> dict[str, Any]:
    assert cli.main(["data", "inspect", str(path), "--json"]) == code
    return json.loads(capsys.readouterr().out) if code == 0 else {}


def test_what_is_missing_is_said_for_each_format_of_such_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "mine.npz", text=np.zeros((3, 2)), label=np.arange(3))
    found = inspected(tmp_path / "mine.npz", capsys)
    assert found["missing"] == {
        "npz": "expected an array 'ids'; found only label, text; see mer-lightning docs npz-format"
    }
    (tmp_path / "labels.pkl").write_bytes(pickle.dumps({"train": {"id": []}, "valid": {}, "test": {}}))
    missing = inspected(tmp_path / "labels.pkl", capsys)["missing"]
    assert set(missing) == {"conversations", "mag", "mmsa", "mult"}
    assert missing["mmsa"] == "expected 'text' in 'train'; found only id; check how the file was made"
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "a.mp4").write_bytes(b"\0\0\0\x18ftypmp42")
    assert main(["inspect", str(tmp_path / "clips")]) == 0
    said = capsys.readouterr().out
    assert "a.mp4" in said
    assert "to be read as folder: expected a table of labels: labels.csv or labels.parquet" in " ".join(said.split())


def test_damaged_files_are_refused_and_texts_in_them_are_no_markup(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = pickle.dumps({"a": np.zeros(100)})
    (tmp_path / "x.pkl").write_bytes(whole[:60])
    inspected(tmp_path / "x.pkl", capsys, code=2)
    assert len(capsys.readouterr().err.strip().splitlines()) <= 1
    (tmp_path / "x.pkl").write_bytes(pickle.dumps({"[bold]\x1b[31m": 1}))
    assert main(["inspect", str(tmp_path / "x.pkl")]) == 0
    said = capsys.readouterr().out
    assert "[bold]" in said
    assert "\x1b[31m" not in said
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("../evil.txt", "x")
    assert parts(tmp_path / "x.zip") == {"../evil.txt": "1 bytes"}

"""A small file cannot take much memory or time: what it declares is compared with what it has."""

from __future__ import annotations

import itertools
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from mer_lightning.data.importing.feature_files import NpzFile, files_of, read_npy
from mer_lightning.data.importing.unpickle import load_pickle
from mer_lightning.data.tables import read_table
from mer_lightning.errors import Refusal
from mer_lightning.yaml_text import from_yaml


def twice(count: int, combine: bytes) -> bytes:
    """``count`` objects, each of which holds the one before twice."""
    return b")\x94" + b"".join(b"h" + bytes([i]) * 1 + b"h" + bytes([i]) + combine + b"\x94" for i in range(count))


NESTED = b"\x80\x04" + twice(60, b"\x86")
BOMBS = {
    "a key that takes 2 to the 60 steps to hash": b"\x80\x04}" + NESTED[2:] + b"K\x01s.",
    "the same in a set": b"\x80\x04\x8f(" + NESTED[2:] + b"\x90.",
    "lists that share their parts": NESTED + b".",
    "lists in each other": b"\x80\x04" + b"]" * 3000 + b"a" * 2999 + b".",
    "a list that holds itself": b"\x80\x04]\x94h\x00a.",
    "a text that is copied without end": b"\x80\x04X\x00\x00\x10\x00" + b"a" * 2**20 + b"\x94("
    + b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R" * 5000 + b"l.",
    "marks without end": b"\x80\x04" + b"(" * 3_000_000,
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_a_pickle_is_bounded_by_its_length(name: str, tmp_path: Path) -> None:
    path = tmp_path / "bomb.pkl"
    path.write_bytes(BOMBS[name])
    with pytest.raises(Refusal, match=r"more work|in a key|keys for|levels in each other|shared more often"):
        load_pickle(path)


def test_a_harmless_pickle_may_share_and_nest_as_programs_do(tmp_path: Path) -> None:
    row = [1.5, "text"]
    content = {"rows": [row] * 1000, ("a", 1): {"x", 2}}
    path = tmp_path / "file.pkl"
    path.write_bytes(pickle.dumps(content, 4))
    assert load_pickle(path) == content


PAIRS = [*itertools.pairwise("abcdefghijklmno")]
YAML_BOMBS = {
    "aliases of aliases": "a: &a [x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}, *{a}, *{a}]\n" for a, b in PAIRS),
    "merged mappings": "a: &a {k: 1}\n" + "".join(f"{b}: &{b} {{<<: [*{a}, *{a}]}}\n" for a, b in PAIRS),
    "levels": "[" * 500,
    "mappings as keys": "? " * 500 + "x",
    "a list that holds itself": "&a [*a]",
    "a long number": "x: " + "1:1" * 1000,
    "a long number with its tag": "!!int '" + "1:1" * 1000 + "'",
    "a date that is none": "x: 2020-99-99",
}  # fmt: skip


@pytest.mark.parametrize("name", YAML_BOMBS)
def test_yaml_is_bounded_by_its_length(name: str) -> None:
    with pytest.raises(yaml.YAMLError):
        from_yaml(YAML_BOMBS[name])


def test_anchors_as_people_use_them_are_read() -> None:
    assert from_yaml("a: &a {k: [1, 2]}\nb: {<<: *a, m: 3}\nc: *a") == {
        "a": {"k": [1, 2]},
        "b": {"k": [1, 2], "m": 3},
        "c": {"k": [1, 2]},
    }


def header(shape: str, kind: str = "<f8") -> bytes:
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


@pytest.mark.parametrize("shape", ["(1000000000000,)", "(10**12,)", "(-1, 4)", "(0, 99999999999999999999)", "(3,)"])
def test_an_array_has_what_its_header_says(shape: str, tmp_path: Path) -> None:
    path = tmp_path / "array.npy"
    path.write_bytes(header(shape) + bytes(16))
    with pytest.raises(Refusal, match=r"array\.npy"):
        read_npy(path)


def archive(path: Path, data: bytes, claim: int | None = None) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("text.npy", data)
    if claim is not None:
        content = path.read_bytes()
        real = struct.pack("<I", len(data))
        path.write_bytes(content.replace(real, struct.pack("<I", claim)))
    return path


def test_an_archive_that_expands_is_refused_before_it_does(tmp_path: Path) -> None:
    bomb = archive(tmp_path / "mine.npz", header("(20000000,)") + bytes(160_000_000))
    assert bomb.stat().st_size < 200_000
    with pytest.raises(Refusal, match="would become 1600001"):
        NpzFile(bomb).array("text")


def test_an_archive_that_lies_about_its_size_gives_no_more_than_it_declared(tmp_path: Path) -> None:
    bomb = archive(tmp_path / "mine.npz", header("(2000000,)") + bytes(16_000_000), claim=1000)
    with pytest.raises(Refusal, match=r"mine\.npz: text"):
        NpzFile(bomb).array("text")


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "..", "a/b", "a\0b", "x" * 300])
def test_ids_are_names_and_no_paths(name: str, tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="ids that are names of files"):
        files_of(tmp_path, name)


def links(path: Path) -> dict[str, Callable[[], None]]:
    import h5py

    def dataset(**options: object) -> None:
        with h5py.File(path, "w") as file:
            file.create_dataset("x", **options)

    def link(target: object) -> None:
        with h5py.File(path, "w") as file:
            file["x"] = target

    def virtual() -> None:
        layout = h5py.VirtualLayout((2,), "f4")
        layout[:] = h5py.VirtualSource("other.h5", "y", (2,))
        with h5py.File(path, "w") as file:
            file.create_virtual_dataset("x", layout)

    return {
        "external storage": lambda: dataset(shape=(4,), dtype="u1", external=[("/etc/hostname", 0, 4)]),
        "an external link": lambda: link(h5py.ExternalLink("other.h5", "/y")),
        "a soft link to itself": lambda: link(h5py.SoftLink("/x")),
        "a virtual data set": virtual,
        "a bomb": lambda: dataset(shape=(10**8,), dtype="f8", chunks=(10**6,), compression="gzip"),
        "objects of another kind": lambda: dataset(data=np.zeros(2, [("a", "f4")])),
    }


@pytest.mark.parametrize("name", list(links(Path())) if pytest.importorskip("h5py") else [])
def test_hdf5_is_read_from_the_file_itself_and_bounded_by_it(name: str, tmp_path: Path) -> None:
    from mer_lightning.data.importing.hdf5 import H5File

    path = tmp_path / "file.h5"
    links(path)[name]()
    with pytest.raises(Refusal, match=r"in the file itself|would become|numbers or texts"):
        H5File(path).array("x")


def test_a_table_that_repeats_itself_is_refused(tmp_path: Path) -> None:
    import pandas as pd

    long = tmp_path / "texts.parquet"
    pd.DataFrame({"id": ["x" * 10_000] * 20_000}).to_parquet(long)
    assert long.stat().st_size < 100_000
    many = tmp_path / "rows.parquet"
    pd.DataFrame({"id": np.zeros(10_000_000, np.int8)}).to_parquet(many)
    for path in (long, many):
        with pytest.raises(Refusal, match="would become"):
            read_table(path, "a table")

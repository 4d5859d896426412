"""A checkpoint holds what it declares, in a pickle that asks for tensors and plain values."""

from __future__ import annotations

import io
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mer_lightning.errors import Refusal
from mer_lightning.methods.checkpoints import read_checkpoint

CONTENT = {
    "state_dict": OrderedDict(weight=torch.arange(6.0).view(2, 3), half=torch.ones(2, dtype=torch.bfloat16)),
    "epoch": 3,
    "callbacks": {"Stopping": {"best": torch.tensor(1.5), "words": ["a", None, True, 1e-8]}},
}


def saved(path: Path, content: Any = CONTENT) -> Path:
    torch.save(content, path)
    return path


def rewrite(path: Path, change: Callable[[dict[str, bytes]], object], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    path.write_bytes(stream.getvalue())
    return path


def member(members: dict[str, bytes], ending: str) -> str:
    return next(name for name in members if name.endswith(ending))


def test_a_whole_one_is_read(tmp_path: Path) -> None:
    content = read_checkpoint(saved(tmp_path / "a.ckpt"))
    assert torch.equal(content["state_dict"]["weight"], CONTENT["state_dict"]["weight"])
    assert content["callbacks"]["Stopping"]["words"] == ["a", None, True, 1e-8]
    rewrite(tmp_path / "a.ckpt", lambda members: None)
    assert read_checkpoint(tmp_path / "a.ckpt")["epoch"] == 3


def test_a_tensor_beyond_its_storage_is_not_read(tmp_path: Path) -> None:
    """Torch takes the number from the pickle, and would read whatever lies behind in memory."""
    path = saved(tmp_path / "a.ckpt")

    def shorten(members: dict[str, bytes]) -> None:
        members[member(members, "/data/0")] = b"1234"

    with pytest.raises(Refusal, match="a tensor of 6 numbers that the file does not have"):
        read_checkpoint(rewrite(path, shorten))


def test_one_that_is_compressed_could_be_a_bomb(tmp_path: Path) -> None:
    path = rewrite(saved(tmp_path / "a.ckpt"), lambda members: None, zipfile.ZIP_DEFLATED)
    with pytest.raises(Refusal, match="compressed"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    "pickle",
    [b"cbuiltins\nbytearray\n(I9999999999\ntR.", b"cos\nsystem\n(S'x'\ntR.",
     b"\x80\x02" + b"]" * 500 + b"a" * 499 + b"."],
)  # fmt: skip
def test_its_pickle_is_looked_at_before_torch_does(pickle: bytes, tmp_path: Path) -> None:
    path = rewrite(saved(tmp_path / "a.ckpt"), lambda members: members.update({member(members, "data.pkl"): pickle}))
    with pytest.raises(Refusal, match=r"one that asks for|levels in each other"):
        read_checkpoint(path)


@pytest.mark.parametrize("content", [{"state_dict": 3}, [1], {"epoch": 2}])
def test_something_else(content: Any, tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="a checkpoint that mer-lightning fit wrote"):
        read_checkpoint(saved(tmp_path / "a.ckpt", content))
    (tmp_path / "b.ckpt").write_bytes(b"no archive")
    with pytest.raises(Refusal, match=r"b\.ckpt"):
        read_checkpoint(tmp_path / "b.ckpt")

"""Hostile and broken pickles are refused, and nothing in them runs."""

from __future__ import annotations

import contextlib
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mer_lightning.data.importing.base import detect
from mer_lightning.data.importing.unpickle import load_pickle, outline
from mer_lightning.errors import Refusal
from tests.data.importing.test_unpickle import PROTOCOLS, grid, load_bytes


class Call:
    """Pickles as a call of ``function`` with ``arguments`` and then, if given, a state."""

    def __init__(self, function: object, *arguments: object, state: object = None) -> None:
        self.function, self.arguments, self.state = function, arguments, state

    def __reduce__(self) -> tuple[object, ...]:
        return (self.function, self.arguments) if self.state is None else (self.function, self.arguments, self.state)


def touch(canary: Path) -> tuple[object, str]:
    import os

    return os.system, f"touch {canary}"


def hostile(canary: Path) -> dict[str, bytes]:
    system, command = touch(canary)
    code = f"__import__('os').system('touch {canary}')"
    objects = np.array([Call(system, command), None], dtype=object)
    reconstruct, arguments, state = np.array([1, 2]).__reduce__()
    line = command.encode()
    return {
        "REDUCE": pickle.dumps(Call(system, command), 4),
        "REDUCE in a dict": pickle.dumps({"train": {"text": grid, "id": [Call(system, command)]}}, 2),
        "object array": pickle.dumps(objects, 4),
        "state of an array": pickle.dumps(Call(reconstruct, *arguments, state=(*state[:4], Call(system, command))), 4),
        "state of a state": pickle.dumps(
            Call(reconstruct, *arguments, state=Call(reconstruct, *arguments, state=Call(system, command))), 4
        ),
        "eval": pickle.dumps(Call(eval, code), 4),
        "exec": pickle.dumps(Call(exec, code), 0),
        "getattr": pickle.dumps(Call(getattr, Call(__import__, "os"), "system"), 4),
        "dotted name": b"\x80\x04\x8c\x08builtins\x8c\x0cset.__init__\x93.",
        "INST": b"(S'" + line + b"'\nios\nsystem\n.",
        "OBJ": b"(cos\nsystem\nS'" + line + b"'\no.",
        "NEWOBJ": b"\x80\x02csubprocess\nPopen\n](U\x05touchU" + bytes([len(str(canary))]) + str(canary).encode()
        + b"e\x85\x81.",
        "Python 2 name": b"c__builtin__\neval\n(S\"" + code.encode() + b"\"\ntR.",
        "defaultdict": b"\x80\x02ccollections\ndefaultdict\ncos\nsystem\n\x85R.",
        "extension": b"\x80\x02\x82\x01.",
        "persistent id": b"Pos.system\n.",
        "numpy loader": pickle.dumps(Call(np.load, str(canary)), 4),
        "torch storage": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.",
    }  # fmt: skip


@pytest.mark.parametrize("name", hostile(Path("canary")))
def test_hostile_files_are_refused_and_nothing_runs(tmp_path: Path, name: str) -> None:
    canary, path = tmp_path / "canary", tmp_path / "file.pkl"
    path.write_bytes(hostile(canary)[name])
    with pytest.raises(Refusal, match="nothing was executed"):
        load_pickle(path)
    assert outline(path) == {}
    assert not canary.exists()


def test_the_canary_would_sing(tmp_path: Path) -> None:
    """The payloads above work where pickles are trusted."""
    for name in ("REDUCE", "object array", "state of an array", "eval", "Python 2 name", "OBJ", "INST"):
        canary = tmp_path / f"canary {name}".replace(" ", "-")
        data = hostile(canary)[name]
        try:
            pickle.loads(data)
        except Exception:  # the state of an array is wrong, after the call was made
            assert name == "state of an array"
        assert canary.exists(), name


@pytest.mark.parametrize(
    ("name", "asked"),
    [("REDUCE", "posix.system"), ("eval", "builtins.eval"), ("getattr", "builtins.getattr"),
     ("torch storage", "torch._utils._rebuild_tensor_v2")],
)  # fmt: skip
def test_the_refusal_names_what_was_asked_for(tmp_path: Path, name: str, asked: str) -> None:
    path = tmp_path / "file.pkl"
    path.write_bytes(hostile(tmp_path / "canary")[name])
    with pytest.raises(Refusal) as caught:
        load_pickle(path)
    assert asked in caught.value.found
    with pytest.raises(Refusal, match=asked):
        detect(path)
    assert caught.value.where == str(path)


def test_object_arrays_do_not_read_addresses_from_the_file() -> None:
    """A dtype whose state denies that it holds objects would make numpy follow pointers out of the file."""
    dtype = b"cnumpy\ndtype\n(S'O8'\nI0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI0\ntb"
    made = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
    data = made + b"(I1\n(I1\nt" + dtype + b"I00\nS'AAAAAAAA'\ntb."
    with pytest.raises(Refusal, match="an array of objects whose content is not a list"):
        load_bytes(data)
    records = np.zeros(2, dtype=[("a", "f4"), ("b", "i8")])
    with pytest.raises(Refusal, match=r"records|dtype V"):
        load_bytes(pickle.dumps(records, 4))


@pytest.mark.parametrize(
    "data",
    [b"cbuiltins\nbytearray\n(I1000000000000000\ntR.", b"cbuiltins\nbytes\n(I1000000000000000\ntR.",
     b"\x96\x00\x00\x00\x00\x00\x01\x00\x00.", b"\x80\x02ccollections\ndefaultdict\ncbuiltins\nbytes\n\x85R."],
)  # fmt: skip
def test_a_few_bytes_cannot_ask_for_all_memory(data: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        load_bytes(data)
    assert "MemoryError" not in str(caught.value)


def test_the_tables_of_the_unpickler_cannot_be_changed_from_a_file() -> None:
    state = b"\x80\x02cnumpy.core.multiarray\nscalar\n}U\x01xU\x01ysb."
    with pytest.raises(Refusal, match="a state for a function"):
        load_bytes(state)
    classes = b"\x80\x02cnumpy\ndtype\n}U\x05buildNs}\x86b."
    with pytest.raises(Refusal, match="a state for a type"):
        load_bytes(classes)


# --- broken files


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_cut_is_refused(protocol: int) -> None:
    data = pickle.dumps({"x": [grid, "text", b"bytes", 1.5, {2, 3}]}, protocol)
    for length in range(len(data)):
        with pytest.raises(Refusal, match="one that is cut off"):
            load_bytes(data[:length])


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 not a pickle", b"\x89HDF\r\n\x1a\n", b"\x80\x09."])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file.pkl"
    path.write_bytes(content)
    with pytest.raises(Refusal) as caught:
        load_pickle(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert outline(path) == {}


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing.pkl", tmp_path):
        with pytest.raises(Refusal):
            load_pickle(path)
        assert outline(path) == {}


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_files_load_or_are_refused(data: st.DataObject) -> None:
    protocol = data.draw(st.sampled_from(PROTOCOLS))
    content = bytearray(pickle.dumps({"x": [grid, "text", b"b", 2.5], "o": np.array([1, "a"], object)}, protocol))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(Refusal):  # and nothing else is raised
        load_bytes(bytes(content))

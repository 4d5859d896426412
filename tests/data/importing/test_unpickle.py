"""Harmless pickles load as pickle.load has them, and arrays cost no memory."""

from __future__ import annotations

import collections
import io
import pickle
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mer_lightning.data.importing.unpickle import load_pickle, load_pickle_stream, outline

PROTOCOLS = range(6)


def load_bytes(data: bytes) -> object:
    return load_pickle_stream(io.BytesIO(data), Path("memory.pkl"))


def same(found: object, expected: object) -> bool:
    """Equal in type, value and, for arrays, dtype and every bit; only the order of bytes in memory may differ."""
    if type(found) is not type(expected):
        return False
    if isinstance(expected, np.ndarray):
        if found.dtype.newbyteorder("=") != expected.dtype.newbyteorder("=") or found.shape != expected.shape:
            return False
        if expected.dtype == object:
            return all(same(a, b) for a, b in zip(found.ravel(), expected.ravel(), strict=True))
        return found.astype(expected.dtype).tobytes() == expected.tobytes()
    if isinstance(expected, dict):
        return list(found) == list(expected) and all(same(found[key], expected[key]) for key in expected)
    if isinstance(expected, list | tuple):
        return len(found) == len(expected) and all(map(same, found, expected))
    if isinstance(expected, np.generic):
        return found.dtype == expected.dtype and found.tobytes() == expected.tobytes()
    return found == expected


grid = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
shared = np.arange(5.0)
HARMLESS = {
    "containers": {"a": [1, -2.5, None, True, 10**30], ("b", 2): {1, 2}, "c": frozenset("xy"), "d": 1 + 2j},
    "strings": ["", "é", "\N{GRINNING FACE}", b"", b"\x00\xff", bytearray(), bytearray(b"abc"), "x" * 70_000],
    "collections": [collections.OrderedDict(b=1, a=2), collections.defaultdict(list, k=[1])],
    "floats": grid,
    "large": np.arange(40_000, dtype=np.float64).reshape(100, 400),
    "large bytes": [b"z" * 100_000, bytearray(b"y" * 100_000)],
    "fortran": np.asfortranarray(grid),
    "transposed": grid.transpose(1, 0, 2),
    "strided": grid[:, ::2],
    "big endian": grid.astype(">f8"),
    "integers": [np.arange(3).astype(kind) for kind in ("i1", "u2", "<i4", ">i8", "?", "f2", "c8")],
    "empty arrays": [np.zeros((0, 50, 5), np.float32), np.zeros((3, 0)), np.array(7.0), np.zeros(0, "U3")],
    "text arrays": [np.array(["a", "ümlaut", ""]), np.array([b"x", b"yz"])],
    "objects": np.array([b"one", "two", np.arange(3), {"k": grid}], dtype=object),
    "one object": np.array([b"only"], dtype=object),
    "fortran objects": np.asfortranarray(np.array([[1, "a"], [2, "b"], [3, "c"]], dtype=object)),
    "scalars": [np.float32(1.5), np.int64(-7), np.str_("né"), np.str_(""), np.bytes_(b"q"), np.bool_(True)],
    "one array twice": [shared, shared, {"again": shared}],
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", HARMLESS)
def test_equals_pickle_load(tmp_path: Path, name: str, protocol: int) -> None:
    path = tmp_path / "file.pkl"
    path.write_bytes(pickle.dumps(HARMLESS[name], protocol))
    with open(path, "rb") as file:
        expected = pickle.load(file)
    assert same(load_pickle(path), expected)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_pure_python_pickler_and_one_frame_around_everything(protocol: int) -> None:
    """Pythons 3.4 to 3.6 left large values inside frames."""
    stream = io.BytesIO()
    pickle._Pickler(stream, protocol).dump(HARMLESS["large"])
    assert same(load_bytes(stream.getvalue()), HARMLESS["large"])
    if protocol >= 4:
        bare = pickletools_without_frames(pickle.dumps(HARMLESS["large"], protocol))
        framed = bare[:2] + b"\x95" + struct.pack("<Q", len(bare) - 2) + bare[2:]
        assert same(pickle.loads(framed), HARMLESS["large"])
        assert same(load_bytes(framed), HARMLESS["large"])


def pickletools_without_frames(data: bytes) -> bytes:
    import pickletools

    starts = [position for opcode, _, position in pickletools.genops(data) if opcode.name == "FRAME"]
    pieces, last = [], 0
    for start in starts:
        pieces.append(data[last:start])
        last = start + 9
    return b"".join([*pieces, data[last:]])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    values=hnp.arrays(
        st.sampled_from(["<f4", ">f4", "<f8", ">i2", "<i8", "|b1", "<U4", "|S3"]),
        hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
    ),
    fortran=st.booleans(),
    protocol=st.sampled_from(PROTOCOLS),
)
def test_any_array_equals_pickle_load(values: np.ndarray, fortran: bool, protocol: int) -> None:
    data = pickle.dumps([np.asfortranarray(values) if fortran else values, values], protocol)
    assert same(load_bytes(data), pickle.loads(data))


def python_2(value: object) -> bytes:
    """How cPickle of Python 2 writes arrays, text and containers at protocol 2."""
    if isinstance(value, np.ndarray):
        kind = value.dtype.str[1:].encode()
        shape = b"(" + b"".join(b"J" + struct.pack("<i", side) for side in value.shape) + b"t"
        state = b"(K\x03U\x01" + value.dtype.str[:1].encode() + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        dtype = b"cnumpy\ndtype\nU" + bytes([len(kind)]) + kind + b"K\x00K\x01\x87R" + state
        made = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        return made + b"(K\x01" + shape + dtype + b"\x89" + python_2(value.tobytes()) + b"tb"
    if isinstance(value, bytes):
        if len(value) < 256:
            return b"U" + bytes([len(value)]) + value
        return b"T" + struct.pack("<i", len(value)) + value
    if isinstance(value, dict):
        return b"}(" + b"".join(python_2(key) + python_2(item) for key, item in value.items()) + b"u"
    if isinstance(value, list):
        return b"](" + b"".join(map(python_2, value)) + b"e"
    if isinstance(value, set):
        return b"c__builtin__\nset\n" + python_2(sorted(value)) + b"\x85R"
    raise TypeError(value)


def test_files_of_python_2() -> None:
    small, large = np.arange(6.0).reshape(2, 3), np.random.default_rng(0).normal(size=(50, 60))
    data = b"\x80\x02" + python_2({b"id": [b"video\xe9", b"b"], b"x": small, b"y": large, b"s": {b"v1", b"v2"}}) + b"."
    found = load_bytes(data)
    assert same(found, pickle.loads(data, encoding="latin1"))
    assert found["id"] == ["video\xe9", "b"]
    assert np.array_equal(found["y"], large)


def test_names_of_numpy_1() -> None:
    data = pickle.dumps([grid, np.float32(2)], 3).replace(b"numpy._core", b"numpy.core")
    assert b"numpy.core.multiarray" in data
    assert same(load_bytes(data), [grid, np.float32(2)])


def test_arrays_are_views_that_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "file.pkl"
    path.write_bytes(pickle.dumps({"x": grid}, 4))
    found = load_pickle(path)["x"]
    assert not found.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        found[0, 0, 0] = 1


def test_outline(tmp_path: Path) -> None:
    path = tmp_path / "file.pkl"
    path.write_bytes(pickle.dumps({"train": {"text": grid, "id": ["a"]}, "dev": [1, 2]}, 4))
    assert outline(path) == {"train": frozenset({"text", "id"}), "dev": frozenset()}
    path.write_bytes(pickle.dumps([1, 2, 3], 4))
    assert outline(path) == {}


# --- memory

_MEASURE = """
import sys
import numpy as np
from mer_lightning.data.importing.unpickle import load_pickle

def status(key):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))

before, private = status("VmHWM"), status("RssAnon")
found = load_pickle(sys.argv[1])
loaded = status("VmHWM") - before
total = sum(float(array[i].sum()) for array in found["train"].values() for i in range(len(array)))
size = sum(array.nbytes for array in found["train"].values())
print(size, loaded, status("VmHWM") - before, status("RssAnon") - private, total)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process is read from /proc")
@pytest.mark.parametrize(("protocol", "samples"), [(3, 300), (4, 1200), (5, 300)])
def test_loading_costs_no_memory_and_reading_all_less_than_the_arrays_once_more(
    tmp_path: Path, protocol: int, samples: int
) -> None:
    path = tmp_path / "large.pkl"
    ones = np.ones((samples, 50, 500), np.float32)
    with open(path, "wb") as file:
        pickle.dump(
            {"train": {"text": ones, "audio": ones + 1, "vision": np.asfortranarray(ones[:, :20])}}, file, protocol
        )
    command = [sys.executable, "-c", _MEASURE, str(path)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    path.unlink()
    size, loaded, peak, private, total = map(float, printed.split())
    assert total == samples * 500 * (50 + 2 * 50 + 20)
    assert loaded < 0.05 * size
    assert private < 0.05 * size
    assert peak < 1.1 * size
    print(f"protocol {protocol}: arrays {size / 2**20:.0f} MiB, peak after loading {loaded / 2**20:.1f}, "
          f"after reading all {peak / 2**20:.1f}, of which not the mapped file {private / 2**20:.1f}")  # fmt: skip

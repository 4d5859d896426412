"""Ways to damage a file or to make it hostile; each takes its bytes and a generator of random numbers.

Here are those of any file. `mutations_of_data.py` and `mutations_of_texts.py` know what is inside: the instructions of
a pickle, the members of an archive, the groups of HDF5, the keys of YAML. What they put there is what attackers put
there: programs, bombs, paths, lies about sizes.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

CANARY = "canary"
Draw = np.random.Generator
Mutation = Callable[[bytes, Draw], bytes]
VALUES: list[Any] = [
    *(
        None,
        True,
        -1,
        0,
        5,
        10**30,
        -(10**30),
        1.5,
        float("nan"),
        float("inf"),
        "",
        "x",
        "\x1b[31m",
        "../../x",
        "/etc/passwd",
    ),
    *([], {}, [[]], {"x": 1}, [None], "x" * 3000, 1e308, "2020-01-01", "None", "valid/score", "os.system"),
]


# --- bytes


def flip(data: bytes, draw: Draw) -> bytes:
    changed = bytearray(data)
    for position in draw.integers(0, len(data), draw.integers(1, 9)):
        changed[position] ^= 1 << draw.integers(0, 8)
    return bytes(changed)


def overwrite(data: bytes, draw: Draw) -> bytes:
    """A number somewhere becomes an extreme one, as sizes and offsets in headers may."""
    number = [0, 0xFF, 0x7F, 0x80][draw.integers(0, 4)]
    length = int(draw.choice([1, 2, 4, 8]))
    position = _place(data, draw)
    return data[:position] + bytes([number]) * length + data[position + length :]


def cut(data: bytes, draw: Draw) -> bytes:
    return data[: _place(data, draw)]


def remove(data: bytes, draw: Draw) -> bytes:
    start = _place(data, draw)
    return data[:start] + data[start + int(draw.integers(1, 200)) :]


def repeat(data: bytes, draw: Draw) -> bytes:
    start = _place(data, draw)
    piece = data[start : start + int(draw.integers(1, 200))]
    return data[:start] + piece * int(draw.integers(2, 50)) + data[start:]


def insert(data: bytes, draw: Draw) -> bytes:
    position = _place(data, draw)
    return data[:position] + draw.bytes(int(draw.integers(1, 40))) + data[position:]


BYTES: list[Mutation] = [flip, overwrite, cut, remove, repeat, insert]


def _place(data: bytes, draw: Draw) -> int:
    """Half of the places are in headers and footers, where a change does more."""
    if draw.random() < 0.5:
        return int(draw.integers(0, len(data) + 1))
    near = int(draw.integers(0, min(len(data), 400) + 1))
    return near if draw.random() < 0.5 else len(data) - near


def with_another_value(tree: Any, draw: Draw) -> Any:
    """``tree`` with something else at a random place."""
    inside = isinstance(tree, (dict, list, tuple)) and len(tree) > 0 and draw.random() < 0.85
    if not inside:
        return _another(tree, draw)
    keys = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
    key = keys[draw.integers(0, len(keys))]
    changed: Any = dict(tree) if isinstance(tree, dict) else list(tree)
    kind = draw.random()
    if kind < 0.1:
        del changed[key]
    elif kind < 0.15 and isinstance(changed, dict):
        changed[str(VALUES[draw.integers(0, len(VALUES))])] = changed.pop(key)
    else:
        changed[key] = with_another_value(changed[key], draw)
    return tuple(changed) if isinstance(tree, tuple) else changed


def _another(value: Any, draw: Draw) -> Any:
    if isinstance(value, np.ndarray) and draw.random() < 0.8:
        ways: list[Callable[[], Any]] = [
            lambda: value[:0], lambda: value[..., :0], lambda: value[1:], lambda: value.reshape(-1),
            lambda: value[None],
            lambda: value.astype(str), lambda: value.astype(object), lambda: value.astype(np.complex64),
            lambda: value.astype(bool), lambda: value.astype("datetime64[s]"), lambda: value.tolist(),
            lambda: np.full(value.shape, np.nan), lambda: np.full(value.shape, 2**62), lambda: np.float64(3),
            lambda: value[0],
        ]  # fmt: skip
        try:
            return ways[draw.integers(0, len(ways))]()
        except (ValueError, TypeError, IndexError):
            return None
    return VALUES[draw.integers(0, len(VALUES))]


def seed_of(*words: object) -> Draw:
    return np.random.default_rng(zlib.crc32(" ".join(map(str, words)).encode()))

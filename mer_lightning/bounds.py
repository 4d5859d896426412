"""How much a file may grow when it is read: what it declares is compared with what it has, before memory is taken."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from pathlib import Path

from mer_lightning.errors import Refusal

# Enough for padded features, which are mostly zeros and shrink well; small files may be mostly zeros altogether.
_FREE, _TIMES = 96 * 2**20, 8


def refuse_growth(where: str | Path, expanded: int, stored: int) -> None:
    """Refuse ``stored`` bytes that declare to be ``expanded`` bytes in memory."""
    if expanded > _FREE + _TIMES * stored:
        expected = f"at most {_FREE >> 20} MB, or {_TIMES} times as much as the file has"
        found = f"{stored} bytes that would become {expanded}"
        raise Refusal(where, expected, found, "write it again with less compression, if you know that it is right")


def array_bytes(where: str | Path, shape: Sequence[int], itemsize: int) -> int:
    """Of an array whose declared shape is one that an array can have."""
    sizes = [int(size) for size in shape]
    # An array without elements may declare any length of its other sides, and takes no bytes for it.
    if any(size < 0 for size in sizes) or prod(size for size in sizes if size) * max(itemsize, 1) >= 2**62:
        raise Refusal(where, "the shape of an array", str(tuple(sizes)), "copy or make the file again")
    return prod(sizes) * itemsize

"""What the few names stand for that a harmless pickle may call: makers of plain Python objects and arrays.

Keys are flat, because to hash tuples in tuples takes time without end.
"""

from __future__ import annotations

import collections
import pickle
import re
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

_NDARRAY = object()  # what `numpy.ndarray` means inside a pickle: only ever an argument
_SCALARS = (str, bytes, int, float, complex, np.generic, type(None))


class Unbuilt:
    """An object that a pickle makes in two steps: a call without content, then a state.

    Numpy changes such an object in place. In this module the second step makes another object to replace the first.
    """

    built: Any = None

    def build(self, state: Any) -> Any:
        raise NotImplementedError


class DType(Unbuilt):
    """Replaces `numpy.dtype`, which takes flags from the state, so that a file could make it read memory addresses."""

    def __init__(self, code: str, align: Any = False, copy: Any = True) -> None:
        if not re.fullmatch(r"[?biufcSUO]\d*", code):
            raise pickle.UnpicklingError(f"dtype {code}")
        self.dtype = np.dtype("O" if code.startswith("O") else code)

    def build(self, state: Any) -> np.dtype[Any]:
        _version, byte_order, subarray, names, fields, *_ = state
        if not (subarray is names is fields is None):
            raise pickle.UnpicklingError("an array of records")
        return self.dtype.newbyteorder(byte_order)


class Array(Unbuilt):
    """Replaces `numpy.core.multiarray._reconstruct`: shape, dtype and content of the array come with the state."""

    def __init__(self, subtype: Any, shape: Any, code: Any) -> None:
        if subtype is not _NDARRAY:
            raise pickle.UnpicklingError("an array of a special class")

    def build(self, state: Any) -> NDArray[Any]:
        *_, shape, dtype, fortran, data = state
        return array(data, dtype, shape, "F" if fortran else "C")


def array(data: Any, dtype: Any, shape: Any, order: str, axes: Any = None) -> NDArray[Any]:
    """Replaces `numpy.core.numeric._frombuffer`, by which protocol 5 writes an array."""
    if not isinstance(dtype, np.dtype):
        raise pickle.UnpicklingError("an array without a dtype")
    if dtype.hasobject:
        if not isinstance(data, list):
            raise pickle.UnpicklingError("an array of objects whose content is not a list")
        values = np.empty(len(data), dtype)
        for position, item in enumerate(data):
            values[position] = item
        return values.reshape(shape)  # numpy lists objects in C order, whatever their order in memory
    values = _numbers(data, dtype)
    if order == "K":  # C order, after the axes are put in the order that they have in memory
        return values.reshape(shape).transpose(axes)
    return values.reshape(shape, order=cast(Any, order))


def _scalar(dtype: Any, data: Any) -> Any:
    """Replaces `numpy.core.multiarray.scalar`."""
    if not isinstance(dtype, np.dtype) or dtype.hasobject:
        raise pickle.UnpicklingError("a scalar that is neither a number nor a string")
    return _numbers(data, dtype).reshape(())[()]


def _numbers(data: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
    if dtype.itemsize == 0:  # the empty string
        return np.zeros(1, dtype)
    return np.frombuffer(data.encode("latin1") if isinstance(data, str) else data, dtype)


def encode_latin1(text: str | memoryview, encoding: str) -> bytes:
    """Replaces `_codecs.encode`, by which protocols 0 to 2 write bytes."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"bytes as {encoding}")
    return (str(text, "utf-8") if isinstance(text, memoryview) else text).encode("latin1")


def _bytes() -> bytes:
    """Replaces `bytes`, which protocols 0 to 2 call for empty bytes. A number as argument could fill the memory."""
    return b""


def _bytearray(data: str | bytes = b"", encoding: str = "latin-1") -> bytearray:
    return bytearray(encode_latin1(data, encoding) if isinstance(data, str) else bytes(memoryview(data)))


def flat_key(key: Any) -> Any:
    """``key`` if it is a scalar or a tuple of scalars: to hash tuples in tuples takes time without end."""
    for part in key if type(key) is tuple else (key,):
        if not isinstance(part, _SCALARS):
            raise pickle.UnpicklingError(f"a {type(part).__name__} in a key")
    return key


def _elements(values: Any) -> Any:
    if not isinstance(values, (list, tuple, set, frozenset)):
        raise pickle.UnpicklingError(f"the elements of a {type(values).__name__}")
    return values


def set_of(values: Any = ()) -> set[Any]:
    return {flat_key(value) for value in _elements(values)}


def frozenset_of(values: Any = ()) -> frozenset[Any]:
    return frozenset(set_of(values))


def _list(values: Any = ()) -> list[Any]:
    return list(_elements(values))


def _tuple(values: Any = ()) -> tuple[Any, ...]:
    return tuple(_elements(values))


def _dict(items: Any = ()) -> dict[Any, Any]:
    return {flat_key(key): value for key, value in (items.items() if isinstance(items, dict) else _elements(items))}


def _ordered(items: Any = ()) -> collections.OrderedDict[Any, Any]:
    return collections.OrderedDict(_dict(items))


def _defaultdict(factory: Any = None, items: Any = ()) -> collections.defaultdict[Any, Any]:
    """Without a factory: what reads a file asks for nothing that is not in it."""
    if factory not in (None, _list, _dict, set_of, int, float):
        raise pickle.UnpicklingError("a defaultdict of something unusual")
    return collections.defaultdict(None, _dict(items))


NAMES: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): DType,
    ("numpy.core.multiarray", "_reconstruct"): Array,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy.core.numeric", "_frombuffer"): array,
    ("_codecs", "encode"): encode_latin1,
    ("builtins", "bytes"): _bytes,
    ("builtins", "bytearray"): _bytearray,
    ("collections", "OrderedDict"): _ordered,
    ("collections", "defaultdict"): _defaultdict,
    ("builtins", "set"): set_of,
    ("builtins", "frozenset"): frozenset_of,
    ("builtins", "list"): _list,
    ("builtins", "tuple"): _tuple,
    ("builtins", "dict"): _dict,
    **{("builtins", kind.__name__): kind for kind in (complex, int, float, bool)},
}

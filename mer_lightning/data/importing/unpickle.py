"""Pickles from strangers: containers, strings, numbers and numpy arrays, and nothing else; large ones without copying.

Nothing that a file names is imported or called. The few names that harmless files ask for are answered with the
stand-ins below, which build plain Python objects and arrays; any other name is refused. Arrays are read-only views of
the mapped file, so that loading costs the memory of the small objects only.
"""

from __future__ import annotations

import collections
import functools
import mmap
import pickle
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from mer_lightning.errors import Refusal

_HARMLESS = "a pickle of containers, strings, numbers and numpy arrays"
_NDARRAY = object()  # what `numpy.ndarray` means inside a pickle: only ever an argument


def load_pickle(path: str | Path) -> Any:
    """What :func:`pickle.load` gives for a harmless file of any protocol, also one written by Python 2 (as latin-1).

    Arrays are read-only, keep the byte order of the file, and stay on disk until they are used:
    while they live, do not write to that file in place.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:  # ValueError: an empty file cannot be mapped
        raise Refusal(path, _HARMLESS, str(error), "check the path, or copy the file again") from error
    return _load(mapped, path)


def load_pickle_stream(stream: BinaryIO, where: Path) -> Any:
    """The same for a pickle inside another file: what ``stream`` still holds is read into memory."""
    return _load(stream.read(), where)


def outline(path: Path) -> dict[str, frozenset[str]]:
    """{key: keys of its value} of a pickled dict of dicts (no keys for other values); {} for any other file.

    By this readers recognise their files. It never raises, and a file that does not change is looked at once.
    """
    try:
        status = path.stat()
        return _outline(path, status.st_size, status.st_mtime_ns) if path.is_file() else {}
    except (OSError, Refusal):
        return {}


@functools.lru_cache(maxsize=8)
def _outline(path: Path, size: int, modified: int) -> dict[str, frozenset[str]]:
    content = load_pickle(path)
    if not isinstance(content, dict):
        return {}
    return {
        str(key): frozenset(map(str, value)) if isinstance(value, dict) else frozenset()
        for key, value in content.items()
    }


def _load(data: bytes | mmap.mmap, where: Path) -> Any:
    try:
        return _RestrictedUnpickler(_Source(data), where).load()
    except Refusal:
        raise
    except EOFError as error:
        raise Refusal(where, _HARMLESS, "one that is cut off", "copy or download the file again") from error
    except Exception as error:  # a broken or hostile stream can make the machine raise anything
        found = f"something else ({type(error).__name__}: {ascii(str(error))[:100]})"
        raise Refusal(where, _HARMLESS, found, "nothing was executed; check that this is the right file") from error


class _Source:
    """The bytes of a pickle: read as copies, or handed out as views."""

    def __init__(self, data: bytes | mmap.mmap) -> None:
        self.data, self.position = data, 0

    def _advance(self, count: int) -> slice:
        start, self.position = self.position, self.position + count
        if self.position > len(self.data):
            raise EOFError
        return slice(start, self.position)

    def read(self, count: int) -> bytes:
        return self.data[self._advance(count)]

    def readline(self) -> bytes:
        end = self.data.find(b"\n", self.position) + 1
        if not end:
            raise EOFError
        return self.data[self._advance(end - self.position)]

    def view(self, count: int) -> memoryview:
        return memoryview(self.data)[self._advance(count)]


class _Unbuilt:
    """An object that a pickle makes in two steps: a call without content, then a state.

    Numpy changes such an object in place. Here the second step makes another one, which then takes its place.
    """

    built: Any = None

    def build(self, state: Any) -> Any:
        raise NotImplementedError


class _DType(_Unbuilt):
    """`numpy.dtype`. Numpy's own takes flags from the state, and so would read addresses of objects from the file."""

    def __init__(self, code: str, align: Any = False, copy: Any = True) -> None:
        if not re.fullmatch(r"[?biufcSUO]\d*", code):
            raise pickle.UnpicklingError(f"dtype {code}")
        self.dtype = np.dtype("O" if code.startswith("O") else code)

    def build(self, state: Any) -> np.dtype[Any]:
        _version, byte_order, subarray, names, fields, *_ = state
        if not (subarray is names is fields is None):
            raise pickle.UnpicklingError("an array of records")
        return self.dtype.newbyteorder(byte_order)


class _Array(_Unbuilt):
    """`numpy.core.multiarray._reconstruct`: an array whose shape, dtype and content come with its state."""

    def __init__(self, subtype: Any, shape: Any, code: Any) -> None:
        if subtype is not _NDARRAY:
            raise pickle.UnpicklingError("an array of a special class")

    def build(self, state: Any) -> NDArray[Any]:
        *_, shape, dtype, fortran, data = state
        return _array(data, dtype, shape, "F" if fortran else "C")


def _array(data: Any, dtype: Any, shape: Any, order: str, axes: Any = None) -> NDArray[Any]:
    """`numpy.core.numeric._frombuffer`, which is how protocol 5 writes an array."""
    if not isinstance(dtype, np.dtype):
        raise pickle.UnpicklingError("an array without a dtype")
    if dtype.hasobject:
        if not isinstance(data, list):
            raise pickle.UnpicklingError("objects of an array that are not a list")
        values = np.empty(len(data), dtype)
        for position, item in enumerate(data):
            values[position] = item
        return values.reshape(shape)  # numpy lists objects in C order, whatever their order in memory
    values = _numbers(data, dtype)
    if order == "K":  # C order of the axes as they lie in memory
        return values.reshape(shape).transpose(axes)
    return values.reshape(shape, order=cast(Any, order))


def _scalar(dtype: Any, data: Any) -> Any:
    """`numpy.core.multiarray.scalar`"""
    if not isinstance(dtype, np.dtype) or dtype.hasobject:
        raise pickle.UnpicklingError("a scalar that is no number or string")
    return _numbers(data, dtype).reshape(())[()]


def _numbers(data: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
    if dtype.itemsize == 0:  # the empty string
        return np.zeros(1, dtype)
    return np.frombuffer(data.encode("latin1") if isinstance(data, str) else data, dtype)


def _encode(text: str | memoryview, encoding: str) -> bytes:
    """`_codecs.encode`: how protocols 0 to 2 write bytes."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"bytes as {encoding}")
    return (str(text, "utf-8") if isinstance(text, memoryview) else text).encode("latin1")


def _bytes() -> bytes:
    """`bytes`, which protocols 0 to 2 call for the empty ones; a number would allocate as many."""
    return b""


def _bytearray(data: str | bytes = b"", encoding: str = "latin-1") -> bytearray:
    return bytearray(_encode(data, encoding) if isinstance(data, str) else bytes(memoryview(data)))


def _defaultdict(factory: Any = None, items: Iterable[Any] = ()) -> collections.defaultdict[Any, Any]:
    if factory not in (None, list, dict, set, int, float):
        raise pickle.UnpicklingError("a defaultdict of something unusual")
    return collections.defaultdict(factory, items)


_NAMES: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _DType,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy.core.numeric", "_frombuffer"): _array,
    ("_codecs", "encode"): _encode,
    ("builtins", "bytes"): _bytes,
    ("builtins", "bytearray"): _bytearray,
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("collections", "defaultdict"): _defaultdict,
    **{("builtins", kind.__name__): kind for kind in (set, frozenset, list, dict, tuple, complex, int, float, bool)},
}


class _Memo(dict[int, Any]):
    """What a pickle may refer to again. An object remembered before its state came is, later, the built one."""

    def __getitem__(self, key: int) -> Any:
        found = super().__getitem__(key)
        return found.built if isinstance(found, _Unbuilt) and found.built is not None else found


class _RestrictedUnpickler(pickle._Unpickler):
    """The pure-Python unpickler, because only it lets the payload of an array stay where it is."""

    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)
    stack: list[Any]  # since the last mark
    metastack: list[list[Any]]  # before it
    append: Callable[[Any], None]

    def __init__(self, source: _Source, where: Path) -> None:
        super().__init__(source, encoding="latin1")
        self.source, self.where, self.memo = source, where, _Memo()

    def find_class(self, module: str, name: str) -> Any:
        usual = module.replace("numpy._core", "numpy.core").replace("__builtin__", "builtins")
        if (usual, name) not in _NAMES:
            self._refuse(f"{module}.{name}")
        return _NAMES[usual, name]

    def get_extension(self, code: int) -> None:
        self._refuse(f"extension {code}")

    def persistent_load(self, pid: Any) -> None:
        self._refuse("an object that is not in the file")

    def _refuse(self, what: str) -> None:
        remedy = "nothing was executed; do not trust this file unless you know why it asks for that"
        raise Refusal(self.where, _HARMLESS, f"one that asks for {ascii(what)[1:-1][:100]}", remedy)

    def load_build(self) -> None:
        state, unbuilt = self.stack.pop(), self.stack.pop()
        if not isinstance(unbuilt, _Unbuilt):
            raise pickle.UnpicklingError(f"a state for a {type(unbuilt).__name__}")
        unbuilt.built = unbuilt.build(state)
        self.append(unbuilt.built)

    def load_frame(self) -> None:
        self.source.read(8)  # frames only say how much to buffer; what is mapped needs no buffer

    def load_bytearray8(self) -> None:
        self.append(bytearray(self.source.view(int.from_bytes(self.source.read(8), "little"))))

    def expects_content(self) -> bool:
        """Whether the next value is the content of an array, or the text that stands for it in protocols 1 and 2."""
        if self.stack and self.stack[-1] is _encode:
            return True
        called = self.metastack[-1][-1] if self.metastack and self.metastack[-1] else None
        if isinstance(called, _Array):  # after the version, shape, dtype and order of its state
            return len(self.stack) == 4
        return not self.stack and (called is _array or called is _encode)


def _left_in_place(usual: Callable[[Any], None], length_bytes: int) -> Callable[[_RestrictedUnpickler], None]:
    """``usual``, an instruction for bytes or text, except that the content of an array becomes a view of the file."""

    def load(unpickler: _RestrictedUnpickler) -> None:
        if unpickler.expects_content():
            count = int.from_bytes(unpickler.source.read(length_bytes), "little")
            unpickler.append(unpickler.source.view(count))
        else:
            usual(unpickler)

    return load


_dispatch = _RestrictedUnpickler.dispatch
_dispatch[pickle.BUILD[0]] = _RestrictedUnpickler.load_build
_dispatch[pickle.FRAME[0]] = _RestrictedUnpickler.load_frame
_dispatch[pickle.BYTEARRAY8[0]] = _RestrictedUnpickler.load_bytearray8
for _instruction, _width in (
    (pickle.SHORT_BINSTRING, 1),
    (pickle.BINSTRING, 4),
    (pickle.SHORT_BINBYTES, 1),
    (pickle.BINBYTES, 4),
    (pickle.BINBYTES8, 8),
    (pickle.BYTEARRAY8, 8),
    (pickle.BINUNICODE, 4),
):
    _dispatch[_instruction[0]] = _left_in_place(_dispatch[_instruction[0]], _width)

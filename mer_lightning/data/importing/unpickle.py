"""Reads pickles of unknown origin safely: containers, strings, numbers and numpy arrays, and nothing else.

Nothing that a file names is imported or called. Harmless files need only a few names; for these there are replacements
below, which build plain Python objects and arrays. Any other name is refused. Arrays are read-only views of the file,
which is mapped into memory, so that loading a large file needs memory for its small objects only.
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
    """The same as :func:`pickle.load` for a harmless file of any protocol; strings of Python 2 are read as latin-1.

    Arrays are read-only, keep the byte order of the file, and stay on disk until they are used. Do not change the file
    in place as long as such an array exists.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:  # ValueError: an empty file cannot be mapped
        raise Refusal(path, _HARMLESS, str(error), "check the path, or copy the file again") from error
    return _load(mapped, path)


def load_pickle_stream(stream: BinaryIO, where: Path) -> Any:
    """The same for a pickle inside another file: the rest of ``stream`` is read into memory."""
    return _load(stream.read(), where)


def outline(path: Path) -> dict[str, frozenset[str]]:
    """{key: keys of its value} of a pickled dict of dicts (no keys for other values); {} for any other file.

    Readers recognise their files by it. It never raises, and a file that does not change is read only once.
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
    except Exception as error:  # a broken or malicious file can cause any error
        found = f"something else ({type(error).__name__}: {ascii(str(error))[:100]})"
        raise Refusal(where, _HARMLESS, found, "nothing was executed; check that this is the right file") from error


class _Source:
    """The bytes of a pickle: `read` and `readline` return copies, `view` returns a view."""

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

    Numpy changes such an object in place. In this module the second step makes another object to replace the first.
    """

    built: Any = None

    def build(self, state: Any) -> Any:
        raise NotImplementedError


class _DType(_Unbuilt):
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


class _Array(_Unbuilt):
    """Replaces `numpy.core.multiarray._reconstruct`: shape, dtype and content of the array come with the state."""

    def __init__(self, subtype: Any, shape: Any, code: Any) -> None:
        if subtype is not _NDARRAY:
            raise pickle.UnpicklingError("an array of a special class")

    def build(self, state: Any) -> NDArray[Any]:
        *_, shape, dtype, fortran, data = state
        return _array(data, dtype, shape, "F" if fortran else "C")


def _array(data: Any, dtype: Any, shape: Any, order: str, axes: Any = None) -> NDArray[Any]:
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


def _encode(text: str | memoryview, encoding: str) -> bytes:
    """Replaces `_codecs.encode`, by which protocols 0 to 2 write bytes."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"bytes as {encoding}")
    return (str(text, "utf-8") if isinstance(text, memoryview) else text).encode("latin1")


def _bytes() -> bytes:
    """Replaces `bytes`, which protocols 0 to 2 call for empty bytes. A number as argument could fill the memory."""
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
    """The objects that a pickle may use again. Once an unbuilt object has its state, the built one is returned."""

    def __getitem__(self, key: int) -> Any:
        remembered = super().__getitem__(key)
        is_built = isinstance(remembered, _Unbuilt) and remembered.built is not None
        return remembered.built if is_built else remembered


class _RestrictedUnpickler(pickle._Unpickler):
    """Based on the unpickler written in Python, because that in C always copies the content of an array."""

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
        remedy = "nothing was executed; do not trust this file unless you know why it needs that"
        raise Refusal(self.where, _HARMLESS, f"one that asks for {ascii(what)[1:-1][:100]}", remedy)

    def load_build(self) -> None:
        state, unbuilt = self.stack.pop(), self.stack.pop()
        if not isinstance(unbuilt, _Unbuilt):
            raise pickle.UnpicklingError(f"a state for a {type(unbuilt).__name__}")
        unbuilt.built = unbuilt.build(state)
        self.append(unbuilt.built)

    def load_frame(self) -> None:
        self.source.read(8)  # a frame only announces how much to buffer; a mapped file needs no buffer

    def load_bytearray8(self) -> None:
        self.append(bytearray(self.source.view(int.from_bytes(self.source.read(8), "little"))))

    def expects_content(self) -> bool:
        """Whether the next value is the content of an array, or the text that encodes it in protocols 1 and 2."""
        if self.stack and self.stack[-1] is _encode:
            return True
        called = self.metastack[-1][-1] if self.metastack and self.metastack[-1] else None
        if isinstance(called, _Array):  # after the version, shape, dtype and order of its state
            return len(self.stack) == 4
        return not self.stack and (called is _array or called is _encode)


def _left_in_place(usual: Callable[[Any], None], length_bytes: int) -> Callable[[_RestrictedUnpickler], None]:
    """An instruction for bytes or text: as ``usual``, but the content of an array becomes a view of the file."""

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

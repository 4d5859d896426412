"""Reads pickles of unknown origin safely: containers, strings, numbers and numpy arrays, and nothing else.

Nothing that a file names is imported or called. Harmless files need only a few names; for these there are replacements
below, which build plain Python objects and arrays. Any other name is refused. Arrays are read-only views of the file,
which is mapped into memory, so that loading a large file needs memory for its small objects only.

A pickle is a program, and a short one can make much. So its work is counted and bounded by its length, keys are flat,
and what it made must be what so long a file can hold, however often its parts are shared.
"""

from __future__ import annotations

import functools
import mmap
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, ClassVar, NoReturn

import numpy as np

from mer_lightning.data.importing.pickle_names import (
    NAMES,
    Array,
    Unbuilt,
    array,
    encode_latin1,
    flat_key,
    frozenset_of,
    set_of,
)
from mer_lightning.errors import Refusal, reading

_HARMLESS = "a pickle of containers, strings, numbers and numpy arrays"
# Reads of the file, and what calls copy. Files of the field have a few reads for hundreds of bytes, most in arrays.
_FREE_WORK, _BYTES_PER_WORK = 2**20, 16
_COPIED_PER_WORK = 64  # bytes
_DEEPEST = 60


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


def load_pickle_stream(stream: IO[bytes], where: str | Path, size: int = -1) -> Any:
    """The same for a pickle inside another file: the rest of ``stream``, at most ``size`` bytes, is read."""
    return _load(stream.read(size), where)


def load_pickle_bytes(
    data: bytes, where: str | Path, names: Mapping[tuple[str, str], Any], stored_elsewhere: Callable[[Any], Any]
) -> Any:
    """The same with other ``names``, and a function for what the pickle says to be stored beside it."""
    return _load(data, where, names, stored_elsewhere)


def outline(path: Path) -> dict[str, frozenset[str]]:
    """{key: keys of its value} of a pickled dict of dicts (no keys for other values); {} for any other file.

    Readers recognise their files by it. It never raises, and a file that does not change is read only once.
    """
    try:
        status = path.stat()
        return _outline(path, status.st_size, status.st_mtime_ns) if path.is_file() else {}
    except OSError:
        return {}


@functools.lru_cache(maxsize=8)
def _outline(path: Path, size: int, modified: int) -> dict[str, frozenset[str]]:
    try:
        content = load_pickle(path)
        with reading(path, _HARMLESS):  # a number of a million digits has no text
            return {
                str(key): frozenset(map(str, value)) if isinstance(value, dict) else frozenset()
                for key, value in (content.items() if isinstance(content, dict) else ())
            }
    except Refusal:
        return {}


def _load(
    data: bytes | mmap.mmap,
    where: str | Path,
    names: Mapping[tuple[str, str], Any] = NAMES,
    stored_elsewhere: Callable[[Any], Any] | None = None,
) -> Any:
    try:
        source = _Source(data)
        content = _RestrictedUnpickler(source, where, names, stored_elsewhere).load()
        _refuse_bombs(content, source.allowed)
        return content
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
        self.allowed = self.left = _FREE_WORK + len(data) // _BYTES_PER_WORK

    def work(self, amount: int) -> None:
        self.left -= amount
        if self.left < 0:
            raise pickle.UnpicklingError("more work than a file of this size asks for")

    def _advance(self, count: int) -> slice:
        start, self.position = self.position, self.position + count
        if self.position > len(self.data):
            raise EOFError
        return slice(start, self.position)

    def read(self, count: int) -> bytes:
        self.work(1)
        return self.data[self._advance(count)]

    def readline(self) -> bytes:
        end = self.data.find(b"\n", self.position) + 1
        if not end:
            raise EOFError
        return self.data[self._advance(end - self.position)]

    def view(self, count: int) -> memoryview:
        return memoryview(self.data)[self._advance(count)]


class _Memo(dict[int, Any]):
    """The objects that a pickle may use again. Once an unbuilt object has its state, the built one is returned."""

    def __getitem__(self, key: int) -> Any:
        remembered = super().__getitem__(key)
        is_built = isinstance(remembered, Unbuilt) and remembered.built is not None
        return remembered.built if is_built else remembered


class _RestrictedUnpickler(pickle._Unpickler):
    """Based on the unpickler written in Python, because that in C always copies the content of an array."""

    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)
    stack: list[Any]  # since the last mark
    metastack: list[list[Any]]  # before it
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]

    def __init__(
        self,
        source: _Source,
        where: str | Path,
        names: Mapping[tuple[str, str], Any],
        stored_elsewhere: Callable[[Any], Any] | None,
    ) -> None:
        super().__init__(source, encoding="latin1")
        self.source, self.where, self.memo = source, where, _Memo()
        self.names, self.stored_elsewhere = names, stored_elsewhere

    def find_class(self, module: str, name: str) -> Any:
        usual = module.replace("numpy._core", "numpy.core").replace("__builtin__", "builtins")
        if (usual, name) not in self.names:
            self._refuse(f"{module}.{name}")
        return self.names[usual, name]

    def get_extension(self, code: int) -> None:
        self._refuse(f"extension {code}")

    def persistent_load(self, pid: Any) -> Any:
        if self.stored_elsewhere is None:
            self._refuse("an object that is not in the file")
        return self.stored_elsewhere(pid)

    def _refuse(self, what: str) -> NoReturn:
        remedy = "nothing was executed; do not trust this file unless you know why it needs that"
        raise Refusal(self.where, _HARMLESS, f"one that asks for {ascii(what)[1:-1][:100]}", remedy)

    def load_build(self) -> None:
        state, unbuilt = self.stack.pop(), self.stack.pop()
        if not isinstance(unbuilt, Unbuilt):
            raise pickle.UnpicklingError(f"a state for a {type(unbuilt).__name__}")
        self._count_copies(state)
        unbuilt.built = unbuilt.build(state)
        self.append(unbuilt.built)

    def _call(self, function: Any, arguments: Any) -> Any:
        """Every way to call something in a pickle."""
        self._count_copies(arguments)
        return function(*arguments)

    def _count_copies(self, values: Any) -> None:
        for value in values if isinstance(values, tuple) else ():
            if isinstance(value, (list, tuple, set, frozenset, dict)):
                self.source.work(len(value))
            elif isinstance(value, (str, bytes, bytearray, memoryview)):
                self.source.work(len(value) // _COPIED_PER_WORK)

    def _instantiate(self, function: Any, arguments: list[Any]) -> None:
        self.append(self._call(function, tuple(arguments)))

    def load_reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        self.append(self._call(function, arguments))

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._mapping()[flat_key(key)] = value

    def load_setitems(self) -> None:
        items = self.pop_mark()
        mapping = self._mapping()
        for key, value in zip(items[::2], items[1::2], strict=True):
            mapping[flat_key(key)] = value

    def _mapping(self) -> dict[Any, Any]:
        if not isinstance(self.stack[-1], dict):
            raise pickle.UnpicklingError(f"keys for a {type(self.stack[-1]).__name__}")
        return self.stack[-1]

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.append({flat_key(key): value for key, value in zip(items[::2], items[1::2], strict=True)})

    def load_additems(self) -> None:
        items = self.pop_mark()
        self.stack[-1].update(set_of(items))

    def load_frozenset(self) -> None:
        items = self.pop_mark()  # which puts another function in the place of `append`
        self.append(frozenset_of(items))

    def load_frame(self) -> None:
        self.source.read(8)  # a frame only announces how much to buffer; a mapped file needs no buffer

    def load_bytearray8(self) -> None:
        self.append(bytearray(self.source.view(int.from_bytes(self.source.read(8), "little"))))

    def expects_content(self) -> bool:
        """Whether the next value is the content of an array, or the text that encodes it in protocols 1 and 2."""
        if self.stack and self.stack[-1] is encode_latin1:
            return True
        called = self.metastack[-1][-1] if self.metastack and self.metastack[-1] else None
        if isinstance(called, Array):  # after the version, shape, dtype and order of its state
            return len(self.stack) == 4
        return not self.stack and (called is array or called is encode_latin1)


def _left_in_place(usual: Callable[[Any], None], length_bytes: int) -> Callable[[_RestrictedUnpickler], None]:
    """An instruction for bytes or text: as ``usual``, but the content of an array becomes a view of the file."""

    def load(unpickler: _RestrictedUnpickler) -> None:
        if unpickler.expects_content():
            count = int.from_bytes(unpickler.source.read(length_bytes), "little")
            unpickler.append(unpickler.source.view(count))
        else:
            usual(unpickler)

    return load


def _refuse_bombs(content: Any, most: int) -> None:
    """Refuse what holds itself, is nested deeply, or has more than ``most`` values, each counted where it is shared."""
    sizes: dict[int, int] = {}
    path = [(0, iter([content]), 0)]  # (id, children that were not visited, values so far)
    open_ones = set()
    while path:
        identity, children, size = path.pop()
        for child in children:
            size += 1
            if not isinstance(child, _CONTAINERS) or (type(child) is np.ndarray and child.dtype != object):
                continue
            if id(child) in sizes:
                size += sizes[id(child)]
                continue
            if id(child) in open_ones or len(path) > _DEEPEST:
                raise pickle.UnpicklingError(f"more than {_DEEPEST} levels in each other")
            open_ones.add(id(child))
            inside = child.values() if isinstance(child, dict) else child.flat if type(child) is np.ndarray else child
            path += [(identity, children, size), (id(child), iter(inside), 0)]
            break
        else:
            open_ones.discard(identity)
            sizes[identity] = size
            if path:
                outer, rest, before = path.pop()
                path.append((outer, rest, before + size))
        if size > most:
            raise pickle.UnpicklingError("parts that are shared more often than a file of this size can hold them")


_CONTAINERS = (list, tuple, dict, set, frozenset, np.ndarray)
_dispatch = _RestrictedUnpickler.dispatch
for _changed in ("build", "reduce", "setitem", "setitems", "dict", "additems"):
    _dispatch[getattr(pickle, _changed.upper())[0]] = getattr(_RestrictedUnpickler, f"load_{_changed}")
_dispatch[pickle.NEWOBJ[0]] = _RestrictedUnpickler.load_reduce
_dispatch[pickle.FROZENSET[0]] = _RestrictedUnpickler.load_frozenset
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

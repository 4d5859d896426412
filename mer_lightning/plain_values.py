"""Whether what a file holds, as plain values, has the types that its reader works with."""

from __future__ import annotations

import math
from dataclasses import MISSING, fields
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from mer_lightning.errors import Refusal

_T = TypeVar("_T")


def fits(value: Any, kind: Any) -> bool:
    """Whether ``value`` is of a type such as ``dict[str, list[int]]`` or ``str | None``. A number is a finite one."""
    origin, parts = get_origin(kind), get_args(kind)
    if kind is Any:
        return True
    if origin in (Union, UnionType):
        return any(fits(value, part) for part in parts)
    if origin is Literal:
        return isinstance(value, str) and value in parts
    if origin is dict:
        return isinstance(value, dict) and all(fits(k, parts[0]) and fits(v, parts[1]) for k, v in value.items())
    if origin is list:
        return isinstance(value, list) and all(fits(each, parts[0]) for each in value)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
    if kind is float:
        return fits(value, int) or (isinstance(value, float) and math.isfinite(value))
    return isinstance(value, kind)


def expect(where: str | Path, value: Any, kind: Any, expected: str, remedy: str) -> Any:
    """``value``, or a Refusal that says what was ``expected`` instead of it."""
    if not fits(value, kind):
        raise Refusal(where, expected, repr(value), remedy)
    return value


def refuse_path(where: str | Path, name: str) -> str:
    """``name``, if it can be that of a file or folder that lies where its maker says; a file may not choose another."""
    if Path(name).name != name or name.startswith(".") or len(name) > 100 or not name.isprintable():
        raise Refusal(where, "the name of a folder, without slashes", repr(name), "rename it")
    return name


def made_of(cls: type[_T], values: Any, where: str | Path, remedy: str) -> _T:
    """An object of a dataclass from the mapping that a file holds."""
    kinds = get_type_hints(cls)
    known = {each.name: each for each in fields(cls)}  # type: ignore[arg-type]
    expect(where, values, dict[str, Any], "a mapping", remedy)
    for name, each in known.items():
        if name not in values and each.default is MISSING and each.default_factory is MISSING:
            raise Refusal(where, f"the key '{name}'", f"only {', '.join(values) or 'nothing'}", remedy)
    for name, value in values.items():
        if name not in known:
            raise Refusal(where, f"keys among {', '.join(known)}", f"'{name}'", remedy)
        expect(where, value, kinds[name], f"{_described(kinds[name])} as '{name}'", remedy)
    return cls(**values)


def _described(kind: Any) -> str:
    return str(getattr(kind, "__name__", kind)) if not get_args(kind) else str(kind).replace("typing.", "")

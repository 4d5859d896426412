"""Objects that remember what they were made with, so that a configuration can make equal ones."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mer_lightning.discovery import import_path
from mer_lightning.errors import Refusal


class MadeWith:
    """A base of what configurations name: backbones, text encoders, training masks, data."""

    def __new__(cls, *args: Any, **options: Any) -> Any:
        made = super().__new__(cls)
        bound = inspect.signature(cls.__init__).bind_partial(None, *args, **options)  # copies are made of nothing
        given: dict[str, Any] = {}
        for name, value in list(bound.arguments.items())[1:]:
            is_rest = bound.signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD
            given |= value if is_rest else {name: value}
        object.__setattr__(made, "made_with", given)  # a Module that is not initialised yet takes no attribute
        return made


def options_of(made: Any) -> dict[str, Any]:
    """The options that an object was made with, as plain values."""
    return {name: plain(value) for name, value in made.made_with.items()}


def plain(value: Any) -> Any:
    """A value of Python as a configuration writes it: classes and objects become their path and options.

    Widths of features are left out of a backbone: whoever makes the equal one knows them.
    """
    if isinstance(value, MadeWith):
        options = {name: each for name, each in options_of(value).items() if name != "dims"}
        return {"class_path": import_path(type(value)), "init_args": options}
    if isinstance(value, functools.partial) and isinstance(value.func, type) and not value.args:
        return {"class_path": import_path(value.func), "init_args": plain(value.keywords)}
    if isinstance(value, type):
        return import_path(value)
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    expected = "a plain value, a class, or an object that a configuration can make"
    remedy = "name its class: {'class_path': ..., 'init_args': ...}"
    raise Refusal("an option", expected, repr(value), remedy)

"""Finding classes by looking into a folder, so that adding one is adding a file and nothing is registered by hand."""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
from typing import Any


@functools.cache
def classes_by_file(package: str, base: type) -> dict[str, Any]:
    """{name of the file: class} of every concrete subclass of ``base`` defined in a module of ``package``."""
    found = {}
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        for value in vars(importlib.import_module(f"{package}.{module.name}")).values():
            defined_here = isinstance(value, type) and value.__module__ == f"{package}.{module.name}"
            if defined_here and issubclass(value, base) and not inspect.isabstract(value):
                found[module.name] = value
    return found

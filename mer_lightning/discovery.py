"""Finding classes by looking into a folder, so that adding one is adding a file and nothing is registered by hand."""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
import sys
from typing import Any


@functools.cache
def classes_by_file(package: str, base: type) -> dict[str, Any]:
    """{name of the file or folder: class} of every concrete subclass of ``base`` that ``package`` holds."""
    found = {}
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        name = f"{package}.{module.name}"
        for value in vars(importlib.import_module(name)).values():
            defined_here = isinstance(value, type) and f"{value.__module__}.".startswith(f"{name}.")
            if defined_here and issubclass(value, base) and not inspect.isabstract(value):
                found[module.name] = value
    return found


@functools.cache
def classes_below(package: str, base: type) -> list[Any]:
    """Every concrete subclass of ``base`` that is defined anywhere in ``package``."""
    found = []
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
        values = vars(importlib.import_module(module.name)).values()
        classes = [value for value in values if isinstance(value, type) and value.__module__ == module.name]
        found += [cls for cls in classes if issubclass(cls, base) and not inspect.isabstract(cls)]
    return found


def import_path(cls: type) -> str:
    """Where a class is imported from: its module, or the package around it where that offers the class itself."""
    package = cls.__module__.rpartition(".")[0]
    offered = getattr(sys.modules.get(package), cls.__name__, None) is cls
    return f"{package if offered else cls.__module__}.{cls.__qualname__}"

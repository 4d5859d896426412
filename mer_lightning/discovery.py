"""Finding classes by the files of a package, so that a new file is enough to add one."""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
import sys
from typing import Any


@functools.cache
def classes_by_file(package: str, base: type) -> dict[str, Any]:
    """{name of the file or folder: class} of every concrete subclass of ``base`` in ``package``."""
    classes = {}
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        name = f"{package}.{module.name}"
        for value in vars(importlib.import_module(name)).values():
            defined_here = isinstance(value, type) and f"{value.__module__}.".startswith(f"{name}.")
            if defined_here and issubclass(value, base) and not inspect.isabstract(value):
                classes[module.name] = value
    return classes


def import_path(cls: type) -> str:
    """The path to import a class from: the package of its module if the class is also there, else the module."""
    package = cls.__module__.rpartition(".")[0]
    in_package = getattr(sys.modules.get(package), cls.__name__, None) is cls
    return f"{package if in_package else cls.__module__}.{cls.__qualname__}"

"""Finding methods, and loading a trained one."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from pathlib import Path

import torch

from mer_lightning.errors import Refusal
from mer_lightning.methods.base import MERMethod


@functools.cache
def all_methods() -> dict[str, type[MERMethod]]:
    """{name: class} of every method in this folder; the name is the name of its file."""
    package = importlib.import_module(__package__)
    found = {}
    for module in pkgutil.iter_modules(package.__path__):
        for value in vars(importlib.import_module(f"{__package__}.{module.name}")).values():
            is_method = isinstance(value, type) and issubclass(value, MERMethod) and value is not MERMethod
            if is_method and value.__module__ == f"{__package__}.{module.name}":
                found[module.name] = value
    return found


def load_method(path: str | Path) -> MERMethod:
    """The trained method of a checkpoint, as its own class (Lightning would give the base class of what it is told)."""
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        class_path = checkpoint["hyper_parameters"]["_class_path"]
    except Exception as error:
        raise Refusal(path, "a checkpoint that mer-lightning fit wrote", f"{type(error).__name__}", "check the path") from error
    known = {f"{cls.__module__}.{cls.__qualname__}": cls for cls in _subclasses(MERMethod)}
    all_methods()
    if class_path not in known:
        known = {f"{cls.__module__}.{cls.__qualname__}": cls for cls in _subclasses(MERMethod)}
    if class_path not in known:
        raise Refusal(path, "a method of this package or one already imported", f"'{class_path}'", "import it first")
    return known[class_path].load_from_checkpoint(path, map_location="cpu", weights_only=True)


def _subclasses(cls: type[MERMethod]) -> list[type[MERMethod]]:
    return [found for child in cls.__subclasses__() for found in (child, *_subclasses(child))]

"""Finding methods, and loading a trained one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from mer_lightning.discovery import classes_by_file, import_path
from mer_lightning.errors import Refusal
from mer_lightning.methods.base import MERMethod


def all_methods() -> dict[str, type[MERMethod]]:
    """{name: class} of every method in this folder; the name is the name of its file."""
    return classes_by_file("mer_lightning.methods", MERMethod)


def load_method(path: str | Path) -> MERMethod:
    """The trained method of a checkpoint, as the class that it was trained as, which Lightning does not look up."""
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        class_path = checkpoint["hyper_parameters"]["_class_path"]
    except Exception as error:
        found = type(error).__name__
        raise Refusal(path, "a checkpoint that mer-lightning fit wrote", found, "check the path") from error
    all_methods()
    known = {import_path(cls): cls for cls in _subclasses(MERMethod)}
    if class_path not in known:
        raise Refusal(path, "a method of this package or one already imported", f"'{class_path}'", "import it first")
    return known[class_path].load_from_checkpoint(path, map_location="cpu", weights_only=True)


def _subclasses(cls: Any) -> list[type[MERMethod]]:
    return [found for child in cls.__subclasses__() for found in (child, *_subclasses(child))]

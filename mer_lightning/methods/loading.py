"""Loading a trained method."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mer_lightning.errors import Refusal, reading
from mer_lightning.methods.base import MERMethod
from mer_lightning.methods.building import build_method
from mer_lightning.methods.checkpoints import read_checkpoint


def load_method(path: str | Path) -> MERMethod:
    """The trained method of a checkpoint, as its own class.

    Lightning's ``load_from_checkpoint`` reads further keys that name classes, and builds what they name.
    """
    return method_of(read_checkpoint(path), path)


def method_of(checkpoint: dict[str, Any], path: str | Path) -> MERMethod:
    """The same of what a file held; ``path`` is what messages call it."""
    with reading(path, "a checkpoint that mer-lightning fit wrote", "check the path"):
        options = dict(checkpoint["hyper_parameters"])
        class_path = options.pop("_class_path")
    options.pop("_instantiator", None)
    try:
        method = build_method(class_path, options, "train it again, or ask where the file comes from")
    except Refusal as refusal:
        raise Refusal(f"{path}: {refusal.where}", refusal.expected, refusal.found, refusal.remedy) from None
    with reading(path, f"the weights of {class_path}", "train it again, or ask where the file comes from"):
        take(method, checkpoint)
    return method


def take(method: MERMethod, checkpoint: dict[str, Any]) -> None:
    """What a method has learnt: its weights, and what else a checkpoint knows."""
    method.on_load_checkpoint(checkpoint)
    method.load_state_dict(checkpoint["state_dict"])

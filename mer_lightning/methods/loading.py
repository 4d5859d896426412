"""Loading a trained method."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from lightning.pytorch.cli import instantiate_module

from mer_lightning.errors import Refusal, reading, refusal_behind
from mer_lightning.methods.base import MERMethod
from mer_lightning.methods.checkpoints import read_checkpoint
from mer_lightning.methods.places import only_known_imports, refuse_strange_classes


def load_method(path: str | Path) -> MERMethod:
    """The trained method of a checkpoint, as its own class.

    Lightning's ``load_from_checkpoint`` reads further keys that name classes, and builds what they name.
    """
    checkpoint = read_checkpoint(path)
    with reading(path, "a checkpoint that mer-lightning fit wrote", "check the path"):
        options = dict(checkpoint["hyper_parameters"])
        class_path = options.pop("_class_path")
    options.pop("_instantiator", None)
    try:
        refuse_strange_classes({"class_path": class_path, "init_args": options}, ("model",))
        with only_known_imports():
            base: Any = MERMethod  # abstract: the checkpoint says which method it is
            method: MERMethod = instantiate_module(base, {"_class_path": class_path, **options})
    except Refusal as refusal:
        raise Refusal(f"{path}: {refusal.where}", refusal.expected, refusal.found, refusal.remedy) from None
    except (argparse.ArgumentError, ValueError) as error:
        if refusal_behind(error) is not None:
            raise
        reason = re.search(r"^\s*- (.*)", str(error), re.MULTILINE)  # of the first type that did not fit
        found, remedy = reason[1] if reason else str(error), "train it again, or ask where the file comes from"
        raise Refusal(path, f"options of {class_path}", found, remedy) from error
    with reading(path, f"the weights of {class_path}", "train it again, or ask where the file comes from"):
        method.on_load_checkpoint(checkpoint)
        method.load_state_dict(checkpoint["state_dict"])
    return method

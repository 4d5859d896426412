"""Making a method from options as a configuration writes them."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import yaml
from jsonargparse import ArgumentParser
from lightning.pytorch.core.mixins.hparams_mixin import _given_hyperparameters_context

from mer_lightning.errors import Refusal, refusal_behind
from mer_lightning.methods import names
from mer_lightning.methods.base import MERMethod
from mer_lightning.methods.places import only_known_imports, refuse_strange_classes

_LIGHTNING = "lightning.pytorch.cli.instantiate_module"  # what LightningCLI writes into the hyperparameters, too


def build_method(class_path: str, options: Mapping[str, Any], remedy: str = "mend it") -> MERMethod:
    """A method with weights drawn anew; it keeps its options as hyperparameters, as a fit on the command line does."""
    config = names.in_config({"class_path": class_path, "init_args": dict(options)}, ("model",))
    refuse_strange_classes(config, ("model",))
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(MERMethod, "model", fail_untyped=False)
    with only_known_imports(), _options_of(class_path, remedy):
        # As Lightning does it: a class whose options the parser cannot see takes them as they are.
        parsed = parser.parse_object(
            {"model": {"class_path": config["class_path"], "dict_kwargs": config["init_args"]}}
        )
        refuse_strange_classes(parsed)
        written = yaml.safe_load(parser.dump(parsed, skip_none=False))["model"]
        options = written.get("init_args", {}) | written.get("dict_kwargs", {})
        hyperparameters = {"_class_path": written["class_path"], **options}
        with _given_hyperparameters_context(hyperparameters, _LIGHTNING):
            method: MERMethod = parser.instantiate_classes(parsed).model
    return method


@contextmanager
def _options_of(what: str, remedy: str) -> Iterator[None]:
    """Inside, what the parser says of an option becomes a Refusal."""
    try:
        yield
    except (argparse.ArgumentError, ValueError) as error:
        if refusal_behind(error) is not None:
            raise
        reason = re.search(r"^\s*- (.*)", str(error), re.MULTILINE)  # of the first type that did not fit
        raise Refusal("options", f"those of {what}", reason[1] if reason else str(error), remedy) from error

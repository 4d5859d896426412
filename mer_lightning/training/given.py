"""What the arguments of a fit, and the configurations among them, say before Lightning reads them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mer_lightning.methods.names import in_config, tree
from mer_lightning.methods.places import PLACES, place_of
from mer_lightning.shipped import configuration
from mer_lightning.yaml_text import read_yaml

CONFIG_OPTIONS = ("--config", "-c")
DEFAULT_CORPUS = "mosi"  # of MERData, which is not imported here because it takes seconds
_CLASSES = {".".join(place) for place in PLACES}


def options_given(arguments: Sequence[str]) -> dict[str, Any]:
    """{dotted option: value}, later ones over earlier ones. A value of the command line is a text, even a number.

    A class has the option that asks for it, such as `model.backbone`. Another class there leaves out the options of the
    one before it.
    """
    options: dict[str, Any] = {}
    for argument, after in itertools.pairwise([*arguments, ""]):
        option, equals, value = argument.partition("=")
        if not option.startswith("--") and option not in CONFIG_OPTIONS:
            continue
        value = value if equals else "" if after.startswith("--") else after
        if option in CONFIG_OPTIONS:
            file = configuration(value)
            found = _in_file(file) if file else in_config(tree(value))
        else:
            found = {option.removeprefix("--"): tree(value)}
        for name, each in _flat(found):
            if name in _CLASSES and options.get(name) != each:
                options = {known: kept for known, kept in options.items() if not known.startswith(f"{name}.")}
            options[name] = each
    return options


def data_options(arguments: Sequence[str]) -> dict[str, Any]:
    """{option: value} of the data."""
    given = options_given(arguments).items()
    return {option.removeprefix("data."): value for option, value in given if option.startswith("data.")}


def is_twin(options: dict[str, Any]) -> bool:
    """Whether the options of the data ask for a synthetic twin; as on the command line, the answer may be a text."""
    return str(options.get("synthetic")).lower() == "true"


def _in_file(path: Path) -> Any:
    return in_config(read_yaml(path, "a configuration", "mend the file"))


def _flat(content: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """Of a configuration, whose parts are nested or have dotted keys: a class before its options."""
    if not isinstance(content, dict):
        yield before, content
        return
    for key, value in sorted(content.items(), key=lambda each: each[0] != "class_path"):
        name = ".".join((*filter(None, [before]), *place_of(str(key)))).removesuffix(".class_path")
        yield from _flat(value, name)

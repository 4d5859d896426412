"""Short names in configs and on the command line: `tfn` for a class path.

A method, a backbone or a text encoder has the name of its file (`model: supervised`, `--model.backbone
late_transformer`), training masks that of their class in small letters (`--data.masks modality_dropout`); optimisers,
callbacks and loggers have that of their class (`--model.optimizer AdamW`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from jsonargparse._loaders_dumpers import yaml_load

from mer_lightning.errors import Refusal, did_you_mean, reading
from mer_lightning.methods.places import CONFIG_FILES, NO_CLASS, PLACES, place_of, refuse_strange_classes
from mer_lightning.projects import untrusted_hint
from mer_lightning.shipped import configuration
from mer_lightning.yaml_text import from_yaml

_CONFIG = ("--config", "-c")
_OURS = "mer_lightning."


def _class_path(place: tuple[str, ...], name: str) -> str:
    """The class path of a short name; a class's own name is one, too."""
    classes = PLACES[place].classes()
    for known, path in classes.items():
        if name in (known, path.rpartition(".")[2]):
            return path
    remedy = did_you_mean(name, classes, untrusted_hint() or "or give a full class path")
    raise Refusal(f"--{'.'.join(place)}", f"one of {', '.join(classes)}", f"'{name}'", remedy)


def in_arguments(args: list[str]) -> list[str]:
    """Replace short names after options, in both spellings: `--model NAME` and `--model=NAME`.

    Refuses what names a class where none is asked for, also in the configuration files that are named.
    """
    replaced: list[str] = []
    option = ""
    for arg in args:
        if arg in _CONFIG:
            option = "config"
            replaced.append(arg)
        elif arg.startswith("--"):
            option, equals, value = arg[2:].partition("=")
            replaced.append(f"--{option}={_argument(option, value)}" if equals else arg)
        else:
            replaced.append(_argument(option, arg))
            option = ""
    return replaced


def _argument(option: str, text: str) -> str:
    """The value of an option: a word, YAML in one line, or the name of a YAML file."""
    place = () if option == "config" else place_of(option)
    if option == "config" and (file := configuration(text)):
        text = str(file)
    path = Path(text)
    if (option == "config" or path.suffix in CONFIG_FILES) and path.is_file():
        with reading(path, "plain YAML, as text, lists and mappings", "mend the file"):
            written = from_yaml(path.read_text(encoding="utf-8"), yaml_load)
        refuse_strange_classes(in_config(written, place), place)
        return text
    written = tree(text)
    resolved = in_config(written, place)
    refuse_strange_classes(resolved, place)
    if resolved == written:
        return text
    return resolved if isinstance(resolved, str) else json.dumps(resolved)


def tree(text: str) -> Any:
    """What YAML makes of an option's value, where that is a list or a mapping; else the text."""
    try:
        value = from_yaml(text, yaml_load)
    except yaml.YAMLError:  # the parser says it with the name of the option
        return text
    return value if isinstance(value, dict | list) else text


def classes_first(args: list[str]) -> list[str]:
    """`--model NAME` before `--model.backbone NAME` before other options: a class has to be known before its own.

    Nothing moves past a configuration, since what comes later overrides it.
    """
    chunks: list[list[str]] = []  # an option and its value, or the command
    for arg in args:
        if not chunks or arg.startswith("--") or arg in _CONFIG:
            chunks.append([arg])
        else:
            chunks[-1].append(arg)
    stretch, ranked = 0, []
    for chunk in chunks:
        option = chunk[0].partition("=")[0]
        stretch += option in _CONFIG
        ranked.append((stretch, _rank(option), chunk))
    return [arg for *_, chunk in sorted(ranked, key=lambda each: each[:2]) for arg in chunk]


def _rank(option: str) -> int:
    """How deep a class is named; the command and configurations before all classes, other options behind them."""
    if option in _CONFIG or not option.startswith("--"):
        return 0
    place = place_of(option[2:])
    # Callbacks and their options keep their order: each option goes to the callback before it.
    return len(place) if place in PLACES and place[0] != "trainer" else 1 + max(map(len, PLACES))


def in_config(value: Any, place: tuple[str, ...] = ()) -> Any:
    """Replace short names in a config, nested or with dotted keys."""
    if isinstance(value, dict):
        return {key: in_config(each, place + place_of(str(key))) for key, each in value.items()}
    if isinstance(value, list):
        return [in_config(each, place) for each in value]
    return _resolved(place, value)


def _resolved(place: tuple[str, ...], value: Any) -> Any:
    named = place[:-1] if place[-1:] in (("class_path",), ("help",)) else place
    if named not in PLACES or not isinstance(value, str) or value in NO_CLASS:
        return value
    if value.startswith(_OURS):
        return _present_path(named, value)
    return _class_path(named, value) if value.isidentifier() and PLACES[named].classes() else value


def _present_path(place: tuple[str, ...], path: str) -> str:
    """Where a class of ours is now: configurations of older runs name the file that it was in then."""
    name = path.rpartition(".")[2]
    return next((now for now in PLACES[place].classes().values() if now.rpartition(".")[2] == name), path)

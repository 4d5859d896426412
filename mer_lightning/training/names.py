"""Short names in configs and on the command line: `tfn` for a class path, and which class paths are trusted.

A method, a backbone or a text encoder has the name of its file (`model: supervised`, `--model.backbone
late_transformer`), training masks that of their class in small letters (`--data.masks modality_dropout`).
"""

from __future__ import annotations

import difflib
import inspect
import os
import re
from collections.abc import Callable, Mapping
from typing import Any

from mer_lightning.discovery import import_path
from mer_lightning.errors import Refusal

_TRUSTED = ("mer_lightning", "torch", "lightning")
_TRUST_VARIABLE = "MER_TRUST"  # comma-separated packages of one's own
_CONFIG = ("--config", "-c")


def _methods() -> Mapping[str, type]:
    from mer_lightning.methods.loading import all_methods

    return all_methods()


def _backbones() -> Mapping[str, type]:
    from mer_lightning.backbones.base import all_backbones

    return all_backbones()


def _text_encoders() -> Mapping[str, type]:
    from mer_lightning.encoders.base import all_text_encoders

    return all_text_encoders()


def _masks() -> Mapping[str, type]:
    from mer_lightning.masks import training as masks

    classes = [cls for cls in vars(masks).values() if isinstance(cls, type) and not inspect.isabstract(cls)]
    subclasses = [cls for cls in classes if issubclass(cls, masks.TrainingMasks)]
    return {re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower(): cls for cls in subclasses}


_NAMED: dict[tuple[str, ...], Callable[[], Mapping[str, type]]] = {
    ("model",): _methods,
    ("model", "backbone"): _backbones,
    ("model", "text_encoder"): _text_encoders,
    ("data", "masks"): _masks,
}


def _class_path(place: tuple[str, ...], name: str) -> str:
    """The class path of a short name; a class's own name is one, too."""
    classes = _NAMED[place]()
    for known, cls in classes.items():
        if name in (known, cls.__name__):
            return import_path(cls)
    close = difflib.get_close_matches(name, classes, n=1)
    remedy = f"did you mean {close[0]}?" if close else "or give a full class path"
    raise Refusal(f"--{'.'.join(place)}", f"one of {', '.join(classes)}", f"'{name}'", remedy)


def in_arguments(args: list[str]) -> list[str]:
    """Replace short names after options, in both spellings: `--model NAME` and `--model=NAME`."""
    replaced: list[str] = []
    option = ""
    for arg in args:
        if arg.startswith("--"):
            option, equals, value = arg[2:].partition("=")
            replaced.append(f"--{option}={_resolved(_place(option), value)}" if equals else arg)
        else:
            replaced.append(str(_resolved(_place(option), arg)))
            option = ""
    return replaced


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
    place = _place(option[2:])
    return len(place) if place in _NAMED else 1 + max(map(len, _NAMED))


def in_config(value: Any, place: tuple[str, ...] = ()) -> Any:
    """Replace short names in a config, nested or with dotted keys, and refuse untrusted class paths."""
    if isinstance(value, dict):
        return {key: in_config(each, place + _place(str(key))) for key, each in value.items()}
    if isinstance(value, list):
        return [in_config(each, place) for each in value]
    return _resolved(place, value)


def _place(key: str) -> tuple[str, ...]:
    """Where a dotted key points, without the words that only jsonargparse needs; class_path keeps a mark."""
    return tuple(part for part in key.split(".") if part != "init_args")


def _resolved(place: tuple[str, ...], value: Any) -> Any:
    if not isinstance(value, str):
        return value
    is_class = bool(place) and place[-1] in ("class_path", "help")
    named = place[:-1] if is_class else place
    if named in _NAMED and value.isidentifier() and value not in ("null", "None"):
        return _class_path(named, value)
    if (is_class or named in _NAMED) and "." in value and "/" not in value:
        _check_trusted(value)
    return value


def _check_trusted(class_path: str) -> None:
    trusted = _TRUSTED + tuple(filter(None, os.environ.get(_TRUST_VARIABLE, "").split(",")))
    package = class_path.split(".")[0]
    if package not in trusted:
        raise Refusal(
            "class_path",
            f"a class inside {', '.join(trusted)}",
            f"'{class_path}'",
            f"if you trust that package, set {_TRUST_VARIABLE}={package}",
        )

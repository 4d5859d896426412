"""Where a configuration may name a class, and which ones: everything else is refused before anything is imported.

A run folder, a configuration or a checkpoint may come from a stranger, and naming a class is asking to import and call
it. Three steps, all made from the one table ``PLACES``:

1. :func:`refuse_strange_classes` walks what was written, and says in one line what is wrong;
2. :func:`only_known_imports` lets jsonargparse import nothing but what the table names, however a value spells it;
3. the same walk over what jsonargparse made of it, where every class has its place, before any is instantiated.

A class of a package that the user trusts may stand wherever a class is asked for. Places typed Any or object ask for
none: what looks like a class there is never instantiated.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonargparse
from jsonargparse._common import parsing_settings
from lightning.pytorch import callbacks, loggers
from lightning.pytorch.accelerators import AcceleratorRegistry
from lightning.pytorch.strategies import StrategyRegistry
from torch import optim

from mer_lightning.backbones.base import Backbone, all_backbones
from mer_lightning.discovery import import_path
from mer_lightning.encoders.base import TextEncoder, all_text_encoders
from mer_lightning.errors import Refusal
from mer_lightning.masks.training import TrainingMasks, all_training_masks
from mer_lightning.methods.base import MERMethod, all_methods
from mer_lightning.trust import is_import_path, is_trusted, remedy, trusted_packages

# Their constructors take numbers and switches only, and they take the parameter groups of a method.
_OPTIMIZERS = (
    *("Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax", "ASGD", "NAdam", "RAdam", "RMSprop", "Rprop"),
    "SGD",
)
# Their constructors take numbers, names and paths only. Left out are those that call what they are given
# (LambdaCallback, ModelPruning, StochasticWeightAveraging, BackboneFinetuning, WeightAveraging, ThroughputMonitor).
_CALLBACKS = (
    *("DeviceStatsMonitor", "EarlyStopping", "GradientAccumulationScheduler", "LearningRateMonitor", "ModelCheckpoint"),
    *("ModelSummary", "OnExceptionCheckpoint", "RichModelSummary", "RichProgressBar", "Timer", "TQDMProgressBar"),
)
_PRUNING = "mer_lightning.studies.pruning.Pruning"  # a sweep's, two floors above
# Those that write files. Services on the network are asked for with `--logger`.
_LOGGERS = ("CSVLogger", "TensorBoardLogger")
_PROFILERS = ("simple", "advanced", "pytorch", "xla")

NO_CLASS = ("null", "None", "~", "true", "false", "True", "False")  # what YAML reads as something else
CONFIG_FILES = (".yaml", ".yml", ".json")
# What fsspec would open, from wherever it lies: `https://...`, and `zip::...`, which is read by one of many programs.
_URL = re.compile(r"[A-Za-z0-9+.-]+(://|::)")
_STORAGE, _SQLITE = ("trainer", "callbacks", "storage"), "sqlite:///"  # of `Pruning`


@dataclass(frozen=True)
class Place:
    """``classes`` are {short name: class path}; ``words`` are what Lightning itself takes for one of its own."""

    asks_for: str
    classes: Callable[[], Mapping[str, str]] = dict
    words: Callable[[], Collection[str]] = tuple
    base: type | None = None  # imported subclasses are known, too: somebody's program has defined them

    def known(self) -> set[str]:
        """Every spelling of every class that may stand here."""
        paths = {spelling for path in self.classes().values() for spelling in _spellings(path)}
        imported = _subclasses(self.base) if self.base else []
        return paths | {path for cls in imported if not (path := import_path(cls)).startswith("mer_lightning.")}


def _paths(classes: Mapping[str, type]) -> dict[str, str]:
    return {name: import_path(cls) for name, cls in classes.items()}


def _spellings(path: str) -> set[str]:
    """The path, and the one of the module that defines the class; nothing is imported to find it."""
    module, _, name = path.rpartition(".")
    cls = getattr(sys.modules.get(module), name, None)
    return {path, f"{cls.__module__}.{cls.__qualname__}"} if isinstance(cls, type) else {path}


def _subclasses(base: Any) -> list[type]:
    return [found for child in base.__subclasses__() for found in (child, *_subclasses(child))]


def _of(module: ModuleType, *names: str) -> dict[str, str]:
    return {name: f"{module.__name__}.{name}" for name in names}


def _callbacks() -> dict[str, str]:
    return _of(callbacks, *_CALLBACKS) | {"Pruning": _PRUNING}


def _strategies() -> list[str]:
    """Sharded ones (fsdp, deepspeed) are left out: they read a checkpoint as a pickle, which may run anything."""
    return ["auto", *(name for name in StrategyRegistry.available_strategies() if name.startswith("ddp"))]


# {where the parts of a configuration lie, without the words that only jsonargparse needs: what may be named there}
PLACES: dict[tuple[str, ...], Place] = {
    ("model",): Place("a method", lambda: _paths(all_methods()), base=MERMethod),
    ("model", "backbone"): Place("a backbone", lambda: _paths(all_backbones()), base=Backbone),
    ("model", "text_encoder"): Place("a text encoder", lambda: _paths(all_text_encoders()), base=TextEncoder),
    ("model", "optimizer"): Place("an optimizer", lambda: _of(optim, *_OPTIMIZERS)),
    ("data", "masks"): Place("training masks", lambda: _paths(all_training_masks()), base=TrainingMasks),
    ("trainer", "callbacks"): Place("callbacks", _callbacks),
    ("trainer", "logger"): Place("a logger", lambda: _of(loggers, *_LOGGERS)),
    ("trainer", "strategy"): Place("a strategy's short name", words=_strategies),
    ("trainer", "accelerator"): Place(
        "an accelerator's short name",
        words=lambda: ("auto", "gpu", *sorted(AcceleratorRegistry.available_accelerators())),
    ),
    ("trainer", "profiler"): Place("a profiler's short name", words=lambda: _PROFILERS),
    ("trainer", "plugins"): Place("plugins"),
}


def place_of(key: str) -> tuple[str, ...]:
    """Where a dotted key points; class_path and help keep a mark. `callbacks+` adds to the callbacks."""
    return tuple(part.removesuffix("+") for part in key.split(".") if part != "init_args")


def refuse_strange_classes(value: Any, place: tuple[str, ...] = (), inside_trusted: bool = True) -> None:
    """Refuse a plain or parsed configuration that names a class at a place which does not ask for it.

    ``inside_trusted``: whether the options are those of a class of a trusted package, which may ask for other classes
    of trusted packages; at a known place it plays no part.
    """
    if isinstance(value, jsonargparse.Namespace):
        value = vars(value)
    if isinstance(value, Mapping):
        named = value.get("class_path")
        if named is not None:
            _refuse_unless_known(named, place, inside_trusted)
            inside_trusted = is_trusted(str(named))
        for key, each in value.items():
            if key != "class_path":
                refuse_strange_classes(each, place + place_of(str(key)), inside_trusted)
    elif isinstance(value, (list, tuple, set)):
        for each in value:
            refuse_strange_classes(each, place, inside_trusted)
    elif isinstance(value, str):
        _refuse_strange_word(value, place, inside_trusted)


def _refuse_strange_word(word: str, place: tuple[str, ...], inside_trusted: bool) -> None:
    if _URL.match(word) and not (place == _STORAGE and word.startswith(_SQLITE)):
        where, way = ".".join(place) or "--config", "copy it here, and name the copy"
        raise Refusal(where, "a path on this machine", f"'{word}'", way)
    *parent, last = place or ("",)
    # What a named file holds is read by jsonargparse, under the other two steps.
    plain = word in NO_CLASS or Path(word).suffix in CONFIG_FILES
    if last == "class_path" or (last == "help" and tuple(parent) in PLACES):
        _refuse_unless_known(word, tuple(parent), inside_trusted)
    elif place in PLACES and not plain and word not in PLACES[place].words():
        _refuse_unless_known(word, place, inside_trusted)


def _refuse_unless_known(class_path: Any, place: tuple[str, ...], inside_trusted: bool) -> None:
    asked, path = PLACES.get(place), str(class_path)
    if is_trusted(path) and (asked or inside_trusted):
        return
    where, found = ".".join(place) or "class_path", f"'{path}'"
    if asked is None:
        raise Refusal(where, "a plain value: no class may be named here", found, "remove it")
    if path not in asked.known():
        names = ", ".join((*asked.words(), *asked.classes())) or "none that a configuration may name"
        raise Refusal(where, f"{asked.asks_for}: {names}", found, remedy(path) or "name another one")


@contextmanager
def only_known_imports() -> Iterator[None]:
    """Inside, jsonargparse imports nothing but the classes of ``PLACES`` and what is in trusted packages."""
    before = dict(parsing_settings)
    known = {path for place in PLACES.values() for path in place.known() if is_import_path(path)}
    jsonargparse.set_parsing_settings(
        import_path_denylist=["*"],
        import_path_allowlist=[*sorted(known), *trusted_packages()],
        instantiate_subclass_spec_in_any=False,
        config_read_mode_fsspec_enabled=False,
    )
    try:
        yield
    finally:
        parsing_settings.update(before)

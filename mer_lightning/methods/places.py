"""Where a configuration may name a class, and which ones: everything else is refused before anything is imported.

A run folder, a configuration or a checkpoint may come from a stranger, and naming a class is asking to import and call
it. Three steps, all made from the one table ``PLACES``:

1. :func:`refuse_strange_classes` walks what was written, and says in one line what is wrong;
2. :func:`only_known_imports` lets jsonargparse import nothing but what the table names, however a value spells it;
3. the same walk over what jsonargparse made of it, where every class has its place, before any is instantiated.

Names are read from the sources, so that a wrong one is refused before torch and Lightning are imported.

A class of a package that the user trusts may stand wherever a class is asked for. Places typed Any or object ask for
none: what looks like a class there is never instantiated.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonargparse
from jsonargparse._common import parsing_settings

from mer_lightning.discovery import import_path, paths_by_file, paths_in_file, small_letters
from mer_lightning.errors import Refusal
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
_ACCELERATORS = ("auto", "cpu", "cuda", "gpu", "mps", "tpu")
# Sharded ones (fsdp, deepspeed) are left out: they read a checkpoint as a pickle, which may run anything.
_DDP = ("ddp", "ddp_spawn", "ddp_fork", "ddp_notebook")
_UNUSED = ("", "_find_unused_parameters_false", "_find_unused_parameters_true")
_STRATEGIES = ("auto", *(f"{kind}{unused}" for unused in _UNUSED for kind in _DDP))

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
    words: tuple[str, ...] = ()
    base: str = ""  # imported subclasses are known, too: somebody's program has defined them

    def known(self) -> set[str]:
        """Every spelling of every class that may stand here; imports those classes."""
        paths = {spelling for path in self.classes().values() for spelling in _spellings(path)}
        imported = _subclasses(_loaded(self.base))
        return paths | {path for cls in imported if not (path := import_path(cls)).startswith("mer_lightning.")}


def _spellings(path: str) -> set[str]:
    """The path, and the one of the module that defines the class."""
    if path != _PRUNING:
        importlib.import_module(path.rpartition(".")[0])
    cls = _loaded(path)
    return {path, f"{cls.__module__}.{cls.__qualname__}"} if cls else {path}


def _loaded(path: str) -> type | None:
    """The class, if its module is imported."""
    module, _, name = path.rpartition(".")
    cls = getattr(sys.modules.get(module), name, None)
    return cls if isinstance(cls, type) else None


def _subclasses(base: Any) -> list[type]:
    children = base.__subclasses__() if base else []
    return [found for child in children for found in (child, *_subclasses(child))]


def _masks() -> dict[str, str]:
    module = "mer_lightning.masks.training"
    names = paths_in_file(module, "TrainingMasks")
    return {small_letters(name): path for name, path in names.items()}


def _of(module: str, *names: str) -> dict[str, str]:
    return {name: f"{module}.{name}" for name in names}


def _by_file(package: str, base: str) -> dict[str, str]:
    """Ours, and those in the files of packages that the user trusts; where two have one name, ours has it."""
    ours = paths_by_file(package, base)
    bases = (base, *(path.rpartition(".")[2] for path in ours.values()))
    own = [paths_by_file(trusted, *bases) for trusted in trusted_packages() if "." not in trusted]
    return {name: path for paths in (*own, ours) for name, path in paths.items()}


_METHODS, _BACKBONES, _ENCODERS = "mer_lightning.methods", "mer_lightning.backbones", "mer_lightning.encoders"
# {where the parts of a configuration lie, without the words that only jsonargparse needs: what may be named there}
PLACES: dict[tuple[str, ...], Place] = {
    ("model",): Place("a method", lambda: _by_file(_METHODS, "MERMethod"), base=f"{_METHODS}.base.MERMethod"),
    ("model", "backbone"): Place(
        "a backbone", lambda: _by_file(_BACKBONES, "Backbone"), base=f"{_BACKBONES}.base.Backbone"
    ),
    ("model", "text_encoder"): Place(
        "a text encoder", lambda: paths_by_file(_ENCODERS, "TextEncoder"), base=f"{_ENCODERS}.base.TextEncoder"
    ),
    ("model", "optimizer"): Place("an optimizer", lambda: _of("torch.optim", *_OPTIMIZERS)),
    ("data", "masks"): Place("training masks", _masks, base="mer_lightning.masks.training.TrainingMasks"),
    ("trainer", "callbacks"): Place(
        "callbacks", lambda: _of("lightning.pytorch.callbacks", *_CALLBACKS) | {"Pruning": _PRUNING}
    ),
    ("trainer", "logger"): Place("a logger", lambda: _of("lightning.pytorch.loggers", *_LOGGERS)),
    ("trainer", "strategy"): Place("a strategy's short name", words=_STRATEGIES),
    ("trainer", "accelerator"): Place("an accelerator's short name", words=_ACCELERATORS),
    ("trainer", "profiler"): Place("a profiler's short name", words=_PROFILERS),
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
    elif place in PLACES and not plain and word not in PLACES[place].words:
        _refuse_unless_known(word, place, inside_trusted)


def _refuse_unless_known(class_path: Any, place: tuple[str, ...], inside_trusted: bool) -> None:
    asked, path = PLACES.get(place), str(class_path)
    if is_trusted(path) and (asked or inside_trusted):
        return
    where, found = ".".join(place) or "class_path", f"'{path}'"
    if asked is None:
        raise Refusal(where, "a plain value: no class may be named here", found, "remove it")
    if path not in asked.classes().values() and path not in asked.known():
        names = ", ".join((*asked.words, *asked.classes())) or "none that a configuration may name"
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

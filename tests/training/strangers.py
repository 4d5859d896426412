"""What a stranger may send: configs, files and checkpoints that try to execute something."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from mer_lightning.cli import main

# A package whose import leaves a mark, and which has something for every place.
SOURCE = """
from pathlib import Path
from typing import Any
import torch
from lightning.pytorch import Callback
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.strategies import SingleDeviceStrategy
from mer_lightning.backbones.early import Early
from mer_lightning.masks.training import Complete
from mer_lightning.methods.supervised import Supervised

Path({mark!r}).touch()

class Logger(CSVLogger): pass
class Watcher(Callback): pass
class Optimizer(torch.optim.SGD): pass
class Masks(Complete): pass
class Strategy(SingleDeviceStrategy): pass
class Profiler(PassThroughProfiler): pass
class Part:
    def __init__(self, size: int = 1) -> None:
        Path({mark!r} + "-part").touch()
class Backbone(Early):
    def __init__(self, dims: dict[str, int], width: int = 8, part: Part | None = None, anything: Any = None) -> None:
        super().__init__(dims, width)
        self.part, self.anything = part, anything
class Method(Supervised): pass
def make(parameters: Any) -> torch.optim.Optimizer: return torch.optim.SGD(parameters, lr=0.1)
"""


@dataclass(frozen=True)
class Stranger:
    """The package, and the mark that its import leaves."""

    package: str
    mark: Path

    def command(self) -> dict[str, Any]:
        """A class of torch whose constructor starts a program: here one that leaves the mark."""
        options = {"entrypoint": "/usr/bin/touch", "args": [str(self.mark)], "env": {}, "stdout": None, "stderr": None}
        path = "torch.distributed.elastic.multiprocessing.subprocess_handler.SubprocessHandler"
        return {"class_path": path, "init_args": {**options, "local_rank_id": 0, "numa_options": None}}

    def executed(self) -> bool:
        time.sleep(0.05)  # a program that was started has the time to leave its mark
        return self.mark.exists() or self.package in sys.modules


def refused(given: list[str], capfd: pytest.CaptureFixture[str]) -> str:
    """The one line with which a command says no."""
    capfd.readouterr()
    try:
        code = main(given)
    except SystemExit as exit_:
        code = exit_.code
    said = capfd.readouterr()
    assert code == 2, said
    lines = [line for line in said.err.splitlines() if line.strip()]
    assert len(lines) == 1, lines
    return lines[0]


def changed(config: Path, place: str, value: Any) -> None:
    """Write ``value`` into a config file at a dotted place."""
    content = yaml.safe_load(config.read_text())
    *parents, last = place.split(".")
    inner = content
    for name in parents:
        inner = inner[name]
    inner[last] = value
    config.write_text(yaml.safe_dump(content))


Value = Callable[[Stranger], Any]


def of(name: str) -> Value:
    """A class of the stranger, as a plain string."""
    return lambda stranger: f"{stranger.package}.{name}"


def spec(name: str, **options: Any) -> Value:
    return lambda stranger: {"class_path": f"{stranger.package}.{name}", "init_args": options}


def within(class_path: str, option: str, **options: Any) -> Value:
    """A command as an option of a class."""
    return lambda stranger: {"class_path": class_path, "init_args": {**options, option: stranger.command()}}


def text(value: Value) -> Value:
    """YAML inside a string: jsonargparse reads it, too."""
    return lambda stranger: json.dumps(value(stranger))


def listed(value: Value) -> Value:
    return lambda stranger: [value(stranger)]


LIGHTNING = "lightning.pytorch"
PRUNER = {"parameters_to_prune": None, "amount": 0.5}
# {name: (place in the config, what a stranger writes there)}
ATTACKS: dict[str, tuple[str, Value]] = {
    "a strategy's option of type object": (
        "trainer.strategy",
        within(f"{LIGHTNING}.strategies.DDPStrategy", "ddp_comm_state"),
    ),
    "an optimiser's option of type Any": (
        "model.init_args.optimizer",
        within("torch.distributed.optim.ZeroRedundancyOptimizer", "process_group", optimizer_class="torch.optim.SGD"),
    ),
    "the optimiser itself": ("model.init_args.optimizer", lambda stranger: stranger.command()),
    "extra options of a class": (
        "trainer.logger",
        lambda stranger: {
            "class_path": f"{LIGHTNING}.loggers.TensorBoardLogger",
            "init_args": {"save_dir": "x"},
            "dict_kwargs": {"comment": stranger.command()},
        },
    ),
    "an option of a callback of type Any": (
        "trainer.callbacks",
        listed(within(f"{LIGHTNING}.callbacks.RichProgressBar", "console_kwargs")),
    ),
    "a profiler's option": ("trainer.profiler", within(f"{LIGHTNING}.profilers.PyTorchProfiler", "schedule")),
    "data of another class": ("data", lambda stranger: stranger.command()),
    "an option of the data": ("data.partition", lambda stranger: stranger.command()),
    "a plain option of the trainer": ("trainer.max_epochs", lambda stranger: stranger.command()),
    "a logger": ("trainer.logger", spec("Logger", save_dir="x")),
    "a logger as a string": ("trainer.logger", of("Logger")),
    "loggers as strings": ("trainer.logger", listed(of("Logger"))),
    "a logger as text": ("trainer.logger", text(spec("Logger", save_dir="x"))),
    "a callback": ("trainer.callbacks", listed(spec("Watcher"))),
    "a callback as a string": ("trainer.callbacks", of("Watcher")),
    "callbacks as strings": ("trainer.callbacks", listed(of("Watcher"))),
    "callbacks as text": ("trainer.callbacks", text(listed(of("Watcher")))),
    "a callback that calls what it is given": (
        "trainer.callbacks",
        lambda stranger: [
            {
                "class_path": f"{LIGHTNING}.callbacks.LambdaCallback",
                "init_args": {"setup": f"{stranger.package}.make"},
            }
        ],
    ),
    "a callback that prunes by a function": (
        "trainer.callbacks",
        lambda stranger: [
            {
                "class_path": f"{LIGHTNING}.callbacks.ModelPruning",
                "init_args": {**PRUNER, "pruning_fn": f"{stranger.package}.make"},
            }
        ],
    ),
    "a callback that averages by a function": (
        "trainer.callbacks",
        lambda stranger: [
            {
                "class_path": f"{LIGHTNING}.callbacks.StochasticWeightAveraging",
                "init_args": {"swa_lrs": 0.1, "avg_fn": f"{stranger.package}.make"},
            }
        ],
    ),
    "a callback that is not known by its bare name": ("trainer.callbacks", lambda stranger: "LambdaCallback"),
    "an own callback that is not for configs": (
        "trainer.callbacks",
        lambda stranger: [
            {
                "class_path": "mer_lightning.training.callbacks.WriteResults",
                "init_args": {"folder": "elsewhere", "seed": 1},
            }
        ],
    ),
    "a strategy": ("trainer.strategy", spec("Strategy")),
    "a strategy as a string": ("trainer.strategy", of("Strategy")),
    "an accelerator": ("trainer.accelerator", spec("Part")),
    "a profiler": ("trainer.profiler", spec("Profiler")),
    "a profiler as a string": ("trainer.profiler", of("Profiler")),
    "a plugin": ("trainer.plugins", spec("Part")),
    "plugins as strings": ("trainer.plugins", listed(of("Part"))),
    "the trainer as text": ("trainer", text(lambda stranger: {"logger": f"{stranger.package}.Logger"})),
    "a strategy that reads pickles in the trainer as text": ("trainer", text(lambda stranger: {"strategy": "fsdp"})),
    "an optimiser as a string": ("model.init_args.optimizer", of("Optimizer")),
    "a function that makes an optimiser": ("model.init_args.optimizer", of("make")),
    "an optimiser": ("model.init_args.optimizer", spec("Optimizer", lr=0.1)),
    "os.system as an optimiser": ("model.init_args.optimizer", lambda stranger: "os.system"),
    "a backbone": ("model.init_args.backbone", spec("Backbone")),
    "a backbone as a string": ("model.init_args.backbone", of("Backbone")),
    "a backbone as text": ("model.init_args.backbone", text(spec("Backbone"))),
    "a backbone that is a callback of ours": (
        "model.init_args.backbone",
        lambda stranger: "mer_lightning.studies.pruning.Pruning",
    ),
    "a text encoder": ("model.init_args.text_encoder", of("Part")),
    "a method": ("model", spec("Method")),
    "a method as a string": ("model", of("Method")),
    "masks": ("data.masks", spec("Masks")),
    "masks as a string": ("data.masks", of("Masks")),
    "a class as an option of a backbone": ("model.init_args.backbone.init_args.width", spec("Part")),
    "a rate that is a class": ("model.init_args.optimizer.init_args.lr", spec("Part")),
    "a key with dots": ("trainer", lambda stranger: {"logger.class_path": f"{stranger.package}.Logger"}),
    "a key that adds": ("trainer", lambda stranger: {"callbacks+": f"{stranger.package}.Watcher"}),
    "a key inside init_args": (
        "trainer",
        lambda stranger: {"init_args": {"logger": f"{stranger.package}.Logger"}},
    ),
    "the command as a key": ("fit", lambda stranger: {"trainer": {"logger": f"{stranger.package}.Logger"}}),
    # Sharded strategies unpickle a checkpoint; fsspec reads `reference::` with a template engine.
    "a strategy that reads pickles": ("trainer.strategy", lambda stranger: "fsdp"),
    "a folder that is read by a program": ("run_dir", lambda stranger: "reference::refs.json"),
    "a checkpoint on the network": ("ckpt_path", lambda stranger: "https://127.0.0.1/best.ckpt"),
    "a study on the network": (
        "trainer.callbacks",
        lambda stranger: {"class_path": "Pruning", "init_args": {"storage": "mysql://h/x", "study": "x", "trial": 0}},
    ),
}


# {name: (files, arguments of fit)}, STRANGER stands for the package
FILES: dict[str, tuple[dict[str, str], str]] = {
    "a config names another config": (
        {"a.yaml": "config: b.yaml", "b.yaml": "trainer: {logger: STRANGER.Logger}"},
        "--config a.yaml",
    ),
    "the trainer lies in another file": (
        {"a.yaml": "trainer: b.yaml", "b.yaml": "logger: STRANGER.Logger"},
        "--config a.yaml",
    ),
    "a logger lies in another file": (
        {"a.yaml": "trainer: {logger: b.yaml}", "b.yaml": "{class_path: STRANGER.Logger, init_args: {save_dir: x}}"},
        "--config a.yaml",
    ),
    "callbacks lie in another file": (
        {"a.yaml": "trainer: {callbacks: [b.yaml]}", "b.yaml": "class_path: STRANGER.Watcher"},
        "--config a.yaml",
    ),
    "the model lies in another file": (
        {"a.yaml": "model: b.yaml", "b.yaml": "class_path: STRANGER.Method"},
        "--config a.yaml",
    ),
    "a file for one option": ({"b.yaml": "{class_path: STRANGER.Logger}"}, "--trainer.logger b.yaml"),
    "flat JSON, as studies write it": ({"a.json": '{"trainer.logger": "STRANGER.Logger"}'}, "--config a.json"),
    "flat JSON down to the class": ({"a.json": '{"model.backbone.class_path": "STRANGER.Backbone"}'}, "-c a.json"),
    "a tag of YAML": (
        {"a.yaml": "trainer: !!python/object/apply:STRANGER.make [1]"},
        "--config a.yaml",
    ),
    "a loop in YAML": ({"a.yaml": "trainer: &a [*a]"}, "--config a.yaml"),
    "an option": ({}, "--trainer.logger STRANGER.Logger"),
    "an option with =": ({}, "--trainer.logger=STRANGER.Logger"),
    "an option that adds": ({}, "--trainer.callbacks+=STRANGER.Watcher"),
    "an option in YAML": ({}, "--trainer {logger:STRANGER.Logger}"),
    "options in YAML": ({}, "--trainer.callbacks [{class_path:STRANGER.Watcher}]"),
    "a class path": ({}, "--model.backbone.class_path STRANGER.Backbone"),
    "a class path with init_args": ({}, "--model.init_args.backbone.class_path STRANGER.Backbone"),
    "a function": ({}, "--model supervised --model.optimizer STRANGER.make"),
    "help": ({}, "--model.help STRANGER.Method"),
    "help with =": ({}, "--trainer.logger.help=STRANGER.Logger"),
    "help where no class is asked for": ({}, "--trainer.plugins.help STRANGER.Part"),
    "help of a file": ({}, "--config help.yaml --trainer.callbacks.help STRANGER.Watcher"),
    "the config as text": ({}, "--config {trainer.logger:STRANGER.Logger}"),
    "an unknown option": ({}, "--optimizer STRANGER.make"),
    "jsonargparse itself": ({}, "--model jsonargparse.set_parsing_settings"),
}


# {name: (key of the checkpoint, what a stranger writes into its mapping)}
CHECKPOINTS: dict[str, tuple[str, Callable[[Stranger], dict[str, Any]]]] = {
    "a method": ("hyper_parameters", lambda s: {"_class_path": f"{s.package}.Method"}),
    "a class that is no method": ("hyper_parameters", lambda s: {"_class_path": s.command()["class_path"]}),
    "no name": ("hyper_parameters", lambda s: {"_class_path": s.command()}),
    "a backbone as a string": ("hyper_parameters", lambda s: {"backbone": f"{s.package}.Backbone"}),
    "a backbone": ("hyper_parameters", lambda s: {"backbone": {"class_path": f"{s.package}.Backbone"}}),
    "a backbone as text": ("hyper_parameters", lambda s: {"backbone": f"{{class_path: {s.package}.Backbone}}"}),
    "an optimiser": ("hyper_parameters", lambda s: {"optimizer": s.command()}),
    "an optimiser as a string": ("hyper_parameters", lambda s: {"optimizer": f"{s.package}.make"}),
    "a text encoder": ("hyper_parameters", lambda s: {"text_encoder": f"{s.package}.Part"}),
    "an option": ("hyper_parameters", lambda s: {"select_under": s.command()}),
    "an option as text": ("hyper_parameters", lambda s: {"schedule": json.dumps(s.command())}),
    "a key with dots": ("hyper_parameters", lambda s: {"backbone.class_path": f"{s.package}.Backbone"}),
    "init_args": ("hyper_parameters", lambda s: {"init_args": {"backbone": f"{s.package}.Backbone"}}),
    "dict_kwargs": ("hyper_parameters", lambda s: {"dict_kwargs": {"backbone": f"{s.package}.Backbone"}}),
}


def rewritten(path: Path, key: str, values: dict[str, Any]) -> None:
    checkpoint = torch.load(path, weights_only=True)
    checkpoint[key] = checkpoint.get(key, {}) | values
    torch.save(checkpoint, path)

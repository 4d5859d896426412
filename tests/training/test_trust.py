"""A stranger's run folder, config or checkpoint executes and imports nothing that its place does not ask for."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from mer_lightning.cli import main

TINY = ["--trainer.max_epochs", "1", "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
METHOD = ["--model", "supervised", "--model.backbone", "early", "--model.backbone.width", "8"]
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
def make(parameters): return torch.optim.SGD(parameters, lr=0.1)
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


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stranger]:
    package, mark = "a_stranger", tmp_path / "mark"
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / f"{package}.py").write_text(SOURCE.format(mark=str(mark)))
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MER_TRUST", raising=False)
    importlib.invalidate_caches()
    yield Stranger(package, mark)
    sys.modules.pop(package, None)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of its own, for nobody to change."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    corpus = ["--data.corpus", "mosi", "--data.synthetic", "true", "--data.samples", "60"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MER_DATA", str(folder.parent / "data"))
        assert main(["fit", *METHOD, *corpus, *TINY, "--run_dir", str(folder)]) == 0
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it that a test may change."""
    monkeypatch.setenv("MER_DATA", str(trained.parent / "data"))
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


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
    "a loop in a plain option": ("trainer.max_epochs", lambda stranger: stranger.command()),
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
    "an optimiser as a string": ("model.init_args.optimizer", of("Optimizer")),
    "a function that makes an optimiser": ("model.init_args.optimizer", of("make")),
    "an optimiser": ("model.init_args.optimizer", spec("Optimizer", lr=0.1)),
    "os.system as an optimiser": ("model.init_args.optimizer", lambda stranger: "os.system"),
    "a backbone": ("model.init_args.backbone", spec("Backbone")),
    "a backbone as a string": ("model.init_args.backbone", of("Backbone")),
    "a backbone as text": ("model.init_args.backbone", text(spec("Backbone"))),
    "a backbone that is a callback of ours": (
        "model.init_args.backbone",
        lambda stranger: "mer_lightning.methods.mgr.probe.ModalityProbe",
    ),
    "a text encoder": ("model.init_args.text_encoder", of("Part")),
    "a method": ("model", spec("Method")),
    "a method as a string": ("model", of("Method")),
    "masks": ("data.masks", spec("Masks")),
    "masks as a string": ("data.masks", of("Masks")),
    "a class as an option of a backbone": ("model.init_args.backbone.init_args.width", spec("Part")),
    "a rate that is a class": ("model.init_args.optimizer.init_args.lr", spec("Part")),
}


@pytest.mark.parametrize("command", ["test --run", "fit --config", "fit --resume"])
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_config_executes_nothing(
    attack: str, command: str, run: Path, stranger: Stranger, capfd: pytest.CaptureFixture[str]
) -> None:
    place, value = ATTACKS[attack]
    changed(run / "config.yaml", place, value(stranger))
    (run / "results.csv").unlink()
    word, option = command.split()
    named = run / "config.yaml" if option == "--config" else run
    line = refused([word, option, str(named), *([] if option == "--resume" else ["--run_dir", "other"])], capfd)
    assert not stranger.executed(), line
    assert not Path("elsewhere").exists()

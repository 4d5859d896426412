"""One training after another, in a process of its own, an epoch at a time: `python -m benchmarks.epochs WHOSE ...`.

Both sides read `go` lines and answer `@ seconds cpu_seconds` for each epoch: training, validation, a checkpoint.
Between them nothing runs, so that two such processes can be measured in turn.

MMSA 2.2.1 runs its own data set, model and trainer. Three things are patched from outside: the package pynvml, which it
imports and does not need for this, is an empty module; its configuration's dictionary class is a stand-in if easydict
is not installed; and its trainer is told to stop after one epoch, which also makes it create a fresh optimiser.

Both sides call `make_ready` first: oneDNN multiplies matrices for both, and memory that was freed is kept for both.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from lightning.pytorch import Callback


def answer(began: tuple[float, float]) -> None:
    wall, cpu = time.perf_counter() - began[0], time.process_time() - began[1]
    print(f"@ {wall} {cpu}", file=sys.__stdout__, flush=True)


class Gate(Callback):
    """Lets a fit go on for one epoch at each line of the standard input."""

    began: tuple[float, float] | None = None

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        if self.began is not None:
            answer(self.began)
        if not sys.stdin.readline():
            os._exit(0)
        self.began = time.perf_counter(), time.process_time()


def ours(arguments: list[str]) -> None:
    from mer_lightning.cli import main

    endless = ["--trainer.max_epochs", "100000", "--patience", "100000", "--trainer.enable_progress_bar", "false"]
    gate = ["--trust", "benchmarks", "--trainer.callbacks+=benchmarks.epochs.Gate"]
    main(["fit", "--trainer.accelerator", "cpu", *arguments, *endless, *gate])


def theirs(model_name: str, file: str, options: dict[str, Any]) -> None:
    _stand_ins()
    import torch

    from mer_lightning.training.machine import make_ready

    make_ready()  # ours calls it in every command
    torch.optim.lr_scheduler.ReduceLROnPlateau = _without_verbose(torch.optim.lr_scheduler.ReduceLROnPlateau)  # type: ignore[misc]
    from MMSA.config import get_config_regression
    from MMSA.data_loader import MMDataLoader
    from MMSA.models import AMIO
    from MMSA.trains import ATIO

    logging.getLogger("MMSA").setLevel(logging.ERROR)
    config = get_config_regression(model_name, "mosi")
    config.update(
        featurePath=file, custom_feature="", feature_T="", feature_A="", feature_V="", cur_seed=1,
        train_mode="regression", early_stop=0, model_save_path=f"{file}.{model_name}.pth", **options,
    )  # fmt: skip
    loaders = MMDataLoader(config, 0)
    model = AMIO(config)
    trainer = ATIO().getTrain(config)
    while sys.stdin.readline():
        began = time.perf_counter(), time.process_time()
        trainer.do_train(model, loaders)
        answer(began)


def _stand_ins() -> None:
    class EasyDict(dict[str, Any]):
        __getattr__ = dict.__getitem__
        __setattr__ = dict.__setitem__  # type: ignore[assignment]

    for name in ("pynvml", "easydict"):
        if importlib.util.find_spec(name) is None:
            sys.modules[name] = types.ModuleType(name)
    if not hasattr(sys.modules.get("easydict"), "EasyDict"):
        sys.modules["easydict"].EasyDict = EasyDict  # type: ignore[attr-defined]


def _without_verbose(scheduler: type) -> Callable[..., Any]:
    """torch dropped the option that MMSA's MulT gives."""
    return lambda *given, verbose=False, **options: scheduler(*given, **options)


@contextmanager
def process(*arguments: str) -> Iterator[Callable[[], tuple[float, float]]]:
    """A process of this module; what is yielded lets it do an epoch and returns its wall and CPU seconds."""
    errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (open as long as the child)
    child = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.epochs", *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
    )  # fmt: skip
    assert child.stdin is not None
    assert child.stdout is not None

    def epoch() -> tuple[float, float]:
        with suppress(BrokenPipeError):
            print("go", file=child.stdin, flush=True)
        for line in child.stdout:
            if line.startswith("@ "):
                wall, cpu = line.split()[1:]
                return float(wall), float(cpu)
        errors.seek(0)
        raise RuntimeError(f"{arguments} ended: {errors.read()[-2000:]}")

    try:
        yield epoch
    finally:
        child.kill()
        child.wait()


if __name__ == "__main__":
    import json

    import torch

    from benchmarks import epochs  # the callback must be the class that the command line imports

    torch.set_num_threads(1)
    whose, *rest = sys.argv[1:]
    if whose == "ours":
        epochs.ours(rest)
    else:
        epochs.theirs(rest[0], rest[1], json.loads(rest[2]))

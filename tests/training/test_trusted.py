"""What keeps working: classes that were looked at, and those of packages that the user trusts."""

from __future__ import annotations

import collections.abc
import importlib
import inspect
import os
import typing
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest
import torch
import yaml

from mer_lightning.cli import main
from mer_lightning.methods.loading import load_method
from mer_lightning.methods.optimizing import decayed_and_plain, with_fused_kernels
from mer_lightning.methods.places import PLACES, only_known_imports
from mer_lightning.methods.supervised import Supervised
from mer_lightning.trust import VARIABLE, is_trusted, trusted_packages, trusting
from tests.training.strangers import Stranger, changed, refused, rewritten

KNOWN = sorted({(path, place) for place, asked in PLACES.items() for path in asked.classes().values()})
# Options of type Any; what looks like a class there is refused, and would not be built.
ANY = {"task_card", "console_kwargs"}
# Classes that options of known classes may be; none of them can be named, so that their defaults and numbers are left.
PLAIN = {"Tensor", "RichProgressBarTheme"}


def imported(class_path: str) -> Any:
    module, _, name = class_path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def parts(hint: Any) -> set[Any]:
    """A type and all that it is made of; a Literal is made of words."""
    if typing.get_origin(hint) is typing.Literal:
        return set()
    inner = [part for arg in typing.get_args(hint) if not isinstance(arg, list) for part in parts(arg)]
    return {typing.get_origin(hint) or hint, *inner}


def options(cls: type) -> dict[str, Any]:
    """{option: type} of a constructor and those that it passes options on to."""
    found: dict[str, Any] = {}
    for owner in cls.__mro__:
        if "__init__" in vars(owner) and owner.__module__.split(".")[0] in ("mer_lightning", "torch", "lightning"):
            constructor = vars(owner)["__init__"]
            hints = typing.get_type_hints(constructor)
            parameters = list(inspect.signature(constructor).parameters.values())[1:]
            found = {p.name: hints.get(p.name, Any) for p in parameters if p.kind < p.VAR_KEYWORD} | found
            if not any(p.kind is p.VAR_KEYWORD for p in parameters):
                break
    return found


@pytest.mark.parametrize(("class_path", "place"), KNOWN, ids=lambda value: str(value).rpartition(".")[2])
def test_a_known_class_takes_plain_options(class_path: str, place: tuple[str, ...]) -> None:
    """An option that may be a class or a function is a place of its own, or the class is not known."""
    for name, hint in options(imported(class_path)).items():
        if (*place, name) in PLACES or (place, name) == (("model", "optimizer"), "params"):
            continue
        kinds = parts(hint)
        assert not kinds & {collections.abc.Callable, type, ModuleType, object}, name
        assert Any not in kinds or name in ANY, name
        classes = {k.__name__ for k in kinds if isinstance(k, type) and k.__module__.startswith(("torch", "lightning"))}
        assert classes <= PLAIN | {k.__name__ for k in kinds if isinstance(k, type) and issubclass(k, str)}, name


@pytest.mark.parametrize("name", PLACES["model", "optimizer"].classes())
def test_a_known_optimizer_does_a_step(name: str) -> None:
    layer = torch.nn.Linear(2, 2)
    before = layer.weight.clone()
    optimizer = with_fused_kernels(imported(f"torch.optim.{name}")(decayed_and_plain(layer.parameters()), lr=0.1))
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    assert not torch.equal(layer.weight, before)


def test_known_callbacks_and_loggers_by_their_names(run: Path) -> None:
    callbacks = [
        "ModelSummary",
        {"class_path": "Timer", "init_args": {"interval": "epoch"}},
        "lightning.pytorch.callbacks.LearningRateMonitor",
        {"class_path": "ModelCheckpoint", "init_args": {"dirpath": "more", "filename": "last"}},
        {"class_path": "EarlyStopping", "init_args": {"monitor": "valid/score", "mode": "max"}},
        {"class_path": "GradientAccumulationScheduler", "init_args": {"scheduling": {0: 1}}},
    ]
    changed(run / "config.yaml", "trainer.callbacks", callbacks)
    changed(run / "config.yaml", "trainer.logger", {"class_path": "CSVLogger", "init_args": {"save_dir": "kept"}})
    changed(run / "config.yaml", "model.init_args.optimizer", "SGD")
    assert main(["fit", "--config", str(run / "config.yaml"), "--run_dir", "again"]) == 0
    assert Path("more/last.ckpt").is_file()
    assert list(Path("kept").rglob("metrics.csv"))
    saved = yaml.safe_load(Path("again/config.yaml").read_text())
    assert saved["model"]["init_args"]["optimizer"]["class_path"] == "torch.optim.SGD"
    assert main(["test", "--run", "again", "--run_dir", "tested"]) == 0


def of_stranger(run: Path, stranger: Stranger) -> None:
    """Every place names a class of the package."""
    part = {"class_path": f"{stranger.package}.Part", "init_args": {"size": 2}}
    backbone = {"class_path": f"{stranger.package}.Backbone", "init_args": {"part": part}}
    model = {"class_path": f"{stranger.package}.Method", "init_args": {"backbone": backbone}}
    changed(run / "config.yaml", "model", model)
    changed(run / "config.yaml", "model.init_args.optimizer", f"{stranger.package}.make")
    changed(run / "config.yaml", "data.masks", f"{stranger.package}.Masks")
    changed(run / "config.yaml", "trainer.callbacks", [f"{stranger.package}.Watcher"])
    changed(
        run / "config.yaml",
        "trainer.logger",
        {"class_path": f"{stranger.package}.Logger", "init_args": {"save_dir": "x"}},
    )


@pytest.mark.parametrize("way", ["--trust PACKAGE", "--trust=PACKAGE", "--trust os --trust PACKAGE", VARIABLE])
def test_classes_of_a_trusted_package(
    way: str, run: Path, stranger: Stranger, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    of_stranger(run, stranger)
    trust = [] if way == VARIABLE else way.replace("PACKAGE", stranger.package).split()
    if way == VARIABLE:
        monkeypatch.setenv(VARIABLE, f"another, {stranger.package}")
    before = os.environ.get(VARIABLE)
    given = ["fit", "--config", str(run / "config.yaml"), "--run_dir", "again"]
    assert main([*given, *trust]) == 0
    assert main(["test", *trust, "--run", "again", "--run_dir", "tested"]) == 0
    assert set(pd.read_csv("tested/results.csv")["method"]) == {"Method"}
    assert os.environ.get(VARIABLE) == before
    if before is None:
        assert f"--trust {stranger.package}" in refused(["test", "--run", "again"], capfd)
    with trusting(["--trust", stranger.package]):
        method = load_method("again/checkpoints/best.ckpt")
    assert type(method.backbone.part).__name__ == "Part"


def test_an_option_of_type_any_is_not_built_in_a_trusted_class_either(run: Path, stranger: Stranger) -> None:
    anything = {"class_path": f"{stranger.package}.Part"}
    backbone = {"class_path": f"{stranger.package}.Backbone", "init_args": {"anything": anything}}
    changed(run / "config.yaml", "model.init_args.backbone", backbone)
    given = ["fit", "--config", str(run / "config.yaml"), "--run_dir", "again", "--trust", stranger.package]
    assert main(given) == 0
    assert stranger.mark.exists()
    assert not Path(f"{stranger.mark}-part").exists()


def test_a_class_of_the_running_program_is_known(run: Path) -> None:
    """In a notebook or a script, somebody's own method needs no further trust."""
    rewritten(run / "checkpoints" / "best.ckpt", "hyper_parameters", {"_class_path": f"{__name__}.Mine"})
    assert type(load_method(run / "checkpoints" / "best.ckpt")) is Mine


class Mine(Supervised):
    pass


@pytest.mark.parametrize(
    ("given", "fragment"),
    [
        (["--trust", "mer_lightning"], "a package of your own"),
        (["--trust", "jsonargparse.typing"], "a package of your own"),
        (["--trust", "../other"], "a package of your own"),
        (["--trust"], "the name of a package"),
        (["--trust="], "the name of a package"),
        (["--config", "trust.yaml"], "trust"),
    ],
)
def test_what_cannot_be_trusted(
    given: list[str], fragment: str, run: Path, stranger: Stranger, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("trust.yaml").write_text(f"trust: {stranger.package}")
    assert fragment in refused(["test", "--run", str(run), *given], capfd)


def test_trust_ends_with_the_name_of_a_package() -> None:
    with trusting(["fit", "--trust", "my.package", "--trust=other", "--name", "x"]) as rest:
        assert rest == ["fit", "--name", "x"]
        assert trusted_packages() == ("my.package", "other")
        known = ("my.package", "my.package.Mine", "my.package.deep.Mine", "other.Mine")
        assert all(map(is_trusted, known))
        assert not any(map(is_trusted, ("my", "my.packages.Mine", "others.Mine", "my.other.Mine")))
    assert trusted_packages() == ()


def test_the_limit_on_imports_ends_with_the_command() -> None:
    from jsonargparse._common import check_import_path

    with pytest.raises(ImportError), only_known_imports():
        check_import_path("somebody.Other")
    check_import_path("somebody.Other")


def test_a_study_executes_nothing_that_is_not_trusted_and_hands_trust_to_its_workers(
    stranger: Stranger, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MER_DATA", "data")
    full = {
        "model": {"class_path": "supervised", "init_args": {"backbone": "early"}},
        "data": {"corpus": "mosi", "synthetic": True, "samples": 60},
        "trainer": {"max_epochs": 1, "accelerator": "cpu"},
    }
    Path("full.yaml").write_text(yaml.safe_dump(full))
    without = {"theirs": {"model.backbone": {"class_path": f"{stranger.package}.Backbone"}}}
    study = {"full": "full.yaml", "repeat": {"seed_everything": [1]}, "without": without}
    Path("study.yaml").write_text(yaml.safe_dump(study))
    assert main(["ablate", "study.yaml", "--workers", "1"]) == 2
    assert f"add --trust {stranger.package}" in " ".join(capfd.readouterr().err.split())
    assert not stranger.executed()
    assert main(["ablate", "study.yaml", "--workers", "1", "--trust", stranger.package]) == 0
    assert stranger.mark.exists()
    rows = pd.read_csv("runs/ablations/study/theirs/0/run/results.csv")
    assert set(rows["backbone"]) == {"Backbone"}

"""A stranger's run folder, config or checkpoint executes and imports nothing that its place does not ask for."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from mer_lightning.cli import main
from mer_lightning.errors import Refusal
from mer_lightning.methods import building, names
from mer_lightning.methods.loading import load_method
from mer_lightning.methods.places import refuse_strange_classes
from mer_lightning.training import lightning_cli
from tests.training.strangers import ATTACKS, CHECKPOINTS, FILES, Stranger, changed, refused, rewritten, spec

COMMANDS = {
    "fit": ("fit", "--config", "config.yaml"),
    "resume": ("fit", "--resume", ""),
    "test": ("test", "--run", ""),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_config_executes_nothing(
    attack: str, command: str, run: Path, stranger: Stranger, capfd: pytest.CaptureFixture[str]
) -> None:
    place, value = ATTACKS[attack]
    changed(run / "config.yaml", place, value(stranger))
    (run / "results.csv").unlink()
    word, option, file = COMMANDS[command]
    line = refused([word, option, str(run / file)], capfd)
    assert not stranger.executed(), line
    assert not Path("elsewhere").exists()


@pytest.mark.parametrize("command", ["validate", "predict"])
def test_other_commands_read_a_run_as_test_does(
    command: str, run: Path, stranger: Stranger, capfd: pytest.CaptureFixture[str]
) -> None:
    changed(run / "config.yaml", "trainer.logger", f"{stranger.package}.Logger")
    assert f"--trust {stranger.package}" in refused([command, "--run", str(run)], capfd)
    assert not stranger.executed()


@pytest.mark.parametrize("attack", [name for name, (place, _) in ATTACKS.items() if place != "fit"])
def test_the_limit_on_imports_is_enough_without_the_walk(
    attack: str, run: Path, stranger: Stranger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A spelling that the walk does not know must not be one that is executed."""
    for module in (names, lightning_cli, building):
        monkeypatch.setattr(module, "refuse_strange_classes", lambda *args: None)
    place, value = ATTACKS[attack]
    changed(run / "config.yaml", place, value(stranger))
    with contextlib.suppress(SystemExit, Exception):
        main(["test", "--run", str(run), "--run_dir", "other"])
    assert not stranger.executed()


# What is written inside a text shows after parsing only, and a config has no commands.
INVISIBLE = {"the trainer as text", "a strategy that reads pickles in the trainer as text", "the command as a key"}


@pytest.mark.parametrize("attack", sorted(ATTACKS.keys() - INVISIBLE))
def test_the_walk_is_enough_without_the_limit_on_imports(attack: str, trained: Path, stranger: Stranger) -> None:
    place, value = ATTACKS[attack]
    shutil.copy(trained / "config.yaml", "config.yaml")
    changed(Path("config.yaml"), place, value(stranger))
    with pytest.raises(Refusal):
        refuse_strange_classes(names.in_config(yaml.safe_load(Path("config.yaml").read_text())))
    assert not stranger.executed()


def test_a_trusted_class_is_no_option_of_a_known_one(
    run: Path, stranger: Stranger, capfd: pytest.CaptureFixture[str]
) -> None:
    callback = {"class_path": "RichProgressBar", "init_args": {"console_kwargs": {"file": spec("Part")(stranger)}}}
    changed(run / "config.yaml", "trainer.callbacks", [callback])
    line = refused(["test", "--run", str(run), "--trust", stranger.package], capfd)
    assert "trainer.callbacks.console_kwargs.file: expected a plain value: no class may be named here" in line
    assert not stranger.executed()


@pytest.mark.parametrize("attack", ["a strategy's option of type object", "an optimiser's option of type Any"])
def test_a_trusted_class_does_not_make_its_options_of_any_type_places(
    attack: str, run: Path, stranger: Stranger, capfd: pytest.CaptureFixture[str]
) -> None:
    place, value = ATTACKS[attack]
    changed(run / "config.yaml", place, value(stranger))
    trusted = "lightning" if place == "trainer.strategy" else "torch.distributed.optim"
    line = refused(["test", "--run", str(run), "--trust", trusted], capfd)
    assert "no class may be named here; found 'torch.distributed.elastic" in line
    with contextlib.suppress(SystemExit, Exception):  # the class is trusted now, but stays what was written
        main(["test", "--run", str(run), "--run_dir", "other", "--trust", "torch", "--trust", "lightning"])
    assert not stranger.executed()


@pytest.mark.parametrize("case", FILES)
def test_files_and_options_execute_nothing(case: str, stranger: Stranger, capfd: pytest.CaptureFixture[str]) -> None:
    files, given = FILES[case]
    for name, content in files.items():
        Path(name).write_text(content.replace("STRANGER", stranger.package))
    words = given.replace("STRANGER", stranger.package).replace(":a_", ": a_").split(" --")
    args = [word for number, each in enumerate(words) for word in ("--" * (number > 0) + each).split(" ", 1)]
    line = refused(["fit", *args], capfd)
    assert not stranger.executed(), line
    assert "set_parsing_settings in" not in line


def test_the_environment_of_the_parser_executes_nothing(
    run: Path, stranger: Stranger, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JSONARGPARSE_DEFAULT_ENV", "true")
    for variable in ("PL_TEST__TRAINER__LOGGER", "PL_TRAINER__LOGGER"):
        monkeypatch.setenv(variable, f"{stranger.package}.Logger")
    refused(["test", "--run", str(run)], capfd)
    assert not stranger.executed()


@pytest.mark.parametrize("attack", CHECKPOINTS)
def test_a_checkpoint_executes_nothing(
    attack: str, run: Path, stranger: Stranger, capfd: pytest.CaptureFixture[str]
) -> None:
    key, values = CHECKPOINTS[attack]
    rewritten(run / "checkpoints" / "best.ckpt", key, values(stranger))
    line = refused(["test", "--run", str(run), "--run_dir", "other"], capfd)
    assert "best.ckpt" in line
    assert not stranger.executed()


def test_the_line_on_a_checkpoint_names_the_option(
    run: Path, stranger: Stranger, capfd: pytest.CaptureFixture[str]
) -> None:
    rewritten(run / "checkpoints" / "best.ckpt", "hyper_parameters", {"backbone": f"{stranger.package}.Backbone"})
    line = refused(["test", "--run", str(run), "--run_dir", "other"], capfd)
    assert "best.ckpt: model.backbone: expected a backbone: almt, bbfn," in line
    assert line.endswith(
        f"found '{stranger.package}.Backbone'; if you trust that package, add --trust {stranger.package}"
    )


class Program:
    """A pickle of it touches a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("option", ["null", "true", "false"])
@pytest.mark.parametrize(("command", "checkpoint"), [("test --run", "best"), ("fit --resume", "last")])
def test_a_checkpoint_is_never_read_as_a_pickle(
    command: str, checkpoint: str, option: str, run: Path, stranger: Stranger, capfd: pytest.CaptureFixture[str]
) -> None:
    changed(run / "config.yaml", "weights_only", yaml.safe_load(option))
    changed(run / "config.yaml", "trainer.max_epochs", 2)
    for file in ("results.csv", "phases.json"):
        (run / file).unlink()
    rewritten(run / "checkpoints" / f"{checkpoint}.ckpt", "extra", {"program": Program(stranger.mark)})
    if option == "false":
        assert "weights_only: expected true" in refused([*command.split(), str(run)], capfd)
    else:
        with contextlib.suppress(SystemExit, Exception):
            main([*command.split(), str(run)])
    assert not stranger.executed()


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("hyper_parameters", {"_instantiator": "PACKAGE.make"}),
        ("hparams", {"backbone": "PACKAGE.Backbone"}),  # keys of old checkpoints, which Lightning still reads
        ("module_arguments", {"backbone": "PACKAGE.Backbone"}),
    ],
)
def test_keys_of_a_checkpoint_that_only_lightning_knows_play_no_part(
    key: str, values: dict[str, str], run: Path, stranger: Stranger
) -> None:
    before = load_method(run / "checkpoints" / "best.ckpt").state_dict()
    named = {name: value.replace("PACKAGE", stranger.package) for name, value in values.items()}
    rewritten(run / "checkpoints" / "best.ckpt", key, named)
    after = load_method(run / "checkpoints" / "best.ckpt").state_dict()
    assert not stranger.executed()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)

"""Every command and option that a string of the package names is given to the parser that would read it.

A command in a text ends at a backtick, a line break, a full stop or a closing bracket, so that what follows is no part
of it. Placeholders such as `{folder}` are replaced by a word, or by the value below.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import re
import shlex
from collections.abc import Callable, Iterator
from functools import cache
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
from torch.optim import AdamW

import mer_lightning
from mer_lightning.backbones.base import all_backbones
from mer_lightning.cli import _OWN_PARSERS, COMMANDS
from mer_lightning.commands.data import _features
from mer_lightning.errors import Refusal
from mer_lightning.methods import names
from mer_lightning.methods.base import all_methods
from mer_lightning.training import lightning_cli, starting

# `fit` is Lightning's but for the folds of a corpus.
OWN = {name: module for name, module in _OWN_PARSERS.items() if name != "fit"}
PACKAGE = Path(mer_lightning.__file__).parent
VALUES = {"modality": "text", "role": "text", "self": "fixed-7", "listed[0]": "fixed-7"}  # of placeholders
UNKNOWN = "NAME"  # stands for other placeholders
ALWAYS = {"--help", "--version"}
NO_ADVICE = {
    "--porcelain": "an option of git",
    "--head": "an option of `ray start`",
    "--port": "an option of `ray start`",
    "--trainer.callbacks": "given by studies/sweep_trials.py itself, and run by its tests",
    "--trust": "taken off before any parser reads the rest, and run by tests/training/test_trust.py",
    "--quiet": "taken off like that, and run by tests/commands/test_output.py",
    "--json": "taken off like that, and run by tests/commands/test_output.py",
    "--print_completion": "of no command, and run by tests/commands/test_completion.py",
    "--model.bta": "an example of an option that does not exist",
}
COMMAND = re.compile(rf"(?<![\w/'\"%-])mer-lightning ({'|'.join(COMMANDS)})\b((?:'[^']*'|[^\n`;)\]:\"'])*)")
VALUE = r"(?:=|[ \t]+)('[^']*'|\"[^\"]*\"|(?!--)[^\s'\"`();\[\]]+)"
# `var(--ink)` is a colour of a page.
OPTION = re.compile(rf"(?<![\w\"\\-])(?<!var\()(--[a-z_A-Z]\w*(?:\.\w+)*)(\+?)(?:{VALUE})?")


def texts(path: Path) -> Iterator[str]:
    """Every string of a module, those with placeholders filled in."""
    tree = ast.parse(path.read_text())
    constants = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(_filled(part, constants) for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
            yield node.value


def _filled(part: ast.expr, constants: dict[str, Any]) -> str:
    if isinstance(part, ast.Constant):
        return str(part.value)
    assert isinstance(part, ast.FormattedValue)
    name = ast.unparse(part.value)
    return str(constants.get(name, VALUES.get(name, UNKNOWN)))


def advice(text: str) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """([(command, its arguments)], [(option outside of commands, its value or "")])"""
    commands, rest = [], text
    for found in COMMAND.finditer(text):
        arguments = re.split(r"\.(?:\s|$)|,\s", found[2])[0]
        if found[1] not in OWN and not arguments.lstrip().startswith("-"):
            arguments = ""  # prose: Lightning's commands take options only
        commands.append((found[1], arguments.strip()))
        rest = rest.replace(found[0][: found[0].find(found[2]) + len(arguments)], " ", 1)
    values = [(name, value.strip("'\"").rstrip(".,:")) for name, _, value in OPTION.findall(rest)]
    options = [(name, "" if value == UNKNOWN else value) for name, value in values if UNKNOWN not in name]
    return commands, options


ALL = sorted(
    {
        (path.relative_to(PACKAGE).as_posix(), kind, *found)
        for path in PACKAGE.rglob("*.py")
        for text in texts(path)
        for kind, each in zip(("command", "option"), advice(text), strict=True)
        for found in each
    }
)


class Parsed(Exception):
    """Raised where a program would go on after parsing: it holds the parser."""


def _captured(call: Callable[[], object]) -> Any:
    try:
        call()
    except Parsed as parsed:
        return parsed.args[0]
    raise AssertionError("nothing was parsed")


def _stop(parser: Any, *_: Any) -> None:
    raise Parsed(parser)


@cache
def own_parser(command: str) -> argparse.ArgumentParser:
    module = importlib.import_module(OWN[command])
    with pytest.MonkeyPatch.context() as patch:
        for name in ("parse_args", "parse_known_args"):
            patch.setattr(argparse.ArgumentParser, name, _stop)
        return _captured(lambda: module.main([]))


@cache
def lightning_parser(command: str) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lightning_cli.MERCLI, "parse_arguments", lambda self, parser, args: _stop(parser))
        return _captured(lambda: lightning_cli.run_resolved([command]))


def accepts_own(command: str, arguments: list[str]) -> bool:
    parse = own_parser(command).parse_known_args if command == "ablate" else own_parser(command).parse_args
    if command == "data" and len(arguments) == 1:  # the name of a command, without its file
        return any(arguments[0] in (action.choices or ()) for action in own_parser(command)._actions)
    given = parse(arguments)
    if command == "ablate":
        return accepts_lightning("fit", given[1])
    if getattr(given, "features", ""):
        _features(given.features)  # what the command does with it
    return True


def accepts_lightning(command: str, arguments: list[str]) -> bool:
    """Whether the arguments fit, with some method and some backbone where these are not named."""
    for option in ("--run", "--resume"):  # stand for the files of a run
        if option in arguments:
            with pytest.raises(Refusal, match="a run's folder"):
                starting.run([command, *arguments])
            at = arguments.index(option)
            arguments = [*arguments[:at], *arguments[at + 2 :]]
    if "--config" in arguments:
        at = arguments.index("--config")
        arguments = [*arguments[:at], *arguments[at + 2 :]]
    corpus = [] if "--data.corpus" in arguments else ["--data.corpus", "mosi"]
    named = next((arguments[i + 1] for i, each in enumerate(arguments) if each == "--model"), None)
    backbone = any(each == "--model.backbone" for each in arguments)
    methods = [] if named else list(all_methods())
    choices = [["--model", method] for method in methods] or [[]]
    backbones = [["--model.backbone", name] for name in all_backbones()] if not backbone else [[]]
    more = [["--model.text_encoder.path", "."]] if "hugging_face" in arguments else [[]]
    for choice in choices:
        for fusion in backbones if any(a.startswith("--model.backbone.") for a in arguments) else backbones[:1]:
            given = [command, *choice, *fusion, *corpus, *more[0], *arguments]
            try:
                lightning_parser(command).parse_args(names.classes_first(names.in_arguments(given)))
            except SystemExit as end:
                if end.code:  # 0: help was asked for
                    continue
            return True
    return False


def known_option(option: str) -> bool:
    """Whether an option without a value exists: in a parser, or as a parameter of a method or a backbone."""
    return option in _known_options()


@cache
def _known_options() -> set[str]:
    lightning = [action for command in ("fit", "test", "predict") for action in _options(lightning_parser(command))]
    own = [action for command in OWN for action in _options(own_parser(command))]
    parameters = [f"--model.{name}" for cls in all_methods().values() for name in _parameters(cls)]
    parameters += [f"--model.backbone.{name}" for cls in all_backbones().values() for name in _parameters(cls)]
    parameters += [f"--model.optimizer.{name}" for name in signature(AdamW).parameters]
    return {*lightning, *own, *parameters, *ALWAYS, "--run", "--config"}


def _parameters(cls: type) -> set[str]:
    return {name for base in cls.__mro__ if "__init__" in vars(base) for name in signature(base.__init__).parameters}


def _options(parser: Any) -> set[str]:
    found = set(parser._option_string_actions)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found |= {option for each in action.choices.values() for option in _options(each)}
    return found


def accepts_option(option: str, value: str) -> bool:
    """Whether some command takes the option, with its value if there is one."""
    if not known_option(option):
        return False
    if not value:
        return True
    if option == "--features":
        return bool(_features(value))
    for command in OWN:
        action = _action(own_parser(command), option)
        if action is not None:
            assert action.choices is None or value in action.choices
            return action.type is None or action.type(value) is not None
    return any(accepts_lightning(command, [option, value]) for command in ("fit", "test", "predict"))


def _action(parser: argparse.ArgumentParser, option: str) -> argparse.Action | None:
    found = parser._option_string_actions.get(option)
    for action in parser._actions:
        if found is None and isinstance(action, argparse._SubParsersAction):
            found = next((each for sub in action.choices.values() if (each := _action(sub, option))), None)
    return found


@pytest.mark.parametrize(("where", "kind", "name", "rest"), ALL, ids=lambda each: each or "-")
def test_what_a_message_advises_is_accepted(
    where: str, kind: str, name: str, rest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if name in NO_ADVICE:
        return
    try:
        if kind == "option":
            accepted = accepts_option(name, rest.replace(", ...", ""))
        else:
            accept = accepts_own if name in OWN else accepts_lightning
            words = shlex.split(rest.replace("...", ""))
            accepted = "--help" in words or not words or accept(name, words)
    except SystemExit:
        accepted = False
    assert accepted, f"{where} advises {name} {rest}: {capsys.readouterr().err}"


def test_the_search_finds_what_messages_advise() -> None:
    message = "add it. Then: mer-lightning data import FILE --as mosi. Or set --data.synthetic true to run (--run_dir)"
    commands, options = advice(message)
    assert commands == [("data", "import FILE --as mosi")]
    assert options == [("--data.synthetic", "true"), ("--run_dir", "")]
    assert advice("see `mer-lightning data list` for all")[0] == [("data", "list")]
    assert advice("test --labels '{mine: theirs, ...}'")[1] == [("--labels", "{mine: theirs, ...}")]
    assert ("data/places.py", "command", "data", "import FILE --as NAME") in ALL
    assert len(ALL) > 60


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--features.text", "NAME"),
        ("--features", "text"),
        ("--data.alignmnt", ""),
        ("--data.alignment", "diagonal"),
        ("--executor", "slurm"),
        ("--model.no_such_option", ""),
    ],
)
def test_wrong_advice_is_found(option: str, value: str) -> None:
    try:
        accepted = accepts_option(option, value)
    except (AssertionError, Refusal, SystemExit):
        accepted = False
    assert not accepted


def test_wrong_commands_are_found() -> None:
    with pytest.raises(SystemExit):
        accepts_own("data", ["import", "FILE", "--name", "mosi"])
    assert not accepts_lightning("fit", ["--model", "supervised", "--no_such_option", "1"])

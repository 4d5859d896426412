"""Errors of the command line for people: the cause in one line, and the nearest option there is."""

from __future__ import annotations

import re
from typing import Any, ClassVar, NoReturn

from lightning.pytorch.cli import LightningArgumentParser

from mer_lightning.errors import Refusal
from mer_lightning.training.known_options import unknown_option
from mer_lightning.trust import remedy

_UNKNOWN = re.compile(r"[Uu]nrecognized arguments: --([\w.]+)|[Oo]ption '([\w.]+)' is not accepted|Key '([\w.]+)'")
_DENIED = re.compile(r"""(?:Parser key "([\w.]+)".*?)?Importing '([\w.]+)' is not allowed""")


class Misuse(SystemExit):
    """What is wrong with the options. No Exception: the parser would take it for one more type that did not fit."""

    def __init__(self, line: str) -> None:
        super().__init__(2)
        self.line = line


class Parser(LightningArgumentParser):
    """Says what was wrong in one line."""

    arguments: ClassVar[list[str]] = []  # as the user gave them: messages about nested options leave out the prefix

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        line = " ".join(message.split())
        if denied := _DENIED.search(line):  # by `only_known_imports`, and jsonargparse tells how to switch that off
            where, class_path = denied.groups()
            found, way = f"'{class_path}'", remedy(class_path) or "remove it"
            line = str(Refusal(where or "class_path", "a class that may be named there", found, way))
        elif unknown := _UNKNOWN.search(message):
            word = next(filter(None, unknown.groups()))
            prefix = self._prefix(word)
            line = str(unknown_option(prefix + word, [prefix + option for option in self._known_options()]))
        raise Misuse(line)

    def _prefix(self, word: str) -> str:
        """`model.` of `--model.bta`, when the message is about `bta`."""
        options = [arg[2:].partition("=")[0] for arg in self.arguments if arg.startswith("--")]
        return next((option.removesuffix(word) for option in options if option.endswith(f".{word}")), "")

    def _known_options(self) -> list[str]:
        options = [
            name[2:] for parser in _parsers(self) for name in parser._option_string_actions if name.startswith("--")
        ]
        return sorted({option for option in options if not option.endswith("help")})


def _parsers(parser: Any) -> list[Any]:
    children = getattr(parser, "_subcommands_action", None)
    return [parser, *(children._name_parser_map.values() if children else [])]

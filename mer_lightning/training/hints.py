"""Errors of the command line for people: the cause in one line, and the nearest option there is."""

from __future__ import annotations

import difflib
import re
import sys
from typing import Any, NoReturn

from lightning.pytorch.cli import LightningArgumentParser


class Parser(LightningArgumentParser):
    """Says what was wrong in one line and exits with code 2."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        print(f"mer-lightning: {_first_cause(message)}{self._nearest(message)}", file=sys.stderr)
        sys.exit(2)

    def _nearest(self, message: str) -> str:
        unknown = re.search(r"[Uu]nrecognized arguments: --([\w.]+)|[Oo]ption '([\w.]+)' is not accepted|Key '([\w.]+)'", message)
        if not unknown:
            return ""
        word = next(filter(None, unknown.groups()))
        close = difflib.get_close_matches(word, self._known_options(), n=1, cutoff=0.5)
        return f"; did you mean --{close[0]}?" if close else ""

    def _known_options(self) -> list[str]:
        options = [name[2:] for parser in _parsers(self) for name in parser._option_string_actions if name.startswith("--")]
        return sorted({option for option in options if not option.endswith("help")})


def _parsers(parser: Any) -> list[Any]:
    children = getattr(parser, "_subcommands_action", None)
    return [parser, *(children._name_parser_map.values() if children else [])]


def _first_cause(message: str) -> str:
    return " ".join(message.split())

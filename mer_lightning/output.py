"""What a command prints: for a person, or as JSON for a program.

`--quiet` and `--json` stand after any command. With `--quiet` only refusals and the result are printed, with `--json`
the result is JSON on stdout, and all else goes to stderr.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TextIO

QUIET, JSON = "--quiet", "--json"


class _Asked:
    """How this process was asked to print, and where results go."""

    as_json = False
    stdout: TextIO | None = None  # None: wherever everything goes


@contextlib.contextmanager
def printing_as_asked(args: list[str]) -> Iterator[list[str]]:
    """The arguments without `--quiet` and `--json`, which hold inside."""
    rest = [arg for arg in args if arg not in (QUIET, JSON)]
    with contextlib.ExitStack() as stack:
        if len(rest) < len(args):
            _Asked.as_json, _Asked.stdout = JSON in args, sys.stdout
            stack.callback(_reset)
            if QUIET in args:
                nowhere = stack.enter_context(open(os.devnull, "w"))
                stack.enter_context(contextlib.redirect_stdout(nowhere))
                stack.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore")
            else:
                stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        yield rest


def give(values: Any, show: Callable[[], None]) -> None:
    """The result of a command, once: ``show`` prints it for a person, ``values`` become JSON.

    Tables may be data frames; a number that is NaN or infinite is null.
    """
    if _Asked.stdout is None:
        show()
        return
    with contextlib.redirect_stdout(_Asked.stdout):
        if _Asked.as_json:
            print(json.dumps(_plain(values), indent=2))
        else:
            show()


def _reset() -> None:
    _Asked.as_json, _Asked.stdout = False, None


def _plain(value: Any) -> Any:
    if hasattr(value, "to_dict"):  # a data frame
        value = value.to_dict("records")
    elif hasattr(value, "item"):  # a number of numpy or torch
        value = value.item()
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)

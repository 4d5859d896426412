"""The one way this package says no to a file, a folder or an option."""

from __future__ import annotations

import traceback
from pathlib import Path


class Refusal(Exception):
    """One line that names the file, what was expected, what was found and what to do.

    The command line prints it without a traceback and exits with code 2.
    """

    def __init__(self, where: str | Path, expected: str, found: str, remedy: str) -> None:
        self.where, self.expected, self.found, self.remedy = str(where), expected, found, remedy
        line = f"{where}: expected {expected}; found {found}; {remedy}"
        super().__init__(" ".join(line.split()))


def refusal_behind(error: BaseException | None) -> Refusal | None:
    """The Refusal that ``error`` is, or that some library wrapped on its way here."""
    while error is not None and not isinstance(error, Refusal):
        error = error.__cause__ or error.__context__
    return error


def error_text(error: BaseException) -> str:
    """An error of a run in another process, as text: the refusal's line, or the whole traceback."""
    return str(refusal_behind(error) or "".join(traceback.format_exception(error)))

"""The error for files, folders and options that this package does not accept."""

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
    """``error`` if it is a Refusal, else the Refusal that caused it, else None: libraries wrap errors."""
    while error is not None and not isinstance(error, Refusal):
        error = error.__cause__ or error.__context__
    return error


def error_text(error: BaseException) -> str:
    """An error of a run in another process, as text: the refusal's line, or the whole traceback."""
    return str(refusal_behind(error) or "".join(traceback.format_exception(error)))

"""The one way this package says no to a file, a folder or an option."""

from __future__ import annotations

from pathlib import Path


class Refusal(Exception):
    """One line that names the file, what was expected, what was found and what to do.

    The command line prints it without a traceback and exits with code 2.
    """

    def __init__(self, where: str | Path, expected: str, found: str, remedy: str) -> None:
        self.where, self.expected, self.found, self.remedy = str(where), expected, found, remedy
        line = f"{where}: expected {expected}; found {found}; {remedy}"
        super().__init__(" ".join(line.split()))

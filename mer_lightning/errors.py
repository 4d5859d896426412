"""What ends a command with one line in place of a traceback: something refused, or a training that diverged.

Whatever a file does to the code that reads it becomes a :class:`Refusal` that names the file: inside :func:`reading`,
which stands around the reading of one file and nothing else, and in :func:`refusal_behind` for what the disk refuses.
Every other error is a defect of this package, and keeps its traceback.
"""

from __future__ import annotations

import errno
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

DEFECT = (
    "mer-lightning: this is a defect of mer-lightning, not of your files. "
    "Please report it to the project, with the lines above and the command."
)
_AGAIN = "copy or make the file again"
_LONGEST = 400  # characters of what was found: a name in a file can be as long as the file
# Content cannot cause these: the code that reads it is wrong.
_DEFECTS = (AssertionError, ImportError, NameError)
# What a disk, a folder or a path does, whatever the code is.
_OF_THE_DISK = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO),
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ENAMETOOLONG, errno.ELOOP),
}


class Refusal(Exception):
    """One line that names the file, what was expected, what was found and what to do.

    The command line prints it without a traceback and exits with code 2.
    """

    def __init__(self, where: str | Path, expected: str, found: str, remedy: str) -> None:
        self.where, self.expected, self.found, self.remedy = str(where), expected, found, remedy
        super().__init__(_one_line(f"{where}: expected {expected}; found {_shortened(found)}; {remedy}"))


class Misused(Refusal):
    """What the parser of the options says of them, in its own words."""

    def __init__(self, line: str) -> None:
        super().__init__("options", "", line, "")
        self.args = (_one_line(line),)


@contextmanager
def reading(where: str | Path, expected: str, remedy: str = _AGAIN) -> Iterator[None]:
    """Inside, an error is what the content of the file ``where`` did to its reader: a Refusal that names the file."""
    try:
        yield
    except (Refusal, Diverged, *_DEFECTS):
        raise
    except Exception as error:
        wrapped = _refusal_in(error)  # by a library; it knows more than what it is wrapped in
        if wrapped is None:
            raise Refusal(where, expected, f"{type(error).__name__}: {error}", remedy) from error
        # A new one: the old one cannot be raised from an error that it has caused.
        raise Refusal(wrapped.where, wrapped.expected, wrapped.found, wrapped.remedy) from error


def _refusal_in(error: BaseException | None) -> Refusal | None:
    while error is not None and not isinstance(error, Refusal):
        error = error.__cause__ or error.__context__
    return error


class Diverged(Exception):
    """Training or evaluation gave a number that is NaN or infinite. The command line exits with code 3.

    Args:
        phase: of the fit, or `test`.
        what: came out, such as `loss task is nan`.
        step: of the phase, where it was in training.
        epoch: of the phase, where it was in training.
        origin: {modality, or `target`: ids of the samples where it began}, where it can be told; no ids: all of them.
        kept: the last checkpoint of before.
    """

    def __init__(
        self,
        phase: str,
        what: str,
        step: int | None = None,
        epoch: int | None = None,
        origin: dict[str, list[str]] | None = None,
        kept: str | None = None,
    ) -> None:
        super().__init__()
        self.phase, self.what, self.step, self.epoch, self.origin, self.kept = phase, what, step, epoch, origin, kept

    def __str__(self) -> str:
        when = "" if self.step is None else f", step {self.step} (epoch {self.epoch})"
        parts = [f"diverged in phase {self.phase}{when}: {self.what}"]
        parts += [f"{name} of {first_names(ids) or 'all samples'}" for name, ids in (self.origin or {}).items()]
        parts += [f"the last good checkpoint is {self.kept}"] if self.kept else []
        parts += ["try a smaller learning rate, such as --model.optimizer.lr 1e-4, or --trainer.gradient_clip_val 1"]
        return "; ".join(parts)


def did_you_mean(word: str, known: Iterable[str], otherwise: str = "", cutoff: float = 0.6, written: str = "{}") -> str:
    """A question after the known word that is nearest to one that is not known; ``otherwise`` where none is near."""
    import difflib

    close = difflib.get_close_matches(word, list(known), n=1, cutoff=cutoff)
    return f"did you mean {written.format(close[0])}?" if close else otherwise


def first_names(names: list[str]) -> str:
    """The first five of many, for a message."""
    more = len(names) - 5
    return ", ".join(names[:5]) + (f" and {more} more" if more > 0 else "")


def refusal_behind(error: BaseException | None) -> Refusal | None:
    """``error`` if it is a Refusal, else the Refusal that caused it, else one for what the disk refused, else None.

    Libraries wrap errors.
    """
    of_the_disk = None
    while error is not None and not isinstance(error, Refusal):
        if isinstance(error, OSError) and error.errno in _OF_THE_DISK and of_the_disk is None:
            where = error.filename or "the disk"
            of_the_disk = Refusal(where, "a place to read from or write to", str(error.strerror), "choose another one")
        error = error.__cause__ or error.__context__
    return error or of_the_disk


def error_text(error: BaseException) -> str:
    """An error of a run in another process, as text: the refusal's line, or the whole traceback."""
    if isinstance(error, Diverged):
        return str(error)
    return str(refusal_behind(error) or "".join(traceback.format_exception(error)))


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


def _one_line(text: str) -> str:
    """Without line breaks, and with nothing in it that a terminal would obey."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in " ".join(text.split()))

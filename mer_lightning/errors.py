"""What ends a command with one line in place of a traceback: something refused, or a training that diverged."""

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
        parts += ["try a smaller --model.optimizer.lr, or --trainer.gradient_clip_val 1"]
        return "; ".join(parts)


def first_names(names: list[str]) -> str:
    """The first five of many, for a message."""
    more = len(names) - 5
    return ", ".join(names[:5]) + (f" and {more} more" if more > 0 else "")


def refusal_behind(error: BaseException | None) -> Refusal | None:
    """``error`` if it is a Refusal, else the Refusal that caused it, else None: libraries wrap errors."""
    while error is not None and not isinstance(error, Refusal):
        error = error.__cause__ or error.__context__
    return error


def error_text(error: BaseException) -> str:
    """An error of a run in another process, as text: the refusal's line, or the whole traceback."""
    if isinstance(error, Diverged):
        return str(error)
    return str(refusal_behind(error) or "".join(traceback.format_exception(error)))

"""Names and order of the modalities, and their combinations."""

from __future__ import annotations

from collections.abc import Iterable

MODALITIES = ("text", "audio", "vision")
LETTERS = "tav"
COMBINATIONS = ("t", "a", "v", "ta", "tv", "av", "tav")
COMPLETE = "tav"


def combination_present(name: str) -> tuple[bool, bool, bool]:
    """Which modalities belong to a combination: ``"tv"`` -> ``(True, False, True)``."""
    if name not in COMBINATIONS:
        raise ValueError(f"'{name}' is no combination of modalities; expected one of {', '.join(COMBINATIONS)}")
    text, audio, vision = (letter in name for letter in LETTERS)
    return text, audio, vision


def combination_name(present: Iterable[bool]) -> str:
    """The inverse of :func:`combination_present`; the empty string if no modality is present."""
    return "".join(letter for letter, is_present in zip(LETTERS, present, strict=True) if is_present)

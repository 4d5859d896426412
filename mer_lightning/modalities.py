"""Names and order of the modalities, and their combinations."""

from __future__ import annotations

from collections.abc import Collection, Iterable

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


def letters_of(modalities: Collection[str]) -> str:
    """``("text", "vision")`` -> ``"tv"``: also the name of the combination of all of them."""
    return combination_name(m in modalities for m in MODALITIES)


def combinations_of(modalities: Collection[str]) -> tuple[str, ...]:
    """All combinations of some modalities, the complete one last: seven of three, three of two, one of one."""
    letters = set(letters_of(modalities))
    return tuple(name for name in COMBINATIONS if set(name) <= letters)


def complete_among(names: Iterable[str]) -> str | None:
    """The combination among ``names`` that contains all others there; None if there is none."""
    combinations = [name for name in names if name in COMBINATIONS]
    every = set("".join(combinations))
    return next((name for name in combinations if set(name) == every), None)


def means_over(names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """{name of a mean: its combinations}: ``mean-7`` where ``names`` has every combination of three modalities,
    ``mean-3`` where it has every one of two and no third modality.
    """
    given = set(names) & set(COMBINATIONS)
    if (complete := complete_among(given)) is None:
        return {}
    every = tuple(name for name in COMBINATIONS if set(name) <= set(complete))
    return {f"mean-{len(every)}": every} if len(every) > 1 and given == set(every) else {}

"""Names and order of modalities and combinations."""

from __future__ import annotations

import itertools

import pytest

from mer_lightning.modalities import (
    COMBINATIONS,
    COMPLETE,
    LETTERS,
    MODALITIES,
    combination_name,
    combination_present,
    combinations_of,
    complete_among,
    letters_of,
    means_over,
)


def test_the_order_is_text_audio_vision():
    """Masks, tables and checkpoints depend on it."""
    assert MODALITIES == ("text", "audio", "vision")
    assert LETTERS == "tav"
    assert COMBINATIONS == ("t", "a", "v", "ta", "tv", "av", "tav")
    assert COMPLETE == "tav"


def test_combinations_are_all_non_empty_sets():
    assert len(COMBINATIONS) == 7
    everything = {combination_name(bits) for bits in itertools.product([False, True], repeat=3)}
    assert everything == {*COMBINATIONS, ""}


def test_present():
    assert combination_present("t") == (True, False, False)
    assert combination_present("tv") == (True, False, True)
    assert combination_present("av") == (False, True, True)
    assert combination_present("tav") == (True, True, True)


@pytest.mark.parametrize("name", COMBINATIONS)
def test_name_and_present_are_inverse(name):
    assert combination_name(combination_present(name)) == name


@pytest.mark.parametrize("name", ["", "at", "vt", "x", "text", "T", "tt"])
def test_other_spellings_are_refused(name):
    with pytest.raises(ValueError, match="t, a, v, ta, tv, av, tav"):
        combination_present(name)


def test_a_mask_of_another_width_is_refused():
    with pytest.raises(ValueError):
        combination_name([True, False])


def test_combinations_of_what_a_corpus_has() -> None:
    assert combinations_of(MODALITIES) == COMBINATIONS
    assert combinations_of(["vision", "text"]) == ("t", "v", "tv")
    assert combinations_of(["audio"]) == ("a",)
    assert letters_of(["vision", "audio"]) == "av"


def test_the_complete_combination_contains_all_others() -> None:
    assert complete_among(["t", "rate-cpm-0.1", "tv", "v"]) == "tv"
    assert complete_among(["t", "v"]) is None
    assert complete_among(["rmfm-0.1"]) is None


def test_means_are_over_all_combinations_of_what_was_shown() -> None:
    assert means_over([*COMBINATIONS, "rmfm-0.1"]) == {"mean-7": COMBINATIONS}
    assert means_over(["t", "a", "ta"]) == {"mean-3": ("t", "a", "ta")}
    for incomplete in (["t", "a"], ["t", "ta"], ["v"], COMBINATIONS[:-1], ["t", "a", "ta", "tav"], []):
        assert means_over(incomplete) == {}

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

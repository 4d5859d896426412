"""A condition is what its name says: every kind of name, and what is no name of a condition."""

from __future__ import annotations

import pytest
import torch

from mer_lightning.errors import Refusal
from mer_lightning.masks.conditions import (
    CombinationCondition,
    Condition,
    FrameCondition,
    ModalityRatesCondition,
    RateCondition,
    condition_named,
)
from mer_lightning.masks.training import RandomRate


@pytest.mark.parametrize(
    ("name", "condition"),
    [
        ("ta", CombinationCondition("ta")),
        ("tav", CombinationCondition("tav")),
        ("rate-cpm-0.5", RateCondition("cpm", 0.5)),
        ("rate-imder-0.7", RateCondition("imder", 0.7)),
        ("modality-rates-0.3-0.5-0.7", ModalityRatesCondition((0.3, 0.5, 0.7))),
        ("rmfm_same-0.2", FrameCondition("rmfm_same", 0.2)),
        ("stmfm-1.0", FrameCondition("stmfm", 1.0)),
    ],
)
def test_names(name: str, condition: Condition) -> None:
    found = condition_named(name)
    assert found == condition
    assert found.name == name


@pytest.mark.parametrize("name", ["at", "rate-0.5", "rate-cpm", "rate-cpm-0.5x", "modality-rates-0.3", "frames-0.3"])
def test_what_is_no_name_is_none(name: str) -> None:
    assert condition_named(name) is None


@pytest.mark.parametrize("name", ["rate-cpm-0.9", "rate-imder-0.25", "modality-rates-0.3-1.5-0.7", "tmfm-2.0"])
def test_a_rate_out_of_range_is_refused_by_the_name(name: str) -> None:
    with pytest.raises(Refusal) as refusal:
        condition_named(name)
    assert name in str(refusal.value)


def test_only_frames_need_another_encoding() -> None:
    whole = [condition_named(name) for name in ("ta", "rate-cpm-0.5", "modality-rates-0.3-0.5-0.7", "rmfm-0.0")]
    assert all(condition.masks_whole_modalities for condition in whole)
    frames = condition_named("rmfm-0.1")
    assert not frames.masks_whole_modalities
    assert frames.present(4, 0).all()


def test_modality_rates_are_in_the_order_text_audio_vision() -> None:
    absent = 1 - condition_named("modality-rates-0.0-0.5-0.9").present(4000, 0).double().mean(0)
    assert absent.tolist() == pytest.approx([0.0, 0.5, 0.9], abs=0.03)


# As the code of DiCMoR and IMDer has them: {rate: samples of 1000 that keep one, two and three modalities}.
IMDER = {
    0.1: (100, 100, 800),
    0.2: (200, 200, 600),
    0.3: (300, 300, 400),
    0.4: (500, 200, 300),
    0.5: (700, 100, 200),
    0.6: (900, 0, 100),
    0.7: (1000, 0, 0),
}


@pytest.mark.parametrize("rate", IMDER)
def test_imder_keeps_one_two_or_three_modalities_of_these_shares(rate: float) -> None:
    kept = RandomRate(rate, "imder").present(1000, 0, 0).sum(1)
    assert tuple(torch.bincount(kept, minlength=4)[1:].tolist()) == IMDER[rate]

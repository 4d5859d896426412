"""Masks over modalities: their laws, and that they depend on their keys only."""

from __future__ import annotations

from collections import Counter

import jsonargparse
import pytest
import torch
from torch import Tensor

from mer_lightning.errors import Refusal
from mer_lightning.masks import drawing
from mer_lightning.masks.drawing import cpm_mask, draw_combinations, imder_mask, per_modality_rates
from mer_lightning.masks.rates import IMDER_SHARES
from mer_lightning.masks.training import (
    CMAD_WEIGHTS,
    Complete,
    FrameMasks,
    ModalityDropout,
    RandomRate,
    TrainingMasks,
    UniformCombinations,
    WeightedCombinations,
    combination_number,
    left_by,
)
from mer_lightning.modalities import COMBINATIONS, combination_name, combination_present

MANY = 20_000

EVERY_KIND = [
    Complete(),
    ModalityDropout(0.9),
    UniformCombinations(),
    WeightedCombinations(),
    RandomRate(0.5, "cpm"),
    RandomRate(0.7, "cpm"),
    RandomRate(0.4, "imder"),
    FrameMasks("rmfm_same", 0.5),
]


def shares(mask: Tensor) -> dict[str, float]:
    """{combination: share of the rows}"""
    counts = Counter(combination_name(row) for row in mask.tolist())
    return {name: counts[name] / len(mask) for name in COMBINATIONS}


def sizes(mask: Tensor) -> list[float]:
    """Shares of rows with one, two and three modalities."""
    return [float((mask.sum(1) == size).double().mean()) for size in (1, 2, 3)]


def chi_square(mask: Tensor, law: dict[str, float]) -> float:
    """Of the seven counts against their law; 6 degrees of freedom, so above 22.5 once in a thousand seeds."""
    found = shares(mask)
    assert all(found[name] == 0 for name, p in law.items() if p == 0)
    return sum(len(mask) * (found[name] - p) ** 2 / p for name, p in law.items() if p > 0)


@pytest.mark.parametrize("masks", EVERY_KIND, ids=repr)
def test_no_row_is_ever_empty_and_draws_depend_on_seed_and_epoch_only(masks: TrainingMasks) -> None:
    drawn = masks.present(500, epoch=3, seed=7)
    assert drawn.dtype == torch.bool
    assert drawn.shape == (500, 3)
    assert drawn.any(1).all()
    torch.manual_seed(1)
    assert torch.equal(drawn, masks.present(500, epoch=3, seed=7))
    if not isinstance(masks, Complete):
        for epoch, seed in ((4, 7), (3, 8), (7, 3)):
            other = masks.present(500, epoch, seed)
            agreeing = (drawn == other).all(1).double().mean()
            assert agreeing < 0.6, "masks of another epoch or seed look the same"


@pytest.mark.parametrize("masks", [ModalityDropout(0.5), UniformCombinations(), WeightedCombinations()], ids=repr)
def test_a_sample_keeps_its_mask_whatever_the_size_of_the_split(masks: TrainingMasks) -> None:
    assert torch.equal(masks.present(1000, 0, 0)[:100], masks.present(100, 0, 0))


def test_modality_dropout_has_the_stated_law() -> None:
    p = 0.6
    law = {name: (p * (1 - p) ** 2 if len(name) == 2 else p**2 * (1 - p) + p**3 / 3) for name in COMBINATIONS}
    law["tav"] = (1 - p) ** 3
    assert sum(law.values()) == pytest.approx(1)
    assert chi_square(ModalityDropout(p).present(MANY, 0, 0), law) < 22.5


def test_dropout_at_the_ends_of_its_range() -> None:
    assert ModalityDropout(0.0).present(300, 0, 0).all()
    assert sizes(ModalityDropout(1.0).present(300, 0, 0)) == [1, 0, 0]
    assert ModalityDropout().rate == 0.3


def test_per_modality_rates_have_the_stated_law() -> None:
    t, a, v = rates = (0.3, 0.5, 0.7)
    rescued = t * a * v / 3
    law = {
        "t": (1 - t) * a * v + rescued,
        "a": t * (1 - a) * v + rescued,
        "v": t * a * (1 - v) + rescued,
        "ta": (1 - t) * (1 - a) * v,
        "tv": (1 - t) * a * (1 - v),
        "av": t * (1 - a) * (1 - v),
        "tav": (1 - t) * (1 - a) * (1 - v),
    }
    mask = per_modality_rates(rates, MANY, 0)
    assert chi_square(mask, law) < 22.5
    absent = 1 - mask.double().mean(0)
    assert absent.tolist() == pytest.approx([rate - rescued for rate in rates], abs=0.01)


def test_uniform_and_weighted_combinations_have_their_laws() -> None:
    uniform_law = dict.fromkeys(COMBINATIONS, 1 / 7)
    cmad_law = {"t": 2 / 14, "a": 3 / 14, "v": 3 / 14, "ta": 1 / 14, "tv": 1 / 14, "av": 3 / 14, "tav": 1 / 14}
    assert chi_square(UniformCombinations().present(MANY, 0, 0), uniform_law) < 22.5
    assert chi_square(WeightedCombinations().present(MANY, 0, 0), cmad_law) < 22.5
    assert chi_square(WeightedCombinations().present(MANY, 0, 0), uniform_law) > 1000


def test_a_weight_of_zero_is_never_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    named = WeightedCombinations({"a": 1, "tv": 3}).present(MANY, 0, 0)
    assert chi_square(named, dict.fromkeys(COMBINATIONS, 0.0) | {"a": 0.25, "tv": 0.75}) < 22.5
    assert torch.equal(named, draw_combinations([0, 1, 0, 0, 3, 0, 0], MANY, 0, 0))
    assert set(shares(WeightedCombinations([0, 0, 0, 0, 0, 0.1, 0]).present(MANY, 0, 0)).values()) == {0, 1}
    for least_or_most in (0.0, 1 - 2**-53):  # the ends of what a draw can be
        monkeypatch.setattr(
            drawing, "uniform", lambda *keys, draw=least_or_most: torch.full((9,), draw, dtype=torch.float64)
        )
        assert shares(draw_combinations([0, 0.1, 0, 0, 0, 0, 0], 9)) == dict.fromkeys(COMBINATIONS, 0) | {"a": 1}


CPM_TABLE = {  # specs/protocols.md 2.4, by simulation of the released code
    0.1: (0.03, 0.27, 0.71),
    0.2: (0.09, 0.43, 0.48),
    0.3: (0.21, 0.50, 0.30),
    0.4: (0.37, 0.48, 0.15),
    0.5: (0.57, 0.37, 0.06),
    0.6: (0.82, 0.17, 0.01),
    0.7: (1.00, 0.00, 0.00),
}


@pytest.mark.parametrize("rate", CPM_TABLE)
def test_cpm_gives_the_shares_of_the_released_code(rate: float) -> None:
    mask = cpm_mask(rate, MANY, 0)
    assert sizes(mask) == pytest.approx(CPM_TABLE[rate], abs=0.02)
    assert 1 - float(mask.double().mean()) == pytest.approx(min(rate, 2 / 3), abs=0.005)
    assert mask.double().mean(0).max() - mask.double().mean(0).min() < 0.02, "one modality is favoured"


@pytest.mark.parametrize("samples", [32, 40, 229])
@pytest.mark.parametrize("rate", [0.05, 0.1, 0.3, 0.5, 0.6])
def test_cpm_meets_its_rate_on_small_splits_too(rate: float, samples: int) -> None:
    for seed in range(5):
        missing = 1 - float(cpm_mask(rate, samples, seed).double().mean())
        assert abs(missing - rate) <= max(0.005, 0.5 / (3 * samples)) + 1e-9


def test_cpm_of_fewer_rows_than_the_smallest_matrix_is_its_beginning() -> None:
    assert torch.equal(cpm_mask(0.4, 5, 0), cpm_mask(0.4, 32, 0)[:5])
    assert cpm_mask(0.0, 5, 0).all()


@pytest.mark.parametrize("rate", IMDER_SHARES)
def test_imder_gives_exact_shares(rate: float) -> None:
    one, two = IMDER_SHARES[rate]
    mask = imder_mask(rate, 1000, 0)
    assert sizes(mask) == [one, two, pytest.approx(1 - one - two)]
    single, pair = mask[mask.sum(1) == 1].double(), mask[mask.sum(1) == 2].double()
    assert all(abs(single.mean(0) - 1 / 3) < 0.15)
    assert len(pair) == 0 or all(abs(pair.mean(0) - 2 / 3) < 0.15)


def test_imder_spreads_its_masks_over_the_whole_split() -> None:
    complete = imder_mask(0.3, 1000, 0).all(1)
    assert complete[:500].double().mean() == pytest.approx(0.4, abs=0.07)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ModalityDropout(1.1), ["ModalityDropout.rate", "1.1"]),
        (lambda: ModalityDropout(float("nan")), ["ModalityDropout.rate", "nan"]),
        (lambda: RandomRate(0.8), ["RandomRate.rate", "0.8", "0.7"]),
        (lambda: RandomRate(0.35, "imder"), ["RandomRate.rate", "imder", "0.35", "0.6"]),
        (lambda: WeightedCombinations([1.0] * 6), ["WeightedCombinations.weights", "6", "tav"]),
        (lambda: WeightedCombinations([0.0] * 7), ["WeightedCombinations.weights", "not all 0"]),
        (lambda: WeightedCombinations({"t": -1.0}), ["WeightedCombinations.weights", "-1.0"]),
        (lambda: WeightedCombinations({"at": 1.0}), ["WeightedCombinations.weights", "'at'", "ta"]),
        (lambda: FrameMasks("tmfm", 2.0), ["FrameMasks.rate", "2.0"]),
    ],
)
def test_what_is_out_of_range_is_refused_by_name(make, words: list[str]) -> None:
    with pytest.raises(Refusal) as refused:
        make()
    assert all(word in str(refused.value) for word in words), str(refused.value)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # `instantiate` is newer than the oldest version we allow
def test_masks_are_named_in_yaml() -> None:
    parser = jsonargparse.ArgumentParser()
    parser.add_argument("--masks", type=TrainingMasks)
    place = "mer_lightning.masks.training"
    weighted = {"class_path": f"{place}.WeightedCombinations", "init_args": {"weights": {"t": 1, "tav": 2}}}
    frames = {"class_path": f"{place}.FrameMasks", "init_args": {"kind": "stmfm", "rate": None}}
    made = [
        parser.instantiate_classes(parser.parse_object({"masks": given})).masks
        for given in (weighted, frames, {"class_path": f"{place}.ModalityDropout", "init_args": {"rate": 0.5}})
    ]
    assert made[0].weights == (1, 0, 0, 0, 0, 0, 2)
    assert (made[1].kind, made[1].rate) == ("stmfm", None)
    assert str(made[2]) == "ModalityDropout(rate=0.5)"
    assert sum(CMAD_WEIGHTS) == 14


def test_combinations_have_numbers_by_their_bits() -> None:
    present = torch.tensor([(False, False, False), *(combination_present(name) for name in COMBINATIONS)])
    assert combination_number(present).tolist() == [0, 1, 2, 4, 3, 5, 6, 7]
    assert combination_number(present.view(2, 4, 3)).tolist() == [[0, 1, 2, 4], [3, 5, 6, 7]]


def test_a_sample_whose_mask_keeps_none_of_its_modalities_keeps_them_all() -> None:
    mask = torch.tensor([[True, False, False], [False, True, True], [True, True, False], [True, True, True]])
    available = torch.tensor([[True, True, True], [True, False, False], [False, True, True], [False, False, False]])
    assert left_by(mask, available).int().tolist() == [[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 0]]


# --- a corpus with two modalities

TWO = ("text", "vision")
PAIR = {"t": 0.0, "v": 0.0, "tv": 0.0}


def shares_of_two(mask: Tensor) -> dict[str, float]:
    found = shares(mask)
    assert {name for name, share in found.items() if share} <= set(PAIR), "a modality that is not there is shown"
    return {name: found[name] for name in PAIR}


@pytest.mark.parametrize("masks", EVERY_KIND, ids=repr)
def test_two_modalities_keep_at_least_one_and_never_a_third(masks: TrainingMasks) -> None:
    if isinstance(masks, RandomRate) and masks.rate > 0.5:
        with pytest.raises(Refusal, match=r"a missing rate between 0 and 0\.5"):
            masks.present(500, 0, 0, TWO)
        return
    drawn = masks.present(500, 0, 0, TWO)
    assert drawn.any(1).all()
    shares_of_two(drawn)
    assert torch.equal(drawn, masks.present(500, 0, 0, TWO))


def test_laws_of_two_modalities() -> None:
    def law(masks: TrainingMasks) -> dict[str, float]:
        return shares_of_two(masks.present(MANY, 0, 0, TWO))

    near = {"abs": 0.015}
    assert law(UniformCombinations()) == pytest.approx(dict.fromkeys(PAIR, 1 / 3), **near)
    assert law(WeightedCombinations()) == pytest.approx({"t": 2 / 6, "v": 3 / 6, "tv": 1 / 6}, **near)
    p = 0.4  # both dropped: one of them stays, either with probability 1/2
    alone = p * (1 - p) + p**2 / 2
    assert law(ModalityDropout(p)) == pytest.approx({"t": alone, "v": alone, "tv": (1 - p) ** 2}, **near)
    for scheme in ("cpm", "imder"):
        for rate in (0.2, 0.5):  # a share of 2 MR keeps one modality
            expected = {"t": rate, "v": rate, "tv": 1 - 2 * rate}
            assert law(RandomRate(rate, scheme)) == pytest.approx(expected, **near)  # type: ignore[arg-type]


def test_weights_on_what_a_corpus_lacks_are_refused() -> None:
    with pytest.raises(Refusal, match="none on t, v, tv, which the corpus has"):
        WeightedCombinations({"a": 1, "tav": 2}).present(10, 0, 0, TWO)


def test_one_modality_is_always_there() -> None:
    for masks in (ModalityDropout(0.9), UniformCombinations(), Complete()):
        assert shares(masks.present(50, 0, 0, ("audio",)))["a"] == 1

"""Probes on shared codes, on private codes, on codes that only a network can tell, and on codes that have collapsed."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mer_lightning.evaluation.probes import Representation, effective_rank, label_r2, modality_accuracy, probe

NAMES = ("text", "audio", "vision")


def represented(codes: Tensor, target: Tensor) -> tuple[Representation, Representation]:
    """The first 300 samples to fit, the others to score; codes (N, 3, d)."""
    present = torch.ones(len(codes), dtype=torch.bool)

    def part(rows: slice) -> Representation:
        of = dict(zip(NAMES, codes[rows].unbind(1), strict=True))
        return Representation(of, dict.fromkeys(NAMES, present[rows]), target[rows])

    return part(slice(300)), part(slice(300, None))


@pytest.fixture(scope="module")
def drawn() -> tuple[Tensor, Tensor]:
    """(N, 3, 4) codes that hold the label (N, 1)."""
    draw = torch.Generator().manual_seed(0)
    target = torch.randn(400, 1, generator=draw)
    return target.unsqueeze(2) + torch.randn(400, 3, 4, generator=draw), target


def test_an_interrupted_network_is_not_scored(drawn: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its library would end the fit with a warning, and what was interrupted would go on with half a probe."""
    interruption = KeyboardInterrupt("Ctrl-C")

    def interrupt(*_: object) -> None:
        raise interruption

    monkeypatch.setattr("sklearn.neural_network.MLPClassifier._backprop", interrupt)
    with pytest.raises(KeyboardInterrupt) as found:
        modality_accuracy(*represented(*drawn), hidden=(8,))
    assert found.value is interruption


def test_the_modality_is_predicted_from_private_codes_only(drawn: tuple[Tensor, Tensor]) -> None:
    shared, target = drawn
    private = shared + torch.arange(3.0)[:, None] * 5
    assert modality_accuracy(*represented(shared, target)) == pytest.approx(1 / 3, abs=0.08)
    assert modality_accuracy(*represented(private, target)) > 0.95


def test_a_linear_probe_misses_what_a_network_sees(drawn: tuple[Tensor, Tensor]) -> None:
    """Each modality has mean 0, and deviation 1, 3 or 10: no linear model tells them apart."""
    codes = drawn[0] * torch.tensor([1.0, 3.0, 10.0])[:, None]
    found = probe(*represented(codes, drawn[1]))
    assert found["modality, linear"] < 0.45
    assert found["modality, MLP 64"] > 0.6
    assert found["modality, MLP 64-64"] > 0.6


def test_the_label_is_predicted_from_shared_codes(drawn: tuple[Tensor, Tensor]) -> None:
    assert label_r2(*represented(*drawn)) > 0.85


def test_a_collapse_has_no_label_and_no_spread(drawn: tuple[Tensor, Tensor]) -> None:
    found = probe(*represented(torch.ones(400, 3, 4), drawn[1]))
    assert found["modality, linear"] == pytest.approx(1 / 3)
    assert found["label R2"] < 0.05
    assert found["deviation"] == 0
    assert found["effective rank"] == pytest.approx(1)


def test_codes_of_absent_modalities_play_no_part(drawn: tuple[Tensor, Tensor]) -> None:
    """The audio of the first 200 samples is not there, and holds anything; a whole sample has every modality."""
    codes, target = drawn
    strange = codes.clone()
    strange[:200, 1] = math.nan
    train, test = represented(strange, target)
    train.present["audio"] = torch.arange(300) >= 200
    rows, numbers = train.labelled_with_modality()
    assert rows.shape == (700, 4)
    assert [int((numbers == m).sum()) for m in range(3)] == [300, 100, 300]
    assert train.whole()[0].shape == (100, 12)
    assert all(math.isfinite(value) for value in probe(train, test).values())


def test_of_what_differs_in_width_no_modality_is_asked(drawn: tuple[Tensor, Tensor]) -> None:
    train, test = represented(*drawn)
    for each in (train, test):
        each.codes["text"] = each.codes["text"][:, :2]
    assert list(probe(train, test)) == ["label R2", "deviation", "effective rank"]


def test_deviation_is_a_mean_over_modalities_and_dimensions() -> None:
    """Two samples of two modalities with two dimensions: the deviations are 1, 2, 3 and 0."""
    codes = {"text": torch.tensor([[0.0, 0], [2, 4]]), "audio": torch.tensor([[0.0, 5], [6, 5]])}
    each = Representation(codes, dict.fromkeys(codes, torch.tensor([True, True])), torch.zeros(2, 1))
    assert probe(each, each)["deviation"] == 1.5


@pytest.mark.parametrize(
    ("deviations", "rank"), [((1.0, 1.0, 1.0), 3.0), ((2.0, 0.0, 0.0), 1.0), ((1.0, 1.0, 0.0), 2.0)]
)
def test_effective_rank_counts_directions(deviations: tuple[float, ...], rank: float) -> None:
    codes = torch.cat([torch.eye(3), -torch.eye(3)]) * torch.tensor(deviations) + 7
    assert effective_rank(codes).item() == pytest.approx(rank)


def test_effective_rank_by_hand() -> None:
    """Singular values 3 and 1: shares 3/4 and 1/4."""
    codes = torch.tensor([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    expected = math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))
    assert effective_rank(codes).item() == pytest.approx(expected)

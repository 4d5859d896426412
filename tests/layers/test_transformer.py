"""The Transformer that several backbones share: positions, its layer by hand, and where dropout acts."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from mer_lightning.layers.dropout import Dropout
from mer_lightning.layers.transformer import SequenceEncoder, TransformerLayer, sinusoidal_positions


def test_positions_by_hand() -> None:
    """d = 5: three rates 1, 10000^(-1/3), 10000^(-2/3); three sines, then the first two cosines."""
    found = sinusoidal_positions(3, 5, torch.zeros((), dtype=torch.float64))
    rates = [10000 ** (-i / 3) for i in range(3)]
    expected = [[math.sin(t * rate) for rate in rates] + [math.cos(t * rate) for rate in rates[:2]] for t in range(3)]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=1e-6)


def test_a_layer_by_hand() -> None:
    torch.manual_seed(0)
    layer = TransformerLayer(8, 2, dropout=0.5).eval()
    tokens, key_mask = torch.randn(3, 5, 8), torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 0, 1, 0, 1]]).bool()
    normed = layer.norm_attention(tokens)
    between = tokens + layer.attention(normed, normed, key_mask)
    expected = between + layer.feed(layer.norm_feed(between))
    torch.testing.assert_close(layer(tokens, key_mask), expected)
    torch.testing.assert_close(layer(tokens, key_mask, first=2), expected[:, :2])


def test_an_encoder_without_layers_by_hand() -> None:
    """The summary, then the projected steps with their positions; what is padded is zero before its position."""
    torch.manual_seed(0)
    encoder = SequenceEncoder(4, 8, depth=0, heads=2, dropout=0.5).eval()
    features, key_mask = torch.randn(2, 3, 4), torch.tensor([[True, True, True], [True, False, False]])
    steps = encoder.project(features) * key_mask.unsqueeze(2) + sinusoidal_positions(3, 8, features)
    expected = torch.cat([encoder.summary.expand(2, 1, 8), steps], 1)
    torch.testing.assert_close(encoder(features, key_mask), encoder.norm(expected))


def test_the_first_tokens_are_those_of_all_layers() -> None:
    """Only the last layer may leave tokens out: those before it read all of them."""
    torch.manual_seed(0)
    encoder = SequenceEncoder(4, 8, depth=3, heads=2, dropout=0.0).eval()
    features, key_mask = torch.randn(2, 6, 4), torch.ones(2, 6, dtype=torch.bool)
    torch.testing.assert_close(encoder(features, key_mask, first=1), encoder(features, key_mask)[:, :1])


@pytest.mark.parametrize("rate", [0.0, 0.25, 0.5])
def test_tokens_are_dropped_in_training(rate: float) -> None:
    """Each number of each token is zero with the rate, or scaled up by 1 / (1 - rate)."""
    torch.manual_seed(0)
    encoder = SequenceEncoder(4, 64, depth=0, heads=2, dropout=rate)
    encoder.norm = nn.Identity()
    features, key_mask = torch.randn(20, 30, 4), torch.ones(20, 30, dtype=torch.bool)
    dropped, whole = encoder(features, key_mask), encoder.eval()(features, key_mask)
    kept = dropped != 0
    assert kept.float().mean().item() == pytest.approx(1 - rate, abs=0.01)
    torch.testing.assert_close(dropped[kept], whole[kept] / (1 - rate))


def test_a_layer_drops_what_it_adds() -> None:
    """Both sub-layers and the inside of the feed-forward one; what goes round them is left as it is."""
    torch.manual_seed(0)
    layer, tokens = TransformerLayer(8, 2, dropout=0.5), torch.randn(3, 5, 8)
    calls: list[int] = []
    for part in (layer.dropout, layer.feed[2]):
        assert isinstance(part, Dropout)
        part.register_forward_hook(lambda module, inputs, output: calls.append(1))
        part.rate = 1.0
    assert torch.equal(layer(tokens, torch.ones(3, 5, dtype=torch.bool)), tokens)
    assert len(calls) == 3

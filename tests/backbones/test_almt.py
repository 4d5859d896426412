"""ALMT: the released sizes, its parts against plain loops, padding, and what is left without a modality."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from mer_lightning.backbones.almt import ALMT, HyperLayer, TokenReader
from mer_lightning.backbones.presets import Preset
from mer_lightning.batch import Batch
from mer_lightning.contract import DIMS
from mer_lightning.contract import example_batch as make_batch
from mer_lightning.errors import Refusal
from mer_lightning.layers.attention import Attention
from mer_lightning.layers.cross_attention import CrossLayer
from mer_lightning.layers.transformer import sinusoidal_positions

SMALL: dict[str, Any] = {"width": 8, "tokens": 3, "heads": 2}
MOSI, MOSEI = {"text": 768, "audio": 5, "vision": 20}, {"text": 768, "audio": 74, "vision": 35}


@pytest.mark.parametrize("preset", ["mmsa", "official"])
@pytest.mark.parametrize(
    ("dims", "depth", "lengths", "expected"),
    [(MOSI, 2, (50, 375, 500), 2_603_649), (MOSEI, 4, (50, 500, 500), 3_223_041)],
    ids=["mosi", "mosei"],
)
def test_sizes_of_the_released_models(
    dims: dict[str, int], depth: int, lengths: tuple[int, ...], expected: int, preset: Preset
) -> None:
    """Without BERT. Ours alone are the tokens in place of an absent text."""
    head, absent_text = 128 + 1, 8 * 128
    ours = sum(p.numel() for p in ALMT(dims, depth=depth, steps=list(lengths), preset=preset).parameters())
    assert ours + head - absent_text == expected


def state(backbone: ALMT, batch: Batch) -> Tensor:
    with torch.no_grad():
        return backbone.fuse(backbone.encode(batch), batch.present)


@torch.no_grad()
def test_hyper_layer_equals_loops_over_samples_heads_and_tokens() -> None:
    torch.manual_seed(0)
    layer: Any = HyperLayer(8, 2, ["audio", "vision"])
    for parameter in layer.parameters():
        parameter.normal_()
    hyper, text = torch.randn(2, 3, 8), torch.randn(2, 3, 8)
    others = {"audio": torch.randn(2, 3, 8), "vision": torch.randn(2, 3, 8)}
    present = {"audio": [True, True], "vision": [True, False]}
    expected = torch.zeros(2, 3, 8)
    for b in range(2):
        queries = layer.norm_text(text[b]) @ layer.query.weight.T
        for m in others:
            keys, values = (layer.norms[m](others[m][b]) @ layer.key_value[m].weight.T).chunk(2, dim=1)
            for head in (slice(0, 4), slice(4, 8)):
                for t in range(3):
                    scores = torch.stack([queries[t, head] @ keys[s, head] / 4**0.5 for s in range(3)])
                    found = sum(share * values[s, head] for s, share in enumerate(scores.softmax(0)))
                    if present[m][b]:
                        expected[b, t, head] += found
    expected = layer.norm_hyper(hyper) + expected @ layer.out.weight.T + layer.out.bias
    given = {m: torch.tensor(each)[:, None, None] for m, each in present.items()}
    torch.testing.assert_close(layer(hyper, text, others, given), expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_reader_is_a_layer_over_tokens_and_valid_steps_of_which_the_tokens_are_kept() -> None:
    torch.manual_seed(0)
    layer = CrossLayer(8, Attention(8, 2, head_width=5, bias=False), 0.0, expansion=1)
    reader = TokenReader(4, 8, 3, layer).eval()
    features = torch.randn(1, 6, 4)
    steps = reader.project(features[:, :4]) + sinusoidal_positions(4, 8, features)
    together = torch.cat([reader.tokens.unsqueeze(0), steps], dim=1)
    expected = layer(together, together, torch.ones(1, 7, dtype=torch.bool))[:, :3]
    torch.testing.assert_close(reader(features, torch.arange(6).unsqueeze(0) < 4), expected)


@pytest.mark.parametrize("fault", [True, False])
@torch.no_grad()
def test_every_scale_of_language_adds_to_the_hyper_modality_and_the_last_one_attends_to_it(fault: bool) -> None:
    torch.manual_seed(0)
    backbone, batch = ALMT(DIMS, **SMALL, text_only_asks=fault).eval(), make_batch()
    encoded = backbone.encode(batch)
    everything = torch.ones(6, 8, dtype=torch.bool)
    scales = [encoded.sequences["text"] + backbone.places]
    for layer in backbone.language:
        scales.append(layer(scales[-1], scales[-1], everything[:, :3]))
    hyper = backbone.hyper.expand(6, -1, -1)
    others = {m: encoded.sequences[m] for m in ("audio", "vision")}
    for gather, text in zip(backbone.gather, scales, strict=True):
        hyper = gather(hyper, text, others, dict.fromkeys(others, torch.ones(6, 1, 1, dtype=torch.bool)))
    summary = backbone.summary.expand(6, 1, -1)
    text = torch.cat([summary, scales[-1]], dim=1) + backbone.places_of_text
    memory = torch.cat([summary, hyper], dim=1) + backbone.places_of_hyper
    for layer in backbone.fusion:
        text = (
            layer(text, memory, everything[:, :4]) if fault else layer(text, torch.cat([memory, text], 1), everything)
        )
    torch.testing.assert_close(state(backbone, batch), text[:, 0])


@pytest.mark.parametrize("fault", [True, False])
def test_padding_counts(fault: bool) -> None:
    torch.manual_seed(0)
    backbone, batch = ALMT(DIMS, **SMALL, padding_counts=fault).eval(), make_batch()
    longer = {m: torch.cat([f, torch.zeros(len(batch), 2, f.shape[2])], dim=1) for m, f in batch.features.items()}
    assert torch.allclose(state(backbone, batch), state(backbone, replace(batch, features=longer)), atol=1e-5) != fault


def test_without_text_the_state_still_depends_on_audio_and_vision() -> None:
    torch.manual_seed(0)
    backbone, batch = ALMT(DIMS, **SMALL).eval(), make_batch().limited_to(torch.tensor([False, True, True]))
    for m in ("audio", "vision"):
        other = batch.features | {m: torch.randn(batch.features[m].shape)}
        assert (state(backbone, batch) - state(backbone, replace(batch, features=other))).abs().amax(1).min() > 1e-3
    before = state(backbone, batch)
    with torch.no_grad():
        backbone.absent_text += torch.randn(3, 8)
    assert (before - state(backbone, batch)).abs().amax(1).min() > 1e-3  # the learned tokens are the queries


@pytest.mark.parametrize("fault", [True, False])
def test_text_that_is_only_a_query_gives_one_state_alone(fault: bool) -> None:
    torch.manual_seed(0)
    backbone, batch = ALMT(DIMS, **SMALL, text_only_asks=fault).eval(), make_batch()
    alone = state(backbone, batch.limited_to(torch.tensor([True, False, False])))
    assert torch.allclose(alone, alone[:1].expand(6, -1), atol=1e-6) == fault
    assert (state(backbone, batch) - alone).abs().amax(1).min() > 1e-3


@pytest.mark.parametrize("dims", [{"text": 3}, {"audio": 3, "vision": 2}])
def test_text_and_another_modality_are_needed(dims: dict[str, int]) -> None:
    with pytest.raises(Refusal, match="text and at least one other"):
        ALMT(dims)


def test_two_modalities_are_enough() -> None:
    backbone = ALMT({"text": 12, "vision": 7}, **SMALL).eval()
    assert state(backbone, make_batch()).isfinite().all()


def test_presets() -> None:
    assert not any(ALMT(DIMS, **SMALL).faults.values())
    for preset in ("mmsa", "official"):
        assert all(ALMT(DIMS, **SMALL, preset=preset).faults.values())

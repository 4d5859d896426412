"""BBFN: sizes, its layers and its loss against plain references, and what an absent modality leaves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from mer_lightning.backbones.bbfn import BBFN, GatedLayer, RecurrentCode
from mer_lightning.batch import Batch
from mer_lightning.contract import DIMS
from mer_lightning.contract import example_batch as make_batch
from mer_lightning.errors import Refusal
from mer_lightning.modalities import MODALITIES

SMALL: dict[str, Any] = {"width": 10, "depth": 2}
SOME = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 1, 1], [1, 1, 0], [1, 1, 1], [0, 0, 1]]).bool()


@pytest.mark.parametrize("dims", [{"text": 768, "audio": 5, "vision": 20}, {"text": 300, "audio": 74, "vision": 35}])
def test_size_is_that_of_the_released_layers(dims: dict[str, int]) -> None:
    """Apart from the steps in place of absent modalities, which are ours alone under every preset."""
    d, state = 40, 160
    attention, gates, feed, norms = 4 * (d * d + d), 2 * (2 * d * d + d), 8 * d * d + 5 * d, 2 * 2 * d
    mean_code, recurrent_code = d * d + d, 2 * 3 * (2 * d * d + 2 * d)
    discriminator = (4 * d * d + 4 * d) + (4 * d + 1)
    layers = 5 * (2 * (attention + gates + feed + norms) + discriminator) + 2 * (mean_code + 4 * recurrent_code)
    absent_steps, norms_of_memories = 3 * d, 2 * 5 * 2 * 2 * d
    released = 3 * d * sum(dims.values()) + 2 * layers + 2 * (state * state + state)
    fixed, official = (
        sum(p.numel() for p in BBFN(dims, preset=preset).parameters()) for preset in ("fixed", "official")
    )
    assert official == released + absent_steps
    assert fixed == official + norms_of_memories


def test_size_with_mosi_features() -> None:
    assert sum(p.numel() for p in BBFN({"text": 768, "audio": 5, "vision": 20}).parameters()) == 1_061_050


def state(backbone: BBFN, batch: Batch) -> Tensor:
    with torch.no_grad():
        return backbone.fuse(backbone.encode(batch), batch.present)


def small(**options: Any) -> BBFN:
    torch.manual_seed(0)
    return BBFN(DIMS, **SMALL, **options).eval()


@torch.no_grad()
def test_gates_decide_what_stays_and_what_comes_in() -> None:
    torch.manual_seed(0)
    layer = GatedLayer(10, 5, 0.0, 0.0).eval()
    query, memory, key_mask = torch.randn(2, 3, 10), torch.randn(2, 4, 10), torch.ones(2, 4, dtype=torch.bool)
    codes = torch.randn(2, 20)
    keep, take = (1 / (1 + torch.exp(-(codes @ gate.weight.T + gate.bias))) for gate in (layer.keep, layer.take))
    looked = layer.attention(layer.norm_query(query), layer.norm_memory(memory), key_mask)
    mixed = torch.stack([keep[b] * query[b] + take[b] * looked[b] for b in range(2)])
    expected = mixed + layer.feed(layer.norm_feed(mixed))
    torch.testing.assert_close(layer(query, memory, key_mask, codes), expected)
    layer.take.bias.fill_(-100.0)  # a closed gate: the other side has no effect
    torch.testing.assert_close(
        layer(query, memory, key_mask, codes), layer(query, torch.randn(2, 4, 10), key_mask, codes), rtol=0, atol=0
    )


@torch.no_grad()
def test_recurrent_code_equals_the_mean_of_a_packed_gru() -> None:
    torch.manual_seed(0)
    code: Any = RecurrentCode(6)
    reference = nn.GRU(6, 6, batch_first=True, bidirectional=True)
    backwards = {f"{name}_reverse": weight for name, weight in code.recurrence.backwards.state_dict().items()}
    reference.load_state_dict(code.recurrence.forwards.state_dict() | backwards)
    steps, lengths = torch.randn(4, 7, 6), torch.tensor([7, 1, 4, 6])
    packed, _ = reference(pack_padded_sequence(steps, lengths, batch_first=True, enforce_sorted=False))
    outputs, _ = pad_packed_sequence(packed, batch_first=True)
    expected = torch.stack([out[:n].mean(0).view(2, 6).mean(0) for out, n in zip(outputs, lengths, strict=True)])
    torch.testing.assert_close(code(steps, torch.arange(7) < lengths[:, None]), expected)


@torch.no_grad()
def test_both_sides_of_a_pair_move_at_once() -> None:
    backbone = small()
    pair: Any = backbone.pairs["audio"]
    text, audio = torch.randn(2, 3, 10), torch.randn(2, 5, 10)
    key_masks = [torch.ones(2, 3, dtype=torch.bool), torch.arange(5) < torch.tensor([[5], [2]])]
    (last_text, last_audio), codes = pair([text, audio], key_masks)
    for number in range(2):
        code = [pair.codes[number][side](each, key_masks[side]) for side, each in enumerate((text, audio))]
        control = torch.cat(code, dim=1)
        torch.testing.assert_close(codes[number], code)
        new_text = pair.looks[number][0](text, audio, key_masks[1], control)
        new_audio = pair.looks[number][1](audio, text, key_masks[0], control)
        text, audio = new_text, new_audio
    torch.testing.assert_close([last_text, last_audio], [text[:, :1], audio[:, :1]])


def test_pairs_do_not_mix_audio_and_vision() -> None:
    """Before the residual network, what the audio pair gives cannot depend on vision."""
    backbone = small()
    for parameter in backbone.residual.parameters():
        nn.init.zeros_(parameter)
    batch = make_batch()
    changed = replace(batch, features=batch.features | {"vision": torch.randn_like(batch.features["vision"])})
    first, second = state(backbone, batch), state(backbone, changed)
    assert torch.equal(first[:, :20], second[:, :20])
    assert not torch.equal(first[:, 20:], second[:, 20:])


@pytest.mark.parametrize("modality", ["audio", "vision"])
def test_without_text_all_of_the_other_modality_is_read(modality: str) -> None:
    """Its own first step would only know what the convolution sees: the learned step in place of text looks at all."""
    backbone, batch = small(), make_batch().limited_to(torch.tensor([False, True, True]))
    long = batch.lengths[modality] > 4
    assert long.sum() > 1
    later = batch.features[modality].clone()
    steps = torch.arange(later.shape[1])
    later[(steps > 3) & (steps < batch.lengths[modality][:, None])] += 2
    changed = state(backbone, replace(batch, features=batch.features | {modality: later}))
    assert (changed - state(backbone, batch)).abs().amax(1)[long].min() > 1e-3


def test_one_learned_step_stands_for_an_absent_text_however_long_it_was() -> None:
    backbone, batch = small(), make_batch().limited_to(torch.tensor([False, True, True]))
    before = state(backbone, batch)
    for length in (0, 1, 6):
        other = batch.lengths | {"text": torch.full_like(batch.lengths["text"], length)}
        assert torch.equal(state(backbone, replace(batch, lengths=other)), before)
    with torch.no_grad():
        backbone.absent["text"] += torch.randn(10)
    assert (state(backbone, batch) - before).abs().amax(1).min() > 1e-3


def losses_of(backbone: BBFN, batch: Batch) -> dict[str, tuple[Tensor, float]]:
    encoded = backbone.encode(batch)
    return backbone.auxiliary_losses(encoded, batch)


@torch.no_grad()
def test_separation_is_the_mean_over_the_codes_of_what_is_present() -> None:
    backbone, batch = small(), replace(make_batch(), present=SOME)
    pairs = backbone._pairs(backbone.encode(batch), SOME)
    terms = []
    for m, (_, codes) in pairs.items():
        pair: Any = backbone.pairs[m]
        for number, layer in enumerate(codes):
            for name, is_text, side in (("text", 1.0, layer[0]), (m, 0.0, layer[1])):
                for b in range(6):
                    if SOME[b, MODALITIES.index(name)]:
                        probability = torch.sigmoid(pair.tell[number](side[b]))[0]
                        terms.append(F.binary_cross_entropy(probability, torch.tensor(is_text)))
    assert len(terms) == 2 * (4 + 4) + 2 * (
        4 + 5
    )  # layers times the text and audio, then the text and vision, there are
    value, weight = losses_of(backbone, batch)["separation"]
    torch.testing.assert_close(value, torch.stack(terms).mean())
    assert weight == 0.1


@torch.no_grad()
def test_a_training_step_runs_each_pair_once() -> None:
    backbone, batch = small(), replace(make_batch(), present=SOME)
    calls: list[int] = []
    for pair in backbone.pairs.values():
        pair.register_forward_hook(lambda *_: calls.append(1))
    encoded = backbone.encode(batch)
    state, losses = backbone.fuse_with_losses(encoded, batch)
    assert len(calls) == 2
    assert torch.equal(state, backbone.fuse(encoded, SOME))
    assert torch.equal(losses["separation"][0], losses_of(backbone, batch)["separation"][0])
    all_there = replace(batch, present=torch.ones(6, 3).bool())
    assert not torch.equal(losses_of(backbone, all_there)["separation"][0], losses["separation"][0])


@pytest.mark.parametrize("present", [SOME, torch.zeros(6, 3).bool()], ids=["some", "none"])
def test_what_is_absent_cannot_change_the_loss(present: Tensor) -> None:
    backbone, batch = small(), replace(make_batch(), present=present)
    spoilt = {
        m: values.where(present[:, number, None, None], float("nan"))
        for number, (m, values) in enumerate(batch.features.items())
    }
    value, _ = losses_of(backbone, batch)["separation"]
    assert torch.equal(value, losses_of(backbone, replace(batch, features=spoilt))["separation"][0])
    assert bool(value > 0) == bool(present.any())


def test_separation_teaches_discriminators_and_codes_alike() -> None:
    backbone = small(separation_weight=3.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value, weight = losses_of(backbone, make_batch())["separation"]
    assert (value.dtype, weight) == (torch.float32, 3.0)
    value.backward()
    for pair in backbone.pairs.values():
        for part in (pair.tell, pair.codes):
            assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in part.parameters())
    optimizer, values = torch.optim.Adam(backbone.parameters(), 1e-2), []
    for _ in range(30):
        value, _ = losses_of(backbone, make_batch())["separation"]
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < 0.1 * values[0]


@pytest.mark.parametrize("dims", [{"text": 3}, {"audio": 3, "vision": 2}])
def test_text_and_another_modality_are_needed(dims: dict[str, int]) -> None:
    with pytest.raises(Refusal, match="text and at least one other"):
        BBFN(dims)


def test_two_modalities_are_one_pair() -> None:
    backbone = BBFN({"text": 12, "vision": 7}, **SMALL).eval()
    assert state(backbone, make_batch()).shape == (6, 20)

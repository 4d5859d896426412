"""ALMT, BBFN and TAILOR: sizes, what makes them what they are, and what an absent text leaves."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mer_lightning.backbones.almt import ALMT
from mer_lightning.backbones.base import Backbone
from mer_lightning.backbones.bbfn import BBFN
from mer_lightning.backbones.tailor import TAILOR
from mer_lightning.backbones.tfn import TFN
from tests.conftest import DIMS, make_batch

MOSI = {"text": 768, "audio": 5, "vision": 20}


def small(cls: type[Backbone]) -> Backbone:
    torch.manual_seed(0)
    options = {
        ALMT: {"width": 16, "tokens": 3, "heads": 2},
        BBFN: {"width": 10, "heads": 5},
        TAILOR: {"width": 16, "heads": 2, "depth": [1, 1, 1], "cross_layers": 1},
    }
    return cls(DIMS, **options[cls])


@pytest.mark.parametrize(("cls", "expected"), [(ALMT, 1_434_368), (BBFN, 331_363), (TAILOR, 10_367_029)])
def test_size_with_mosi_features(cls: type[Backbone], expected: int) -> None:
    assert sum(p.numel() for p in cls(MOSI).parameters()) == expected


def test_padding_is_read_only_by_the_faulty_almt() -> None:
    batch = make_batch()
    padded = batch.features | {"audio": batch.features["audio"].clone()}
    padded["audio"][~batch.valid_steps("audio")] = 7.0
    strange = replace(batch, features=padded)
    for preset, same in (("fixed", True), ("mmsa", False)):
        torch.manual_seed(0)
        backbone = ALMT(DIMS, width=16, tokens=3, heads=2, preset=preset).eval()
        states = [backbone.fuse(backbone.encode(each), each.present) for each in (batch, strange)]
        assert torch.equal(*states) is same


def test_almt_adds_nothing_of_an_absent_modality_to_the_hyper_modality() -> None:
    """Without audio and vision the hyper-modality is its learned start, whatever they held."""
    backbone = small(ALMT).eval()
    batch = make_batch().limited_to(torch.tensor([True, False, False]))
    encoded = backbone.encode(batch)
    scales = backbone._scales(encoded, batch.present)
    text = torch.cat([backbone.summary.expand(len(batch), 1, -1), scales[-1]], 1)
    hyper = backbone.hyper.expand(len(batch), -1, -1)
    for layer in backbone.layers:
        text = layer(text, hyper, torch.ones(hyper.shape[:2], dtype=torch.bool))
    torch.testing.assert_close(backbone.fuse(encoded, batch.present), backbone.norm(text[:, 0]))


def test_bbfn_pairs_do_not_mix_audio_and_vision() -> None:
    """Before the residual network, what the audio pair says cannot depend on vision."""
    backbone = small(BBFN).eval()
    for parameter in backbone.residual.parameters():
        torch.nn.init.zeros_(parameter)
    batch = make_batch()
    changed = replace(batch, features=batch.features | {"vision": torch.randn_like(batch.features["vision"])})
    states = [backbone.fuse(backbone.encode(each), each.present) for each in (batch, changed)]
    assert torch.equal(states[0][:, :20], states[1][:, :20])
    assert not torch.equal(states[0][:, 20:], states[1][:, 20:])


def test_bbfn_without_a_partner_stays_by_itself() -> None:
    backbone = small(BBFN).eval()
    batch = make_batch().limited_to(torch.tensor([False, True, False]))
    encoded = backbone.encode(batch)
    state = backbone.fuse(encoded, batch.present)
    alone = encoded.sequences["audio"].sum(1) / batch.lengths["audio"].unsqueeze(1)
    for parameter in backbone.residual.parameters():
        torch.nn.init.zeros_(parameter)
    torch.testing.assert_close(backbone.fuse(encoded, batch.present)[:, 10:20], alone)
    assert state.isfinite().all()


@pytest.mark.parametrize("cls", [BBFN, TAILOR])
def test_auxiliary_losses_see_present_modalities_only(cls: type[Backbone]) -> None:
    backbone = small(cls).eval()
    batch = make_batch()
    present = batch.present.clone()
    present[:3, 1] = False
    batch = replace(batch, present=present)
    strange = batch.features | {"audio": batch.features["audio"].clone()}
    strange["audio"][:3] = float("nan")
    losses = []
    for each in (batch, replace(batch, features=strange)):
        encoded = backbone.encode(each)
        losses.append(backbone.auxiliary_losses(encoded, backbone.fuse(encoded, each.present), each))
    for name, (value, weight) in losses[0].items():
        assert torch.equal(value, losses[1][name][0])
        assert value.isfinite()
        assert value > 0
        assert weight > 0


def test_tailor_teaches_common_features_not_to_tell() -> None:
    """The discriminator learns from both; the common layer feels the gradient turned round."""
    backbone, batch = small(TAILOR).train(), make_batch()
    for module in backbone.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    encoded = backbone.encode(batch)
    value, _ = backbone.auxiliary_losses(encoded, backbone.queries, batch)["adversarial"]
    before = float(value)
    value.backward()
    with torch.no_grad():  # along the common layer's gradient, telling gets easier: the loss must rise against it
        for parameter in backbone.common.parameters():
            parameter -= 0.05 * parameter.grad
    after = float(backbone.auxiliary_losses(backbone.encode(batch), backbone.queries, batch)["adversarial"][0])
    assert after > before


def test_tfn_under_many_masks_is_tfn_under_each() -> None:
    torch.manual_seed(0)
    backbone = TFN(DIMS, [8, 6, 5], text_width=4, width=7).eval()
    batch = make_batch()
    encoded = backbone.encode(batch)
    masks = torch.rand(9, len(batch), 3, generator=torch.Generator().manual_seed(0)) > 0.4
    many = backbone.fuse_many(encoded, masks)
    each = torch.stack([backbone.fuse(encoded, mask) for mask in masks])
    torch.testing.assert_close(many, each, rtol=1e-5, atol=1e-6)

"""TFN, LMF, LF-DNN, EF-LSTM: sizes of MMSA's models, equal outputs with its weights, each fault with its cure."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from mer_lightning.backbones.base import Backbone
from mer_lightning.backbones.ef_lstm import EFLSTM
from mer_lightning.backbones.lf_dnn import LFDNN
from mer_lightning.backbones.lf_lstm import LFLSTM
from mer_lightning.backbones.lmf import LMF
from mer_lightning.backbones.tfn import TFN
from mer_lightning.batch import Batch
from mer_lightning.contract import example_batch as make_batch
from mer_lightning.layers.pooling import last_step
from tests.backbones.mmsa_peer import mmsa_class

MOSI = {"text": 768, "audio": 5, "vision": 20}
MOSEI = {"text": 768, "audio": 74, "vision": 35}
SMALL = {"text": 12, "audio": 5, "vision": 7}
STEPS = 6


def size(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


@pytest.mark.parametrize(
    ("backbone", "expected"),
    [
        (TFN(MOSI, preset="mmsa"), 9_497_043),
        (TFN(MOSEI, [128, 16, 128], text_width=128, width=16, preset="mmsa"), 5_042_539),
        (LFDNN(MOSI, preset="mmsa"), 597_171),
        (LFDNN(MOSEI, [128, 32, 128], text_width=128, preset="mmsa"), 572_283),
        (EFLSTM(MOSI, preset="mmsa"), 885_605),
        (EFLSTM(MOSEI, width=256, depth=2, dropout=0.4, preset="mmsa"), 1_754_725),
    ],
    ids=["tfn-mosi", "tfn-mosei", "lf_dnn-mosi", "lf_dnn-mosei", "ef_lstm-mosi", "ef_lstm-mosei"],
)
def test_sizes_of_mmsa(backbone: Backbone, expected: int) -> None:
    assert size(backbone, nn.Linear(backbone.state_width, 1)) == expected


@pytest.mark.parametrize(("dims", "rank", "expected"), [(MOSI, 3, 505_071), (MOSEI, 4, 508_475)])
def test_size_of_lmf(dims: dict[str, int], rank: int, expected: int) -> None:
    """MMSA's LMF ends in the low-rank sum itself: width 1 and no head."""
    assert size(LMF(dims, rank=rank, width=1, preset="mmsa")) == expected


# --- parity: MMSA's weights in our modules


def peer(module: str, name: str, **sizes: Any) -> nn.Module:
    torch.manual_seed(1)
    options = {"feature_dims": list(SMALL.values()), "train_mode": "regression", "num_classes": 3, **sizes}
    made = mmsa_class(f"models.singleTask.{module}", name)(SimpleNamespace(**options))
    for part in made.modules():
        if isinstance(part, nn.BatchNorm1d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
    return made.eval()


def copy_subnetworks(theirs: Any, ours: Any) -> None:
    for modality, name in (("audio", "audio_subnet"), ("vision", "video_subnet")):
        source, target = getattr(theirs, name), ours.networks[modality]
        target.norm.load_state_dict(source.norm.state_dict())
        for layer, number in zip((0, 2, 4), (1, 2, 3), strict=True):
            target.layers[layer].load_state_dict(getattr(source, f"linear_{number}").state_dict())
    ours.networks["text"].lstm.load_state_dict(theirs.text_subnet.rnn.state_dict())
    ours.networks["text"].linear.load_state_dict(theirs.text_subnet.linear_1.state_dict())


def their_input(batch: Batch) -> list[torch.Tensor]:
    """As MMSA's loader hands it over for these models: text as a sequence, audio and vision as means."""
    return [batch.features["text"], *(batch.features[m].mean(1, keepdim=True) for m in ("audio", "vision"))]


def our_state(backbone: Backbone, batch: Batch) -> torch.Tensor:
    return backbone.fuse(backbone.encode(batch), batch.present)


@torch.no_grad()
def test_tfn_equals_mmsa() -> None:
    theirs: Any = peer("TFN", "TFN", hidden_dims=[8, 4, 6], text_out=3, post_fusion_dim=5, dropouts=[0.1] * 4)
    ours = TFN(SMALL, [8, 4, 6], text_width=3, width=5, preset="mmsa").eval()
    copy_subnetworks(theirs, ours.subnetworks)
    # Their product runs over audio, vision, text; ours over text, audio, vision.
    weight = theirs.post_fusion_layer_1.weight.view(5, 5, 7, 4).permute(0, 3, 1, 2).flatten(1)
    ours.fusion[1].load_state_dict({"weight": weight, "bias": theirs.post_fusion_layer_1.bias})
    ours.fusion[3].load_state_dict(theirs.post_fusion_layer_2.state_dict())
    batch = make_batch("aligned")
    head = torch.sigmoid(theirs.post_fusion_layer_3(our_state(ours, batch))) * 6 - 3
    torch.testing.assert_close(head, theirs(*their_input(batch))["M"], rtol=0, atol=1e-5)


@torch.no_grad()
def test_lmf_equals_mmsa() -> None:
    theirs: Any = peer("LMF", "LMF", hidden_dims=[8, 4, 6], rank=3, dropouts=[0.1] * 4)
    theirs.fusion_bias.fill_(0.3)
    ours = LMF(SMALL, [8, 4, 6], rank=3, width=1, preset="mmsa").eval()
    copy_subnetworks(theirs, ours.subnetworks)
    for modality, name in (("text", "text"), ("audio", "audio"), ("vision", "video")):
        ours.factors[modality].copy_(getattr(theirs, f"{name}_factor"))
    ours.rank_weights.copy_(theirs.fusion_weights)
    ours.bias.copy_(theirs.fusion_bias)
    batch = make_batch("aligned")
    torch.testing.assert_close(our_state(ours, batch), theirs(*their_input(batch))["M"], rtol=0, atol=1e-5)


@torch.no_grad()
def test_lf_dnn_equals_mmsa() -> None:
    theirs: Any = peer("LF_DNN", "LF_DNN", hidden_dims=[8, 4, 6], text_out=3, post_fusion_dim=5, dropouts=[0.1] * 4)
    ours = LFDNN(SMALL, [8, 4, 6], text_width=3, width=5, preset="mmsa").eval()
    copy_subnetworks(theirs, ours.subnetworks)
    audio, vision, text = theirs.post_fusion_layer_1.weight.split([4, 6, 3], dim=1)
    weight = torch.cat([text, audio, vision], dim=1)
    ours.fusion[1].load_state_dict({"weight": weight, "bias": theirs.post_fusion_layer_1.bias})
    ours.fusion[3].load_state_dict(theirs.post_fusion_layer_2.state_dict())
    batch = make_batch("aligned")
    result = theirs.post_fusion_layer_3(our_state(ours, batch))
    torch.testing.assert_close(result, theirs(*their_input(batch))["M"], rtol=0, atol=1e-5)


@torch.no_grad()
def test_ef_lstm_equals_mmsa() -> None:
    theirs: Any = peer("EF_LSTM", "EF_LSTM", hidden_dims=8, num_layers=2, dropout=0.1, seq_lens=STEPS)
    ours = EFLSTM(SMALL, width=8, depth=2, steps=STEPS, preset="mmsa").eval()
    ours.norm.load_state_dict(theirs.norm.state_dict())
    ours.lstm.load_state_dict(theirs.lstm.state_dict())
    ours.fusion[1].load_state_dict(theirs.linear.state_dict())
    batch = make_batch("aligned")
    result = theirs.out(our_state(ours, batch))
    torch.testing.assert_close(result, theirs(*batch.features.values())["M"], rtol=0, atol=1e-5)


# --- faults and their cures


def more_padding(batch: Batch) -> Batch:
    longer = {m: torch.cat([f, torch.zeros(len(batch), 3, f.shape[2])], dim=1) for m, f in batch.features.items()}
    return Batch(longer, batch.lengths, batch.present, None, batch.index)


@pytest.mark.parametrize("cls", [TFN, LMF, LFDNN, EFLSTM], ids=lambda cls: cls.__name__)
@torch.no_grad()
def test_padding_counts_is_a_fault_that_fixed_does_not_have(cls: Any) -> None:
    batch = make_batch("aligned")
    for preset, changes in (("mmsa", True), ("fixed", False)):
        torch.manual_seed(0)
        options = {"norm_over_time": False} if cls is EFLSTM else {}
        backbone = cls(SMALL, preset=preset, **options).eval()
        difference = (our_state(backbone, batch) - our_state(backbone, more_padding(batch))).abs().max()
        assert (difference > 1e-4) == changes
    assert not cls(SMALL, preset="mmsa", padding_counts=False, **options).faults["padding_counts"]


def test_frozen_ranks_never_train() -> None:
    for preset, trains in (("mmsa", False), ("fixed", True)):
        backbone = LMF(SMALL, preset=preset)
        our_state(backbone, make_batch()).sum().backward()
        assert (backbone.rank_weights.grad is not None) == trains
        assert (backbone.bias.grad is not None) == trains


@torch.no_grad()
def test_norm_over_time_needs_one_length_and_mixes_steps() -> None:
    batch = make_batch("aligned")
    faulty = EFLSTM(SMALL, steps=STEPS, preset="mmsa").eval()
    faulty.norm.running_mean.copy_(torch.arange(STEPS).float())
    shifted = Batch(
        {m: f.roll(1, 1) for m, f in batch.features.items()}, batch.lengths, batch.present, None, batch.index
    )
    assert not torch.allclose(faulty.norm(torch.ones(1, STEPS, 3))[0, 0], faulty.norm(torch.ones(1, STEPS, 3))[0, 1])
    cured = EFLSTM(SMALL).eval()
    assert torch.allclose(cured.norm(torch.arange(24.0).expand(1, 2, 24))[0, 0], cured.norm(torch.arange(24.0)))
    assert our_state(cured, shifted).isfinite().all()


# --- slow references


@torch.no_grad()
def test_tensor_product_equals_its_loops() -> None:
    torch.manual_seed(0)
    backbone, batch = TFN(SMALL, [8, 4, 6], text_width=3, width=5).eval(), make_batch()
    encoded = backbone.encode(batch)
    for row in range(len(batch)):
        parts = [[1.0, *encoded.vectors[m][row].tolist()] for m in SMALL]
        product = [t * a * v for t in parts[0] for a in parts[1] for v in parts[2]]
        expected = backbone.fusion(torch.tensor(product)[None])[0]
        torch.testing.assert_close(backbone.fuse(encoded, batch.present)[row], expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_low_rank_fusion_equals_the_tensor_that_it_stands_for() -> None:
    torch.manual_seed(0)
    backbone, batch = LMF(SMALL, [8, 4, 6], rank=2, width=3).eval(), make_batch()
    encoded = backbone.encode(batch)
    full = torch.einsum("r,rtd,rad,rvd->tavd", backbone.rank_weights[0], *(backbone.factors[m] for m in SMALL))
    t, a, v = (torch.cat([torch.ones(len(batch), 1), encoded.vectors[m]], dim=1) for m in SMALL)
    expected = torch.einsum("bt,ba,bv,tavd->bd", t, a, v, full) + backbone.bias
    torch.testing.assert_close(backbone.fuse(encoded, batch.present), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_last_step_equals_running_each_sample_alone() -> None:
    torch.manual_seed(0)
    backbone, batch = LFLSTM(SMALL, width=4).eval(), make_batch()
    vectors = backbone.encode(batch).vectors
    for m, lstm in backbone.lstms.items():
        for row, steps in enumerate(batch.lengths[m].tolist()):
            final = lstm(batch.features[m][row : row + 1, :steps], torch.tensor([steps]))[0, -1]
            torch.testing.assert_close(vectors[m][row], final)
    assert last_step(torch.arange(6.0).view(1, 3, 2), torch.tensor([2])).tolist() == [[2.0, 3.0]]

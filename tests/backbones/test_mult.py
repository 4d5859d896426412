"""MulT: sizes of the released models, MMSA's outputs with MMSA's weights, and each fault with its cure."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mer_lightning.backbones.mult import _FAULTS, MulT, Stack, released_positions
from mer_lightning.batch import Batch
from mer_lightning.contract import DIMS
from mer_lightning.contract import example_batch as make_batch
from mer_lightning.errors import Refusal
from mer_lightning.layers.pooling import last_step
from mer_lightning.layers.transformer import sinusoidal_positions
from mer_lightning.modalities import MODALITIES
from tests.backbones.mmsa_peer import mmsa_class

BERT = {"text": 768}
GLOVE = {"text": 300}
MOSI, MOSEI = {"audio": 5, "vision": 20}, {"audio": 74, "vision": 35}


@pytest.mark.parametrize(
    ("backbone", "outputs", "expected"),
    [
        (MulT(BERT | MOSI, 50, 4, 10, [5, 5, 5], preset="mmsa"), 1, 2_571_551),
        (MulT(BERT | MOSEI, 30, 4, 6, [5, 1, 3], preset="mmsa"), 1, 982_951),
        (MulT(GLOVE | MOSI, preset="official"), 1, 1_071_211),
        (MulT(GLOVE | MOSEI, preset="official"), 1, 1_073_731),
        (MulT(GLOVE | MOSEI, preset="official"), 8, 1_074_998),
    ],
    ids=["mmsa-mosi", "mmsa-mosei", "official-mosi", "official-mosei", "official-iemocap"],
)
def test_sizes_of_the_released_models(backbone: MulT, outputs: int, expected: int) -> None:
    modules = (backbone, nn.Linear(backbone.state_width, outputs))
    assert sum(p.numel() for module in modules for p in module.parameters()) == expected


def copy_stack(theirs: Any, ours: Stack) -> None:
    ours.norm.load_state_dict(theirs.layer_norm.state_dict())
    for source, target in zip(theirs.layers, ours.layers, strict=True):
        attention: Any = target.attention
        query, key_value = source.self_attn.in_proj_weight, source.self_attn.in_proj_bias
        width = query.shape[1]
        attention.query.load_state_dict({"weight": query[:width], "bias": key_value[:width]})
        attention.key_value.load_state_dict({"weight": query[width:], "bias": key_value[width:]})
        attention.out.load_state_dict(source.self_attn.out_proj.state_dict())
        target.norm_attention.load_state_dict(source.layer_norms[0].state_dict())
        target.norm_feed.load_state_dict(source.layer_norms[1].state_dict())
        target.feed[0].load_state_dict(source.fc1.state_dict())
        target.feed[3].load_state_dict(source.fc2.state_dict())


@pytest.mark.parametrize("positions", [False, True], ids=["as used", "with positions"])
@pytest.mark.parametrize("width", [8, 12], ids=["projected", "text as it is"])
@pytest.mark.parametrize("alignment", ["aligned", "unaligned"])
@torch.no_grad()
def test_equals_mmsa(alignment: str, width: int, positions: bool) -> None:
    rates = ("attn_dropout", "attn_dropout_a", "attn_dropout_v", "relu_dropout", "embed_dropout", "res_dropout")
    options = dict.fromkeys((*rates, "output_dropout", "text_dropout"), 0.1)
    options |= {
        "use_bert": False,
        "dst_feature_dim_nheads": [width, 2],
        "feature_dims": list(DIMS.values()),
        "nlevels": 2,
    }
    options |= {"attn_mask": True, "train_mode": "regression", "num_classes": 3}
    options |= {"conv1d_kernel_size_l": 3, "conv1d_kernel_size_a": 1, "conv1d_kernel_size_v": 2}
    torch.manual_seed(1)
    theirs: Any = mmsa_class("models.singleTask.MULT", "MULT")(SimpleNamespace(**options)).eval()
    ours: Any = MulT(DIMS, width, 2, 2, [3, 1, 2], preset="mmsa", no_positions=not positions).eval()
    if positions:
        made = mmsa_class("models.subNets.transformers_encoder.position_embedding", "SinusoidalPositionalEmbedding")
        for part in theirs.modules():
            if hasattr(part, "embed_positions"):
                part.embed_positions = made(part.embed_dim)
    letters = {"text": "l", "audio": "a", "vision": "v"}
    for m, letter in letters.items():
        if isinstance(ours.project[m], nn.Conv1d):
            ours.project[m].load_state_dict(getattr(theirs, f"proj_{letter}").state_dict())
        copy_stack(getattr(theirs, f"trans_{letter}_mem"), ours.memories[m])
        for n in MODALITIES:
            if n != m:
                copy_stack(getattr(theirs, f"trans_{letter}_with_{letters[n]}"), ours.streams[f"{m}_{n}"])
    ours.residual[0].load_state_dict(theirs.proj1.state_dict())
    ours.residual[3].load_state_dict(theirs.proj2.state_dict())
    batch = make_batch(alignment)
    predictions = theirs.out_layer(ours.fuse(ours.encode(batch), batch.present))
    torch.testing.assert_close(predictions, theirs(*batch.features.values())["M"], rtol=0, atol=1e-5)


def stack(**faults: bool) -> Stack:
    torch.manual_seed(0)
    return Stack(8, 2, 2, 0.0, 0.0, dict.fromkeys(_FAULTS, False) | faults).eval()


def state(backbone: MulT, batch: Batch) -> Tensor:
    with torch.no_grad():
        return backbone.fuse(backbone.encode(batch), batch.present)


@pytest.mark.parametrize("fault", [True, False])
@torch.no_grad()
def test_without_positions_the_order_of_a_source_means_nothing(fault: bool) -> None:
    target, source, key_mask = torch.randn(1, 3, 8), torch.randn(1, 4, 8), torch.ones(1, 4, dtype=torch.bool)
    layers = stack(no_positions=fault)
    forwards, backwards = layers(target, source, key_mask), layers(target, source.flip(1), key_mask)
    assert torch.allclose(forwards, backwards, atol=1e-5) == fault


@pytest.mark.parametrize("from_one", [True, False])
@pytest.mark.parametrize("fault", [True, False])
@torch.no_grad()
def test_a_true_zero_loses_its_position(fault: bool, from_one: bool) -> None:
    sequence = torch.randn(1, 3, 8)
    sequence[0, 1, 0] = 0
    added = stack(zero_is_padding=fault, positions_from_one=from_one)._embed(sequence) - sequence * 8**0.5
    expected = (released_positions if from_one else sinusoidal_positions)(3, 8, sequence).clone()
    if fault:
        expected[1] = 0
    torch.testing.assert_close(added[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fault", [True, False])
def test_padding_counts(fault: bool) -> None:
    torch.manual_seed(0)
    backbone, batch = MulT(DIMS, 8, 1, 2, padding_counts=fault).eval(), make_batch()
    longer = {m: torch.cat([f, torch.zeros(len(batch), 2, f.shape[2])], dim=1) for m, f in batch.features.items()}
    assert torch.allclose(state(backbone, batch), state(backbone, replace(batch, features=longer)), atol=1e-5) != fault


@pytest.mark.parametrize("fault", [True, False])
@torch.no_grad()
def test_future_mask_hides_later_steps(fault: bool) -> None:
    layers, key_mask = stack(future_mask=fault), torch.ones(1, 4, dtype=torch.bool)
    target, source = torch.randn(1, 4, 8), torch.randn(1, 4, 8)
    later = source.clone()
    later[0, 3] = torch.randn(8)  # not a shift, which the norm would take out
    first = [layers(target, each, key_mask)[0, 0] for each in (source, later)]
    assert torch.allclose(*first, atol=1e-6) == fault


@pytest.mark.parametrize("fault", [True, False])
def test_the_last_step_alone_is_that_of_all_steps(fault: bool) -> None:
    """Values and gradients, for lengths that differ; a sample without any step gives its first one."""
    layers, sequence = stack(future_mask=fault), torch.randn(4, 5, 8)
    lengths = torch.tensor([5, 3, 1, 0])
    key_mask = torch.arange(5) < lengths[:, None]
    tokens, keys = layers._embed(sequence), layers._keys(sequence, key_mask)
    for layer in layers.layers:
        tokens = layer(tokens, None, keys)
    expected, found = last_step(layers.norm(tokens), lengths), layers.last(sequence, key_mask)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    weights = torch.randn(4, 8)
    for one, all_steps in zip(
        *(torch.autograd.grad((last * weights).sum(), layers.parameters()) for last in (found, expected)), strict=True
    ):
        torch.testing.assert_close(one, all_steps, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("fault", "steps"), [(True, 4), (False, 6)])
def test_shrinking_convolution_cuts_the_ends(fault: bool, steps: int) -> None:
    backbone = MulT(DIMS, 8, 1, 2, [3, 3, 3], shrinking_convolution=fault)
    assert backbone.encode(make_batch("aligned")).sequences["text"].shape[1] == steps


def test_streams_are_computed_once_for_all_masks() -> None:
    backbone, batch = MulT(DIMS, 8, 1, 2).eval(), make_batch()
    calls: list[int] = []
    for layers in backbone.streams.values():
        layers.register_forward_pre_hook(lambda _, args: calls.append(len(args[0])))
    backbone.fuse_many(backbone.encode(batch), torch.ones(7, 6, 3, dtype=torch.bool))
    assert calls == [6] * 6


def test_one_modality_is_refused_by_name() -> None:
    with pytest.raises(Refusal, match="mult: expected modalities that attend to each other; found only text"):
        MulT({"text": 3})

"""early, late_transformer, bottleneck, and TFN under many masks: sizes, and equality with slow references."""

from __future__ import annotations

import pytest
import torch

from mer_lightning.backbones.base import Backbone
from mer_lightning.backbones.bottleneck import Bottleneck
from mer_lightning.backbones.early import Early
from mer_lightning.backbones.late_transformer import LateTransformer
from mer_lightning.backbones.tfn import TFN
from mer_lightning.contract import DIMS
from mer_lightning.contract import example_batch as make_batch
from mer_lightning.modalities import COMBINATIONS, MODALITIES, combination_present

MOSI = {"text": 768, "audio": 5, "vision": 20}


@pytest.mark.parametrize(
    ("cls", "parameters"), [(Early, 63_296), (LateTransformer, 364_096), (Bottleneck, 501_760)], ids=lambda v: str(v)
)
def test_size_on_mosi(cls: type[Backbone], parameters: int) -> None:
    assert sum(p.numel() for p in cls(MOSI).parameters()) == parameters


def test_early_pools_the_valid_steps() -> None:
    torch.manual_seed(0)
    backbone, batch = Early(DIMS, width=4).eval(), make_batch()
    vectors = backbone.encode(batch).vectors
    for m in MODALITIES:
        for row, steps in enumerate(batch.lengths[m].tolist()):
            mean = batch.features[m][row, :steps].mean(0)
            torch.testing.assert_close(vectors[m][row], backbone.encoders[m](mean))


def test_late_transformer_reads_the_summary_of_whole_layers() -> None:
    """Its last layer computes the summary alone, and says what it would have result beside all steps."""
    torch.manual_seed(0)
    backbone, batch = LateTransformer(DIMS, width=8, depth=2).eval(), make_batch()
    vectors = backbone.encode(batch).vectors
    for m, encoder in backbone.encoders.items():
        whole = encoder(batch.features[m], batch.key_mask(m))
        assert whole.shape[1] == 1 + batch.features[m].shape[1]
        torch.testing.assert_close(vectors[m], whole[:, 0], rtol=1e-4, atol=1e-5)


def test_late_transformer_puts_a_learned_vector_for_an_absent_modality() -> None:
    torch.manual_seed(0)
    backbone, batch = LateTransformer(DIMS, width=8, depth=1).eval(), make_batch()
    with torch.no_grad():
        backbone.absent["audio"].normal_()
    encoded = backbone.encode(batch)
    parts = [encoded.vectors["text"], backbone.absent["audio"].expand(6, -1), encoded.vectors["vision"]]
    seen = backbone.fuse(encoded, torch.tensor([True, False, True]).expand(6, -1))
    torch.testing.assert_close(seen, backbone.fusion(torch.cat(parts, dim=1)))


@pytest.mark.parametrize("combination", COMBINATIONS)
def test_bottleneck_equals_a_loop_over_samples_and_present_modalities(combination: str) -> None:
    torch.manual_seed(0)
    backbone, batch = Bottleneck(DIMS, width=8, fusion_depth=3).eval(), make_batch()
    encoded = backbone.encode(batch)
    given = [m for m, on in zip(MODALITIES, combination_present(combination), strict=True) if on]
    for row in range(len(batch)):
        shared = backbone.bottleneck[None]
        tokens = {}
        for m in given:
            steps = int(batch.lengths[m][row])
            tokens[m] = torch.cat([encoded.vectors[m][row, None], encoded.sequences[m][row, :steps]])[None]
        for layer in backbone.layers:
            proposals = []
            for m in given:
                both = torch.cat([tokens[m], shared], dim=1)
                mixed = layer[m](both, torch.ones(both.shape[:2], dtype=torch.bool))
                tokens[m], proposal = mixed[:, : tokens[m].shape[1]], mixed[:, tokens[m].shape[1] :]
                proposals.append(proposal)
            shared = torch.stack(proposals).mean(0)
        expected = backbone.norm(torch.stack([tokens[m][:, 0] for m in given]).mean(0))[0]
        seen = backbone.fuse(encoded, torch.tensor(combination_present(combination)).expand(6, -1))[row]
        torch.testing.assert_close(seen, expected, rtol=1e-4, atol=1e-5)


def test_bottleneck_computes_its_first_talk_once_for_all_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, batch = Bottleneck(DIMS, width=8, fusion_depth=2).eval(), make_batch()
    encoded, rows = backbone.encode(batch), []
    for number, layer in enumerate(backbone.layers):
        layer["text"].register_forward_pre_hook(lambda _, args, number=number: rows.append((number, len(args[0]))))
    backbone.fuse_many(encoded, torch.ones(7, 6, 3, dtype=torch.bool))
    assert rows == [(0, 6), (1, 42)]


def test_tfn_under_many_masks_is_tfn_under_each() -> None:
    torch.manual_seed(0)
    backbone = TFN(DIMS, [8, 6, 5], text_width=4, width=7).eval()
    batch = make_batch()
    encoded = backbone.encode(batch)
    masks = torch.rand(9, len(batch), 3, generator=torch.Generator().manual_seed(0)) > 0.4
    many = backbone.fuse_many(encoded, masks)
    each = torch.stack([backbone.fuse(encoded, mask) for mask in masks])
    torch.testing.assert_close(many, each, rtol=1e-5, atol=1e-6)

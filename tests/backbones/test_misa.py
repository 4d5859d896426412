"""MISA: MMSA's sizes and outputs, its losses against plain loops, and each fault with its cure."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from mer_lightning.backbones.misa import MISA
from mer_lightning.batch import Batch
from mer_lightning.contract import DIMS
from mer_lightning.contract import example_batch as make_batch
from mer_lightning.layers.both_ways import BothWays
from tests.backbones.mmsa_peer import mmsa_class

SMALL: dict[str, Any] = {"width": 8, "feed": 16}
MOSI = {"text": 768, "audio": 5, "vision": 20}
MOSEI = {"text": 768, "audio": 74, "vision": 35}
# What MMSA counts beside what is here: the layers between state and output, of which our head is one; a discriminator
# whose output enters no loss; and the norm of recurrences over text that are not there.
MMSA_ALONE = {
    "fusion.fusion_layer_1": nn.Linear(768, 384),
    "fusion.fusion_layer_3": nn.Linear(384, 1),
    "sp_discriminator": nn.Linear(128, 4),
    "tlayer_norm": nn.LayerNorm(2 * 768),
}


@pytest.mark.parametrize(("dims", "expected"), [(MOSI, 1_138_033), (MOSEI, 1_435_105)], ids=["mosi", "mosei"])
def test_sizes_of_mmsa(dims: dict[str, int], expected: int) -> None:
    modules = (MISA(dims, preset="mmsa"), *MMSA_ALONE.values())
    assert sum(p.numel() for module in modules for p in module.parameters()) == expected


def state(backbone: MISA, batch: Batch) -> Tensor:
    with torch.no_grad():
        return backbone.fuse(backbone.encode(batch), batch.present)


def with_long_enough_streams(batch: Batch) -> Batch:
    """MMSA packs audio and vision with the lengths of text: no text may be longer than they are padded."""
    wide = torch.Generator().manual_seed(7)
    text = torch.randn(len(batch), 6, 768, generator=wide) * batch.key_mask("text").unsqueeze(2)
    return replace(batch, features=batch.features | {"text": text})


def mmsa_misa(words: Tensor, monkeypatch: pytest.MonkeyPatch, dims: list[int]) -> Any:
    """MMSA's model, its pretrained text encoder replaced by one that has already encoded ``words``."""
    released = mmsa_class("models.singleTask.MISA", "MISA")

    class Said(nn.Module):
        def __init__(self, **_: Any) -> None:
            super().__init__()

        def forward(self, text: Tensor) -> Tensor:
            return words

    monkeypatch.setattr(sys.modules[released.__module__], "BertTextEncoder", Said)
    options: dict[str, Any] = {"use_bert": True, "use_finetune": False, "transformers": "bert", "pretrained": ""}
    options |= {"feature_dims": dims, "train_mode": "regression", "dropout": 0.1, "rnncell": "lstm"}
    torch.manual_seed(1)
    return released(SimpleNamespace(**options, use_cmd_sim=True, hidden_size=8)).eval()


def copy_both_ways(theirs: Any, ours: BothWays) -> None:
    weights = theirs.state_dict()
    ours.forwards.load_state_dict({k: w for k, w in weights.items() if not k.endswith("_reverse")})
    ours.backwards.load_state_dict(
        {k.removesuffix("_reverse"): w for k, w in weights.items() if k.endswith("_reverse")}
    )


@torch.no_grad()
def test_equals_mmsa(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = with_long_enough_streams(make_batch())
    theirs = mmsa_misa(batch.features["text"], monkeypatch, [768, DIMS["audio"], DIMS["vision"]])
    ours: Any = MISA(DIMS | {"text": 768}, width=8, preset="mmsa").eval()
    for m, letter in (("text", "t"), ("audio", "a"), ("vision", "v")):
        for name, number in (("project", 0), ("project", 2), ("private", 0)):
            source = getattr(theirs, f"{name}_{letter}")[number]
            getattr(ours, name)[m][number].load_state_dict(source.state_dict())
        ours.reconstruct[m].load_state_dict(getattr(theirs, f"recon_{letter}")[0].state_dict())
        if m != "text":
            copy_both_ways(getattr(theirs, f"{letter}rnn1"), ours.recurrences[m].first)
            copy_both_ways(getattr(theirs, f"{letter}rnn2"), ours.recurrences[m].second)
            ours.recurrences[m].norm.load_state_dict(getattr(theirs, f"{letter}layer_norm").state_dict())
    ours.shared[0].load_state_dict(theirs.shared[0].state_dict())
    ours.fusion.load_state_dict(theirs.transformer_encoder.layers[0].state_dict())

    tokens = torch.zeros(6, 3, 6)  # ids, mask and segments; of these MMSA itself reads the mask alone
    tokens[:, 1] = batch.key_mask("text").float()
    expected = theirs(tokens, batch.features["audio"], batch.features["vision"])["M"]
    codes = state(ours, batch).unflatten(1, (6, 8))[:, [0, 2, 1, 3, 5, 4]]  # MMSA: text, vision, audio
    torch.testing.assert_close(theirs.fusion(codes.flatten(1)), expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_both_ways_equals_a_packed_bidirectional_lstm() -> None:
    torch.manual_seed(0)
    reference, ours = nn.LSTM(5, 3, batch_first=True, bidirectional=True), BothWays(5, 3)
    copy_both_ways(reference, ours)
    features, lengths = torch.randn(4, 7, 5), torch.tensor([7, 1, 4, 6])
    packed, (final, _) = reference(pack_padded_sequence(features, lengths, batch_first=True, enforce_sorted=False))
    expected, _ = pad_packed_sequence(packed, batch_first=True)
    steps, lasts = ours(features, lengths)
    key_mask = torch.arange(7) < lengths[:, None]
    torch.testing.assert_close(steps[key_mask], expected[key_mask])
    torch.testing.assert_close(torch.stack(lasts), final)


@pytest.mark.parametrize("fault", [True, False])
def test_text_lengths_cut_off_what_the_face_shows_after_the_last_word(fault: bool) -> None:
    torch.manual_seed(0)
    backbone, batch = MISA(DIMS, **SMALL, text_lengths=fault).eval(), make_batch()
    later = batch.features["vision"].clone()
    beyond = batch.key_mask("vision") & (torch.arange(later.shape[1]) >= batch.lengths["text"][:, None])
    assert beyond.any(1).sum() > 1
    later[beyond] += 5
    shown = replace(batch, features=batch.features | {"vision": later})
    difference = (state(backbone, batch) - state(backbone, shown)).abs().amax(1)
    assert bool((difference[beyond.any(1)] > 1e-3).all()) != fault
    assert difference.max() == 0 or not fault


def test_text_longer_than_a_stream_reads_all_of_it() -> None:
    torch.manual_seed(0)
    faulty, batch = MISA(DIMS, **SMALL, text_lengths=True).eval(), make_batch("aligned")
    full = {m: torch.full_like(n, 6) for m, n in batch.lengths.items()}
    short = {"audio": batch.features["audio"][:, :2], "vision": batch.features["vision"][:, :2]}
    result = state(faulty, replace(batch, features=batch.features | short, lengths=full))
    cured = MISA(DIMS, **SMALL).eval()
    cured.load_state_dict(faulty.state_dict())
    own = full | dict.fromkeys(short, torch.full_like(batch.index, 2))
    torch.testing.assert_close(result, state(cured, replace(batch, features=batch.features | short, lengths=own)))


@torch.no_grad()
def test_absent_codes_are_no_keys_and_leave_zeros() -> None:
    backbone, batch = MISA(DIMS, **SMALL).eval(), make_batch()
    encoded = backbone.encode(batch)
    result = backbone.fuse(encoded, torch.tensor([True, False, True]).expand(6, 3)).unflatten(1, (6, 8))
    assert not result[:, [1, 4]].any()
    codes = [encoded.sequences[m][:, 0] for m in ("text", "vision")] + [encoded.vectors[m] for m in ("text", "vision")]
    torch.testing.assert_close(result[:, [0, 2, 3, 5]], backbone.fusion(torch.stack(codes, dim=1)))


def test_text_may_be_read_with_recurrences() -> None:
    backbone, batch = MISA(DIMS, **SMALL, recurrent_text=True).eval(), make_batch()
    backwards = batch.features | {"text": batch.features["text"].flip(1)}
    whole = torch.full_like(batch.lengths["text"], 6)
    first = replace(batch, lengths=batch.lengths | {"text": whole})
    assert not torch.allclose(state(backbone, first), state(backbone, replace(first, features=backwards)), atol=1e-3)
    plain = MISA(DIMS, **SMALL).eval()  # a mean does not know the order
    torch.testing.assert_close(state(plain, first), state(plain, replace(first, features=backwards)))


def reference_losses(backbone: MISA, batch: Batch) -> dict[str, Tensor]:
    """MISA's three losses from the rows that have what is compared, one pair and one moment at a time."""
    encoded = backbone.encode(batch)
    given = dict(zip(DIMS, batch.present.unbind(1), strict=True))
    shared = {m: v.to(torch.float64) for m, v in encoded.vectors.items()}
    private = {m: s[:, 0].to(torch.float64) for m, s in encoded.sequences.items()}

    def both(codes: tuple[Tensor, Tensor], rows: Tensor) -> list[Tensor]:
        return [each[rows] - each[rows].mean(0) for each in codes]

    sim, diff, recon = torch.zeros(3, dtype=torch.float64)
    for m, n in (("text", "audio"), ("text", "vision"), ("audio", "vision")):
        rows = given[m] & given[n]
        if rows.sum() > 1:
            sim += (shared[m][rows].mean(0) - shared[n][rows].mean(0)).norm() / 3
            x, y = both((shared[m], shared[n]), rows)
            for k in (2, 3, 4, 5):
                sim += (x.pow(k).mean(0) - y.pow(k).mean(0)).norm() / 3
    terms = [(private[m], shared[m], given[m]) for m in DIMS]
    terms += [
        (private[m], private[n], given[m] & given[n])
        for m, n in (("text", "audio"), ("text", "vision"), ("audio", "vision"))
    ]
    for first, second, rows in terms:
        if rows.any():
            x, y = (each / (each.norm(dim=1, keepdim=True) + 1e-6) for each in both((first, second), rows))
            diff += (x.T @ y).square().mean()
    for m in DIMS:
        if given[m].any():
            result = backbone.reconstruct[m]((encoded.sequences[m][:, 0] + encoded.vectors[m])[given[m]])
            recon += (result - encoded.sequences[m][given[m], 1]).square().mean() / 3
    return {"sim": sim, "diff": diff, "recon": recon}


def losses_of(backbone: MISA, batch: Batch) -> dict[str, tuple[Tensor, float]]:
    encoded = backbone.encode(batch)
    return backbone.auxiliary_losses(encoded, batch)


SOME = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 1, 1], [1, 1, 0], [1, 1, 1], [0, 0, 1]]).bool()
ONE_EACH = torch.eye(3).bool().repeat(2, 1)
ONE_WHOLE = torch.eye(6, 3).bool() | (torch.arange(6) == 5)[:, None]  # one sample has any two, too few for a moment


@pytest.mark.parametrize("present", [torch.ones(6, 3).bool(), SOME, ONE_EACH, ONE_WHOLE])
@torch.no_grad()
def test_losses_are_those_of_the_rows_that_have_what_is_compared(present: Tensor) -> None:
    torch.manual_seed(0)
    backbone, batch = MISA(DIMS, **SMALL).eval(), replace(make_batch(), present=present)
    expected = reference_losses(backbone, batch)
    for name, (value, _) in losses_of(backbone, batch).items():
        torch.testing.assert_close(value.double(), expected.pop(name), rtol=1e-4, atol=1e-5)
    assert not expected


@pytest.mark.parametrize("present", [SOME, torch.zeros(6, 3).bool()], ids=["some", "none"])
@torch.no_grad()
def test_what_is_absent_cannot_change_the_losses(present: Tensor) -> None:
    torch.manual_seed(0)
    backbone, batch = MISA(DIMS, **SMALL).eval(), replace(make_batch(), present=present)
    features = {}
    for number, (m, values) in enumerate(batch.features.items()):
        features[m] = values.where(present[:, number, None, None], float("nan"))
    spoilt = losses_of(backbone, replace(batch, features=features))
    for name, (value, _) in losses_of(backbone, batch).items():
        assert value.isfinite()
        assert torch.equal(spoilt[name][0], value)
        assert present.any() or value.abs() < 1e-4


@pytest.mark.parametrize("samples", [1, 2])
def test_gradients_of_tiny_batches_are_finite(samples: int) -> None:
    backbone = MISA(DIMS, **SMALL)
    losses = losses_of(backbone, make_batch(samples=samples))
    torch.stack([value for value, _ in losses.values()]).sum().backward()
    assert all(p.grad.isfinite().all() for p in backbone.parameters() if p.grad is not None)


def test_weights_are_options_and_losses_stay_in_float32() -> None:
    backbone = MISA(DIMS, **SMALL, sim_weight=2.0, diff_weight=3.0, recon_weight=4.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = losses_of(backbone, make_batch())
    assert {name: weight for name, (_, weight) in losses.items()} == {"sim": 2.0, "diff": 3.0, "recon": 4.0}
    assert {value.dtype for value, _ in losses.values()} == {torch.float32}
    alone = MISA({"text": DIMS["text"]}, **SMALL)
    assert set(losses_of(alone, make_batch())) == {"diff", "recon"}  # one modality is like no other


@pytest.mark.parametrize("fault", [True, False])
def test_moving_target(fault: bool) -> None:
    torch.manual_seed(0)
    backbone, batch = MISA(DIMS, **SMALL, moving_target=fault), make_batch()
    encoded = backbone.encode(batch)
    others = encoded.sequences["text"]
    others.retain_grad()
    backbone.auxiliary_losses(encoded, batch)["recon"][0].backward()
    assert others.grad is not None
    assert others.grad[:, 0].any()  # the private code
    assert bool(others.grad[:, 1].any()) == fault  # the projected vector


def test_presets() -> None:
    assert MISA(DIMS, **SMALL).faults == {"text_lengths": False, "moving_target": False}
    assert MISA(DIMS, **SMALL, preset="mmsa").faults == {"text_lengths": True, "moving_target": True}
    assert MISA(DIMS, **SMALL, preset="official").faults == {"text_lengths": False, "moving_target": True}

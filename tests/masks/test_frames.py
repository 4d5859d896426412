"""Removing frames: each kind's law, and that only its keys decide a frame's fate."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mer_lightning.batch import Batch
from mer_lightning.errors import Refusal
from mer_lightning.masks.frames import mask_frames, training_rates
from mer_lightning.masks.rates import ALIGNED_KINDS, FRAME_KINDS, FrameKind
from mer_lightning.masks.training import FrameMasks
from mer_lightning.modalities import MODALITIES

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def ones(lengths: dict[str, list[int]], padding: float = 0.0) -> Batch:
    """A batch whose valid frames are all ones and whose padding is ``padding``."""
    samples = len(next(iter(lengths.values())))
    steps = {m: torch.tensor(each) for m, each in lengths.items()}
    key_masks = {m: torch.arange(max(int(each.max()), 1)) < each.unsqueeze(1) for m, each in steps.items()}
    features = {m: here.float().where(here, padding).unsqueeze(2).repeat(1, 1, 2) for m, here in key_masks.items()}
    return Batch(features, steps, torch.ones(samples, 3, dtype=torch.bool), None, torch.arange(samples))


def aligned(lengths: list[int], padding: float = 0.0) -> Batch:
    return ones(dict.fromkeys(MODALITIES, lengths), padding)


def removed(batch: Batch, masked: Batch) -> dict[str, Tensor]:
    """{modality: (B, T_m)}: where ones became zeros; a frame falls with all its features or not at all."""
    fallen = {m: (values == 0) & (batch.features[m] == 1) for m, values in masked.features.items()}
    assert all(torch.equal(each[..., 0], each[..., 1]) for each in fallen.values())
    return {m: each[..., 0] for m, each in fallen.items()}


def some(batch: Batch, rows: list[int], trimmed: bool = True) -> Batch:
    """A few samples of ``batch`` in a given order, as a loader would gather them."""
    chosen = torch.tensor(rows)
    lengths = {m: each[chosen] for m, each in batch.lengths.items()}
    steps = {m: max(int(each.max()), 1) if trimmed else batch.features[m].shape[1] for m, each in lengths.items()}
    features = {m: values[chosen][:, : steps[m]] for m, values in batch.features.items()}
    return Batch(features, lengths, batch.present[chosen], None, batch.index[chosen])


@pytest.mark.parametrize("kind", FRAME_KINDS)
def test_only_valid_frames_fall_and_all_else_stays(kind: FrameKind) -> None:
    batch = aligned([9, 4, 1, 0, 7], padding=5.0)
    masked = mask_frames(batch, kind, 1.0, 0)
    for m in MODALITIES:
        key_mask = batch.key_mask(m)
        assert (masked.features[m][~key_mask] == 5).all(), "padding was touched"
        if kind != "stmfm":
            assert (masked.features[m][key_mask] == 0).all()
        assert torch.equal(masked.lengths[m], batch.lengths[m])
        assert (batch.features[m][key_mask] == 1).all(), "the given batch was changed"
    assert torch.equal(masked.present, batch.present)
    untouched = mask_frames(batch, kind, 0.0, 0)
    assert all(torch.equal(untouched.features[m], batch.features[m]) for m in MODALITIES)


@pytest.mark.parametrize("kind", FRAME_KINDS)
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_share_of_fallen_frames_is_the_rate(kind: FrameKind, rate: float) -> None:
    batch = aligned([42] * 500)
    for fallen in removed(batch, mask_frames(batch, kind, rate, 0)).values():
        share = float(fallen.double().mean())
        assert share == pytest.approx(rate * 40 / 42 if kind == "stmfm" else rate, abs=0.012)


@pytest.mark.parametrize("kind", FRAME_KINDS)
@pytest.mark.parametrize("device", DEVICES)
def test_a_frame_falls_whatever_the_batch_the_order_the_padding_and_the_device(kind: FrameKind, device: str) -> None:
    lengths = [12, 3, 7, 7, 1, 9]
    unaligned = {"text": lengths, "audio": [5] * 6, "vision": lengths[::-1]}
    batch = aligned(lengths) if kind in ALIGNED_KINDS else ones(unaligned)
    whole = removed(batch, mask_frames(batch, kind, 0.5, 3, 4))
    for rows in ([0, 1, 2], [5, 4, 3], [2], [4, 0]):
        for trimmed in (True, False):
            part = some(batch, rows, trimmed)
            again = removed(part, mask_frames(part.to(device), kind, 0.5, 3, 4).to("cpu"))
            for m, fallen in again.items():
                assert torch.equal(fallen, whole[m][rows][:, : fallen.shape[1]])


@pytest.mark.parametrize("kind", FRAME_KINDS)
def test_other_keys_draw_other_frames(kind: FrameKind) -> None:
    batch = aligned([30] * 50)
    first, *others = (removed(batch, mask_frames(batch, kind, 0.5, *keys))["text"] for keys in ((0, 0), (0, 1), (1, 0)))
    assert all((first != other).double().mean() > 0.2 for other in others)


def test_rmfm_lnln_removes_the_same_frames_of_audio_and_vision_and_others_of_text() -> None:
    batch = aligned([40] * 500)
    text, audio, vision = removed(batch, mask_frames(batch, "rmfm_lnln", 0.5, 0)).values()
    assert torch.equal(audio, vision)
    assert float((text & audio).double().mean()) == pytest.approx(0.25, abs=0.01)
    shorter = ones({"text": [40] * 500, "audio": [40] * 500, "vision": [25] * 500})
    cut = removed(shorter, mask_frames(shorter, "rmfm_lnln", 0.5, 0))
    assert torch.equal(cut["vision"], audio[:, :25]), "a frame's fate does not depend on the length"
    alone = ones({"vision": [40] * 500})
    assert torch.equal(removed(alone, mask_frames(alone, "rmfm_lnln", 0.5, 0))["vision"], vision)


def test_rmfm_lnln_is_a_function_of_seed_and_sample() -> None:
    batch = aligned([40] * 50)
    first, again, other = (removed(batch, mask_frames(batch, "rmfm_lnln", 0.5, seed))["audio"] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len(first.unique(dim=0)) == 50, "two samples lose the same frames"


@pytest.mark.parametrize("kind", ["rmfm", "rmfm_same"])
def test_modalities_fall_independently(kind: FrameKind) -> None:
    batch = aligned([40] * 500)
    text, audio, vision = (fallen.double() for fallen in removed(batch, mask_frames(batch, kind, 0.5, 0)).values())
    for one, other in ((text, audio), (text, vision), (audio, vision)):
        assert float((one * other).mean()) == pytest.approx(0.25, abs=0.01)
    assert float((text[:, 1:] * text[:, :-1]).mean()) == pytest.approx(0.25, abs=0.01)


def test_rmfm_draws_once_over_the_modalities_end_to_end() -> None:
    """A frame's fate is that of its position in the joined sequence: text of 4 and audio of 6 are a text of 10."""
    parts = ones({"text": [4] * 200, "audio": [6] * 200})
    joined = ones({"text": [10] * 200})
    fallen = removed(parts, mask_frames(parts, "rmfm", 0.5, 0))
    expected = removed(joined, mask_frames(joined, "rmfm", 0.5, 0))["text"]
    assert torch.equal(torch.cat([fallen["text"], fallen["audio"]], 1), expected)


@pytest.mark.parametrize("kind", ALIGNED_KINDS)
def test_aligned_kinds_take_the_same_steps_from_all_modalities(kind: FrameKind) -> None:
    batch = aligned([20, 15, 8] * 20)
    fallen = removed(batch, mask_frames(batch, kind, 0.5, 0))
    assert torch.equal(fallen["text"], fallen["audio"])
    assert torch.equal(fallen["text"], fallen["vision"])


@pytest.mark.parametrize("rate", [0.0, 0.2, 0.5, 1.0])
def test_stmfm_takes_one_block_between_the_ends(rate: float) -> None:
    lengths = [3, 10, 25, 2, 1, 40] * 100
    batch = aligned(lengths)
    fallen = removed(batch, mask_frames(batch, "stmfm", rate, 0))["text"]
    starts = []
    for length, row in zip(lengths, fallen, strict=True):
        block = row.nonzero().flatten().tolist()
        assert len(block) == round(max(length - 2, 0) * rate)
        assert block == list(range(block[0], block[0] + len(block))) if block else True
        assert 0 not in block
        assert length - 1 not in block
        starts += block[:1] if length == 10 else []
    if rate == 0.5:
        assert set(starts) == {1, 2, 3, 4, 5}, "the block of 4 among steps 1 to 8 begins anywhere"


def test_rates_may_differ_between_samples_and_modalities() -> None:
    batch = aligned([50] * 3)
    per_sample = removed(batch, mask_frames(batch, "rmfm", torch.tensor([0.0, 1.0, 0.5]), 0))["audio"]
    assert per_sample.double().mean(1).tolist() == [0, 1, pytest.approx(0.5, abs=0.25)]
    rates = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    for kind in ("rmfm_same", "rmfm_lnln"):
        fallen = removed(batch, mask_frames(batch, kind, rates, 0))
        shares = torch.stack([each.float().mean(1) for each in fallen.values()], 1)
        assert torch.equal(shares, rates)


def test_unaligned_sequences_are_refused_where_steps_must_agree() -> None:
    differing = ones({"text": [5, 5], "audio": [5, 4], "vision": [5, 5]})
    longer = ones({"text": [5, 5], "audio": [9, 9], "vision": [5, 5]})
    for kind in ALIGNED_KINDS:
        with pytest.raises(Refusal, match="4 audio steps and 5"):
            mask_frames(differing, kind, 0.5, 0)
        with pytest.raises(Refusal, match=r"9 audio steps.*alignment aligned"):
            mask_frames(longer, kind, 0.5, 0)
    lacking = ones({"text": [5, 5], "audio": [0, 5], "vision": [0, 0]})
    assert removed(lacking, mask_frames(lacking, "tmfm", 1.0, 0))["audio"].tolist() == [[False] * 5, [True] * 5]


def test_training_rates_follow_the_authors() -> None:
    index = torch.arange(20_000)
    lnln = training_rates("rmfm_same", index, 0, 0)
    assert lnln.shape == (20_000, 3)
    assert torch.equal(training_rates("rmfm_lnln", index, 0, 0), lnln)
    assert (lnln == 0).double().mean(0).tolist() == pytest.approx([0.5] * 3, abs=0.015)
    for column in lnln.T:
        drawn = column[column > 0].sort().values
        assert float((drawn - torch.linspace(0, 1, len(drawn))).abs().max()) < 0.02, "not uniform"
    assert (training_rates("rmfm", index, 0, 0) == 0.5).all()
    drawn = training_rates("tmfm", index, 0, 0).sort().values
    assert float((drawn - torch.linspace(0, 1, len(drawn))).abs().max()) < 0.015
    assert not torch.equal(training_rates("tmfm", index, 0, 1), training_rates("tmfm", index, 0, 0))


def test_training_masks_redraw_frames_every_epoch_and_for_no_other_reason() -> None:
    batch = aligned([30] * 64)
    masks = FrameMasks("rmfm_same")
    keys = ((0, 0), (0, 0), (1, 0), (0, 1))
    drawn = [removed(batch, masks.frames(batch, epoch, seed))["text"] for epoch, seed in keys]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[3])
    assert masks.present(64, 0, 0).all()
    half = removed(some(batch, [7, 3]), masks.frames(some(batch, [7, 3]), 0, 0))["text"]
    assert torch.equal(half, drawn[0][[7, 3]])
    fixed = removed(batch, FrameMasks("tmfm", 0.2).frames(batch, 0, 0))["text"]
    assert float(fixed.double().mean()) == pytest.approx(0.2, abs=0.03)
    other = replace(batch, index=batch.index + 64)
    assert not torch.equal(removed(other, masks.frames(other, 0, 0))["text"], drawn[0])

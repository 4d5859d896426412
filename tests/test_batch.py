"""The batch: steps of data, modalities that are present, and moving it to a device."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest
import torch

from mer_lightning.batch import Batch
from mer_lightning.modalities import MODALITIES


def _batch(target: torch.Tensor | None = None) -> Batch:
    lengths = {"text": [3, 1, 0], "audio": [5, 5, 2], "vision": [0, 4, 1]}
    return Batch(
        features={m: torch.randn(3, max(steps), 2) for m, steps in lengths.items()},
        lengths={m: torch.tensor(steps) for m, steps in lengths.items()},
        present=torch.tensor([[steps[i] > 0 for steps in lengths.values()] for i in range(3)]),
        target=target,
        index=torch.tensor([7, 2, 4]),
    )


def test_length_is_the_number_of_samples():
    assert len(_batch()) == 3


@pytest.mark.parametrize("modality", MODALITIES)
def test_steps_of_data(modality):
    batch = _batch()
    longest = batch.features[modality].shape[1]
    expected = [[step < length for step in range(longest)] for length in batch.lengths[modality].tolist()]
    assert batch.key_mask(modality).tolist() == expected
    assert torch.equal(batch.key_mask(modality).sum(1), batch.lengths[modality])


def test_limited_to_never_adds_a_modality():
    batch = _batch()
    assert batch.present.tolist() == [[True, True, False], [True, True, True], [False, True, True]]
    text_and_vision = batch.limited_to(torch.tensor([True, False, True]))
    assert text_and_vision.present.tolist() == [[True, False, False], [True, False, True], [False, False, True]]
    each = batch.limited_to(torch.tensor([[True, True, True], [False, False, True], [True, False, False]]))
    assert each.present.tolist() == [[True, True, False], [False, False, True], [False, False, False]]


def test_what_is_available_is_what_is_present_by_default():
    batch = _batch()
    assert torch.equal(batch.available, batch.present)
    masked = batch.limited_to(torch.tensor([True, False, False])).limited_to(torch.tensor([True, True, True]))
    assert torch.equal(masked.available, batch.present)
    assert not torch.equal(masked.available, masked.present)
    batch = replace(batch, available=torch.ones(3, 3, dtype=torch.bool))
    assert batch.available.all()
    assert batch.to("cpu").limited_to(torch.tensor([False, False, True])).available.all()
    assert batch.to("meta").available.device.type == "meta"


def test_limited_to_changes_nothing_else():
    batch = _batch(torch.tensor([1.0, 2.0, 3.0]))
    before = batch.present.clone()
    limited = batch.limited_to(torch.tensor([True, False, False]))
    assert torch.equal(batch.present, before)
    assert limited.features is batch.features
    assert limited.lengths is batch.lengths
    assert limited.target is batch.target
    assert limited.index is batch.index


def test_limiting_twice_is_limiting_to_both():
    batch = _batch()
    ta, tv = torch.tensor([True, True, False]), torch.tensor([True, False, True])
    assert torch.equal(batch.limited_to(ta).limited_to(tv).present, batch.limited_to(ta & tv).present)


def test_to_moves_every_tensor():
    """``meta`` stands in for an accelerator."""
    moved = _batch(torch.zeros(3)).to("meta")
    tensors = [*moved.features.values(), *moved.lengths.values(), moved.present, moved.target, moved.index]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert moved.key_mask("audio").device.type == "meta"
    assert moved.limited_to(torch.tensor([True, False, True], device="meta")).present.device.type == "meta"


def test_to_keeps_values_and_types():
    batch = _batch(torch.tensor([0, 2, 1]))
    same = batch.to("cpu", non_blocking=True)
    assert torch.equal(same.target, batch.target)
    assert torch.equal(same.index, batch.index)
    assert torch.equal(same.present, batch.present)
    assert same.features.keys() == batch.features.keys()
    assert all(torch.equal(same.features[m], batch.features[m]) for m in MODALITIES)
    assert all(torch.equal(same.lengths[m], batch.lengths[m]) for m in MODALITIES)


def test_unknown_labels_stay_unknown():
    assert _batch().to("meta").target is None


def test_a_batch_does_not_change():
    with pytest.raises(FrozenInstanceError):
        _batch().index = torch.zeros(3)

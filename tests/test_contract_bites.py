"""The contract test fails when a law is broken: each of these backbones breaks one on purpose."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mer_lightning.backbones.base import Backbone, Encoded
from mer_lightning.batch import Batch
from mer_lightning.contract import DIMS, LAWS, check_backbone, check_method, example_backbone, example_batch
from mer_lightning.methods.base import Losses
from mer_lightning.methods.supervised import Supervised


class Obedient(Backbone):
    """The mean of the real steps of each modality through a layer of its own, the present ones added up."""

    encoder_parts = ("layers",)
    encodes_alike = True

    def __init__(self, dims: dict[str, int]) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleDict({m: torch.nn.Linear(dim, 8) for m, dim in dims.items()})
        self.state_width, self.vector_widths = 8, dict.fromkeys(dims, 8)

    def encode(self, batch: Batch) -> Encoded:
        return Encoded({m: layer(self.pooled(batch, m)) for m, layer in self.layers.items()})

    def pooled(self, batch: Batch, modality: str) -> Tensor:
        key_mask = batch.key_mask(modality).unsqueeze(2)
        return batch.features[modality].where(key_mask, 0.0).sum(1) / key_mask.sum(1).clamp(min=1)

    def fuse(self, encoded: Encoded, present: Tensor) -> Tensor:
        vectors = torch.stack(list(encoded.vectors.values()), 1)
        return torch.tanh(self.kept(vectors, present).sum(1))

    def kept(self, vectors: Tensor, present: Tensor) -> Tensor:
        return vectors.where(present.unsqueeze(2), 0.0)


class MultipliesByTheMask(Obedient):
    """Law 1: NaN times zero is NaN."""

    def kept(self, vectors: Tensor, present: Tensor) -> Tensor:
        return vectors * present.unsqueeze(2)


class ForgetsTheMask(Obedient):
    """Law 1: an absent modality is seen."""

    def kept(self, vectors: Tensor, present: Tensor) -> Tensor:
        return vectors


class MixesSamples(Obedient):
    """Law 2: each sample reads its neighbour in the batch."""

    def fuse(self, encoded: Encoded, present: Tensor) -> Tensor:
        state = super().fuse(encoded, present)
        return state + 0.1 * state.cumsum(0)


class CountsPadding(Obedient):
    """Law 3: the mean runs over padded steps, too."""

    def pooled(self, batch: Batch, modality: str) -> Tensor:
        return batch.features[modality].mean(1)


class FusesManyOtherwise(Obedient):
    """Law 4: many masks at once give another state than each alone."""

    def fuse_many(self, encoded: Encoded, present: Tensor) -> Tensor:
        return super().fuse_many(encoded, present).cumsum(0)


class NeedsTwoSamples(Obedient):
    """Law 5: a batch of one is standardised by its own deviation."""

    def fuse(self, encoded: Encoded, present: Tensor) -> Tensor:
        state = super().fuse(encoded, present)
        return (state - state.mean(0)) / state.std(0)


def test_an_obedient_backbone_passes() -> None:
    check_backbone(Obedient)


@pytest.mark.parametrize(
    ("law", "cls"),
    [
        ("an_absent_modality_cannot_change_the_state", MultipliesByTheMask),
        ("an_absent_modality_cannot_change_the_state", ForgetsTheMask),
        ("permuting_the_batch_permutes_the_output", MixesSamples),
        ("padding_cannot_change_the_output", CountsPadding),
        ("fusing_many_masks_equals_many_passes", FusesManyOtherwise),
        ("a_batch_of_one_and_bfloat16_work", NeedsTwoSamples),
    ],
)
def test_a_broken_law_is_caught(law: str, cls: type[Obedient]) -> None:
    with pytest.raises(AssertionError):
        LAWS[law](example_backbone(cls, DIMS), example_batch())
    with pytest.raises(AssertionError, match=cls.__name__):
        check_backbone(cls)


class Forgetful(Supervised):
    """Nothing of its loss reaches a parameter."""

    def training_losses(self, batch: Batch) -> Losses:
        return {name: (value.detach(), weight) for name, (value, weight) in super().training_losses(batch).items()}


class Infinite(Supervised):
    def training_losses(self, batch: Batch) -> Losses:
        return {name: (value / 0, weight) for name, (value, weight) in super().training_losses(batch).items()}


@pytest.mark.parametrize("cls", [Forgetful, Infinite])
def test_a_broken_method_is_caught(cls: type[Supervised]) -> None:
    with pytest.raises((AssertionError, RuntimeError), match=r"losses are finite and teach|does not require grad"):
        check_method(cls)

"""The contract test fails when a law is broken: each of these backbones breaks one on purpose."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mer_lightning.backbones.base import Backbone, Encoded
from mer_lightning.batch import Batch
from tests import test_contract as contract
from tests.conftest import DIMS


class Obedient(Backbone):
    """The mean of the real steps of each modality through a layer of its own, the present ones added up."""

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


LAWS: dict[str, Callable[[Backbone], None]] = {
    "absence": lambda b: contract.test_absent_modality_cannot_change_the_state(b, "unaligned", "ta"),
    "permutation": lambda b: contract.test_permuting_the_batch_permutes_the_output(b, "unaligned"),
    "padding": lambda b: contract.test_padding_cannot_change_the_output(b, "unaligned"),
    "many masks": lambda b: contract.test_fusing_many_masks_equals_many_passes(b, "unaligned"),
    "batch of one": lambda b: contract.test_batch_of_one_and_bfloat16(b, "unaligned"),
}


@pytest.mark.parametrize("law", LAWS)
def test_an_obedient_backbone_passes(law: str) -> None:
    torch.manual_seed(0)
    LAWS[law](Obedient(DIMS).eval())


@pytest.mark.parametrize(
    ("law", "cls"),
    [
        ("absence", MultipliesByTheMask),
        ("absence", ForgetsTheMask),
        ("permutation", MixesSamples),
        ("padding", CountsPadding),
        ("many masks", FusesManyOtherwise),
        ("batch of one", NeedsTwoSamples),
    ],
)
def test_a_broken_law_is_caught(law: str, cls: type[Obedient]) -> None:
    torch.manual_seed(0)
    with pytest.raises(AssertionError):
        LAWS[law](cls(DIMS).eval())

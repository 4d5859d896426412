"""The contract of a fusion backbone, and what every backbone builds on.

Shapes: B batch, T time, D input width, d code width, M = 3 modalities, K masks.

Five laws hold for each backbone in this folder, and mer_lightning/contract.py checks them for all of them:
what an absent modality contains cannot change the state; permuting a batch permutes the output; padding cannot change
the output; encoding once and fusing under K masks equals K passes; a batch of one and bf16 autocast work.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor, nn

from mer_lightning.batch import Batch
from mer_lightning.discovery import classes_by_file
from mer_lightning.made_with import MadeWith
from mer_lightning.modalities import MODALITIES


@dataclass(frozen=True)
class Encoded:
    """What :meth:`Backbone.encode` makes of a batch, each modality on its own."""

    vectors: dict[str, Tensor]  # {modality: (B, d_m)}
    sequences: dict[str, Tensor] = field(default_factory=dict)  # {modality: (B, T_m, d_m)}
    key_masks: dict[str, Tensor] = field(default_factory=dict)  # {modality: (B, T_m) bool}, True where a step is data

    def repeated(self, times: int) -> Encoded:
        """The same samples ``times`` times over: (K * B, ...)."""

        def repeat(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
            return {m: tensor.repeat(times, *[1] * (tensor.dim() - 1)) for m, tensor in tensors.items()}

        return Encoded(repeat(self.vectors), repeat(self.sequences), repeat(self.key_masks))


class Backbone(MadeWith, nn.Module, ABC):
    """Encodes each modality on its own, then fuses those that are present into one state.

    A subclass sets ``state_width`` and ``vector_widths`` in its constructor, whose first argument is ``dims``.
    """

    aligned_only: ClassVar[bool] = False  # needs the same steps in all modalities
    encodes_alike: ClassVar[bool] = False  # in training as in evaluation: `encode` has no dropout, no batch norm
    needs_tokens: ClassVar[bool] = False  # takes token ids as text, and holds its own pretrained encoder
    paper: ClassVar[str] = ""

    encoder_parts: tuple[str, ...] = ()  # submodules on whose parameters the vectors of `encode` depend
    state_width: int
    vocabulary: int | None = None  # how many token ids there are, where it needs them
    vector_widths: dict[str, int]

    @abstractmethod
    def encode(self, batch: Batch) -> Encoded:
        """One vector per modality, whatever ``batch.present`` is."""

    @abstractmethod
    def fuse(self, encoded: Encoded, present: Tensor) -> Tensor:
        """(B, d): what the classifier reads, made of the modalities in ``present`` (B, M) only."""

    def fuse_many(self, encoded: Encoded, present: Tensor) -> Tensor:
        """(K, B, d) for K masks (K, B, M) over one encoding."""
        masks, samples = present.shape[:2]
        state = self.fuse(encoded.repeated(masks), present.flatten(0, 1))
        return state.unflatten(0, (masks, samples))

    def auxiliary_losses(self, encoded: Encoded, batch: Batch) -> dict[str, tuple[Tensor, float]]:
        """{name: (value, weight)}: the backbone's own losses, if its paper has any."""
        return {}

    def fuse_with_losses(self, encoded: Encoded, batch: Batch) -> tuple[Tensor, dict[str, tuple[Tensor, float]]]:
        """The state of ``fuse`` and the auxiliary losses, for a training step that needs both.

        A backbone whose losses read what happens inside the fusion overrides it, so that nothing is computed twice.
        """
        return self.fuse(encoded, batch.present), self.auxiliary_losses(encoded, batch)

    def encoder_parameters(self) -> Iterator[nn.Parameter]:
        """What ``encode`` learns with: the vectors of a batch depend on these parameters and on no others."""
        for name in self.encoder_parts:
            yield from self.get_submodule(name).parameters()


BackboneFactory = Callable[[dict[str, int]], Backbone]


def all_backbones() -> dict[str, type[Backbone]]:
    """{name: class} of every backbone in this folder; the name is the name of its file."""
    return classes_by_file("mer_lightning.backbones", Backbone)


def keep_present(vectors: dict[str, Tensor], present: Tensor, absent: dict[str, Tensor] | None = None) -> list[Tensor]:
    """Vectors in the order of MODALITIES, with those of absent modalities replaced by ``absent`` (default zeros).

    Selection and not multiplication: an absent modality may hold anything, NaN included.
    """
    kept = []
    for number, modality in enumerate(MODALITIES):
        if modality in vectors:
            vector = vectors[modality]
            other = vector.new_zeros(()) if absent is None else absent[modality].to(vector.dtype)
            kept.append(vector.where(present[:, number, None], other))
    return kept

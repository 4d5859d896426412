"""The batch: what a DataModule yields and everything else reads.

Shapes: B batch, T time, D width, M = 3 modalities in the order of :data:`mer_lightning.modalities.MODALITIES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace

import torch
from torch import Tensor

from mer_lightning.modalities import MODALITIES


@dataclass(frozen=True)
class Batch:
    """Some samples of one split.

    A sample lacks a modality if its length is 0; ``present`` is then False for it. The features of an absent modality
    can have any values, and no model may depend on them.

    Masks of training change ``present`` and not ``available``, for methods that also learn from masked modalities: a
    modality that is available and not present keeps its features.
    """

    features: dict[str, Tensor]  # {modality: (B, T_m, D_m)}, right-padded with zeros
    lengths: dict[str, Tensor]  # {modality: (B,)}
    present: Tensor  # (B, M) bool: modalities that a model may use
    target: Tensor | None  # (B,) or (B, C); None where labels are unknown
    index: Tensor  # (B,) the row of each sample in its split
    available: Tensor = field(default=None)  # type: ignore[assignment]  # (B, M) bool: modalities that a sample has; default: present

    def __post_init__(self) -> None:
        if self.available is None:
            object.__setattr__(self, "available", self.present)

    @staticmethod
    def of(features: Mapping[str, Tensor | None]) -> Batch:
        """Samples whose steps all count: {modality: (B, T, D)}; None stands for a modality that none of them has."""
        there = {modality: values for modality, values in features.items() if values is not None}
        samples, *others = (len(values) for values in there.values())
        assert all(number == samples for number in others), "as many samples in each modality"
        index = torch.arange(samples, device=next(iter(there.values())).device)
        lengths = {modality: torch.full_like(index, values.shape[1]) for modality, values in there.items()}
        present = torch.tensor([m in there for m in MODALITIES], device=index.device).expand(samples, -1)
        return Batch(there, lengths, present, None, index)

    def __len__(self) -> int:
        return len(self.index)

    def key_mask(self, modality: str) -> Tensor:
        """(B, T_m) bool, True where a step is data and not padding."""
        steps = torch.arange(self.features[modality].shape[1], device=self.index.device)
        return steps < self.lengths[modality].unsqueeze(1)

    def limited_to(self, present: Tensor) -> Batch:
        """The same samples with those modalities present that are also in ``present``, (B, M) or (M,) bool."""
        return replace(self, present=self.present & present.to(self.present.device))

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        return self._each(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        return self._each(lambda tensor: tensor.pin_memory())

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        changed: dict[str, object] = {}
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, dict):
                changed[each.name] = {modality: change(tensor) for modality, tensor in value.items()}
            else:
                changed[each.name] = None if value is None else change(value)
        return Batch(**changed)  # type: ignore[arg-type]

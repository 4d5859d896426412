"""From a batch of the data to what a model reads: known modalities, standardised features, encoded text.

Shapes: B batch, T time, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from mer_lightning.batch import Batch
from mer_lightning.encoders.base import TextEncoder, refuse_other_text
from mer_lightning.modalities import MODALITIES

_OUTLIER = 10.0  # deviations; extracted audio features hold isolated values thousands of deviations away


class Inputs(nn.Module):
    """Standardises features by statistics of the training split; a text encoder makes vectors of token ids.

    Args:
        dims: width of each modality's features in the data.
        text_encoder: what makes vectors of text that is token ids.
    """

    def __init__(self, dims: Mapping[str, int], text_encoder: TextEncoder | None) -> None:
        super().__init__()
        self.dims = dict(dims)
        self.widths = dict(dims)  # what the backbone reads
        self.text_encoder = text_encoder
        self.text_is_ids = text_encoder is not None
        if text_encoder is not None:
            refuse_other_text("text_encoder", self.dims)
            self.widths["text"] = text_encoder.width
        for modality, dim in self.dims.items():
            self.register_buffer(f"mean_{modality}", torch.zeros(dim))
            self.register_buffer(f"scale_{modality}", torch.ones(dim))
        self.register_buffer("known", torch.tensor([m in self.dims for m in MODALITIES]), persistent=False)

    def set_statistics(self, statistics: Mapping[str, tuple[Tensor, Tensor]]) -> None:
        """{modality: mean and deviation (D,)} of the training split."""
        for modality, (mean, deviation) in statistics.items():
            # A column that never varies in training carries nothing; scale 0 keeps a new value in it from exploding.
            scale = torch.where(deviation > 1e-6, 1 / deviation.clamp(min=1e-6), 0.0)
            self.get_buffer(f"mean_{modality}").copy_(mean)
            self.get_buffer(f"scale_{modality}").copy_(scale)

    def forward(self, batch: Batch) -> Batch:
        """The batch as a model reads it. Modalities that the data lack are there, and absent in every sample."""
        features, lengths = {}, {}
        for m in self.dims:
            if m not in batch.features:
                features[m] = torch.zeros(batch.index.shape[0], 1, self.dims[m], device=batch.index.device)
                lengths[m] = torch.zeros_like(batch.index)
                continue
            features[m], lengths[m] = batch.features[m], batch.lengths[m]
            if m != "text" or not self.text_is_ids:
                features[m] = self._standardised(m, features[m])
        present, available = (each & self.get_buffer("known") for each in (batch.present, batch.available))
        batch = replace(batch, features=features, lengths=lengths, present=present, available=available)
        if self.text_encoder is None:
            return batch
        words = self.text_encoder(features["text"], batch.key_mask("text"))
        return replace(batch, features=features | {"text": words})

    def _standardised(self, modality: str, features: Tensor) -> Tensor:
        centred = features - self.get_buffer(f"mean_{modality}")
        return centred.mul_(self.get_buffer(f"scale_{modality}")).clamp_(-_OUTLIER, _OUTLIER)

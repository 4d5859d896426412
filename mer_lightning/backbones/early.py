"""Mean-pooled features, one small network per modality, concatenation.

The mean over time has no parameters of its own, so a method that moves knowledge between the modalities' vectors
needs the networks that follow it (specification of CDaT, defect 5).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mer_lightning.backbones.base import Backbone, Encoded, keep_present
from mer_lightning.batch import Batch
from mer_lightning.layers.dropout import Dropout
from mer_lightning.layers.pooling import masked_mean


class Early(Backbone):
    """Early fusion of time-averaged features.

    Args:
        dims: width of each modality's features.
        width: width of each modality's vector and of the state.
        dropout: on the pooled features and on the concatenated vectors.
    """

    encoder_parts = ("encoders",)
    paper = "plain baseline"

    def __init__(self, dims: dict[str, int], width: int = 64, dropout: float = 0.3) -> None:
        super().__init__()
        self.state_width = width
        self.vector_widths = dict.fromkeys(dims, width)
        self.encoders = nn.ModuleDict(
            {m: nn.Sequential(Dropout(dropout), nn.Linear(dim, width), nn.ReLU()) for m, dim in dims.items()}
        )
        self.fusion = nn.Sequential(Dropout(dropout), nn.Linear(len(dims) * width, width), nn.ReLU())

    def encode(self, batch: Batch) -> Encoded:
        pooled = {m: masked_mean(batch.features[m], batch.key_mask(m)) for m in self.encoders}
        return Encoded({m: encoder(pooled[m]) for m, encoder in self.encoders.items()})

    def fuse(self, encoded: Encoded, present: Tensor) -> Tensor:
        return self.fusion(torch.cat(keep_present(encoded.vectors, present), dim=1))

"""Late fusion of one LSTM per modality.

Shapes: B batch, T time, d width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mer_lightning.backbones.base import Backbone, Encoded, keep_present
from mer_lightning.batch import Batch
from mer_lightning.layers.dropout import Dropout
from mer_lightning.layers.pooling import last_step
from mer_lightning.layers.recurrence import LSTM


class LFLSTM(Backbone):
    """The last real state of each modality's LSTM, concatenated, and two linear layers.

    Args:
        dims: width of each modality's features.
        width: of the LSTMs, the vectors and the state.
        dropout: on the concatenation and between the layers.
    """

    encodes_alike = True
    encoder_parts = ("lstms",)
    paper = "baseline of MulT, ACL 2019"

    def __init__(self, dims: dict[str, int], width: int = 64, dropout: float = 0.2) -> None:
        super().__init__()
        self.state_width = width
        self.vector_widths = dict.fromkeys(dims, width)
        self.lstms = nn.ModuleDict({m: LSTM(dim, width) for m, dim in dims.items()})
        self.fusion = nn.Sequential(
            Dropout(dropout),
            nn.Linear(len(dims) * width, width),
            nn.ReLU(),
            Dropout(dropout),
            nn.Linear(width, width),
            nn.ReLU(),
        )

    def encode(self, batch: Batch) -> Encoded:
        states = {m: lstm(batch.features[m], batch.lengths[m]) for m, lstm in self.lstms.items()}
        return Encoded({m: last_step(states[m], batch.lengths[m]) for m in states})

    def fuse(self, encoded: Encoded, present: Tensor) -> Tensor:
        return self.fusion(torch.cat(keep_present(encoded.vectors, present), dim=1))

"""One Transformer per modality, concatenation of their summary tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mer_lightning.backbones.base import Backbone, Encoded, keep_present
from mer_lightning.batch import Batch
from mer_lightning.layers.dropout import Dropout
from mer_lightning.layers.transformer import SequenceEncoder


class LateTransformer(Backbone):
    """Late fusion of one Transformer per modality; an absent modality is replaced by a learned vector.

    Args:
        dims: width of each modality's features.
        width: width of tokens, vectors and state.
        depth: layers per modality.
        heads: attention heads.
        dropout: on tokens, sub-layers and the concatenated vectors.
    """

    encoder_parts = ("encoders",)
    paper = "modern baseline"

    def __init__(
        self, dims: dict[str, int], width: int = 64, depth: int = 2, heads: int = 4, dropout: float = 0.2
    ) -> None:
        super().__init__()
        self.state_width = width
        self.vector_widths = dict.fromkeys(dims, width)
        self.encoders = nn.ModuleDict(
            {m: SequenceEncoder(dim, width, depth, heads, dropout) for m, dim in dims.items()}
        )
        self.absent = nn.ParameterDict({m: nn.Parameter(torch.zeros(width)) for m in dims})
        self.fusion = nn.Sequential(
            Dropout(dropout), nn.Linear(len(dims) * width, width), nn.GELU(), nn.LayerNorm(width)
        )

    def encode(self, batch: Batch) -> Encoded:
        encoders = self.encoders.items()
        return Encoded({m: encoder(batch.features[m], batch.key_mask(m), first=1)[:, 0] for m, encoder in encoders})

    def fuse(self, encoded: Encoded, present: Tensor) -> Tensor:
        return self.fusion(torch.cat(keep_present(encoded.vectors, present, dict(self.absent.items())), dim=1))

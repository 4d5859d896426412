"""One Transformer per modality, concatenation of their summary tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mer_lightning.backbones.base import Backbone, Encoded, keep_present
from mer_lightning.backbones.dropout import Dropout
from mer_lightning.backbones.layers import TransformerLayer, sinusoidal_positions
from mer_lightning.batch import Batch


class SequenceEncoder(nn.Module):
    """(B, T, D) and valid (B, T) -> (B, 1 + T, d), a summary and the steps: projection, positions, pre-norm layers."""

    def __init__(self, dim: int, width: int, depth: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.project = nn.Linear(dim, width)
        self.summary = nn.Parameter(torch.randn(width) * 0.02)
        self.dropout = Dropout(dropout)
        self.layers = nn.ModuleList(TransformerLayer(width, heads, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, features: Tensor, valid: Tensor, first: int | None = None) -> Tensor:
        # Padding is zeroed before it meets the layers: masked keys drop out of attention only if they are finite.
        tokens = self.project(features).where(valid.unsqueeze(2), 0.0)
        tokens = tokens + sinusoidal_positions(tokens.shape[1], tokens.shape[2], tokens)
        tokens = torch.cat([self.summary.to(tokens.dtype).expand(len(tokens), 1, -1), tokens], dim=1)
        valid = torch.cat([valid.new_ones(len(valid), 1), valid], dim=1)
        tokens = self.dropout(tokens)
        for number, layer in enumerate(self.layers, start=1):
            tokens = layer(tokens, valid, first if number == len(self.layers) else None)
        return self.norm(tokens)


class LateTransformer(Backbone):
    """Late fusion of one Transformer per modality; an absent modality is replaced by a learned vector.

    Args:
        dims: width of each modality's features.
        width: width of tokens, vectors and state.
        depth: layers per modality.
        heads: attention heads.
        dropout: on tokens, sub-layers and the concatenated vectors.
    """

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
        return Encoded({m: encoder(batch.features[m], batch.valid_steps(m), first=1)[:, 0] for m, encoder in encoders})

    def fuse(self, encoded: Encoded, present: Tensor) -> Tensor:
        return self.fusion(torch.cat(keep_present(encoded.vectors, present, dict(self.absent.items())), dim=1))

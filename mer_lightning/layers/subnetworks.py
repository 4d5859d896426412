"""The small networks, one for each modality, that TFN, LMF and LF-DNN share.

Shapes: B batch, T time, D input width, H hidden width, d width of the vector.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mer_lightning.batch import Batch
from mer_lightning.layers.dropout import Dropout
from mer_lightning.layers.pooling import last_step, masked_mean
from mer_lightning.layers.recurrence import LSTM


class PooledNetwork(nn.Module):
    """The mean over time, batch norm, dropout, three linear layers with ReLU: (B, T, D) -> (B, H)."""

    def __init__(self, dim: int, hidden: int, dropout: float, padding_counts: bool) -> None:
        super().__init__()
        self.padding_counts = padding_counts
        self.norm = nn.BatchNorm1d(dim)
        self.dropout = Dropout(dropout)
        self.layers = nn.Sequential(
            nn.Linear(dim, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
        )

    def forward(self, features: Tensor, key_mask: Tensor, lengths: Tensor) -> Tensor:
        pooled = features.mean(1) if self.padding_counts else masked_mean(features, key_mask)
        return self.layers(self.dropout(self.norm(pooled)))


class RecurrentNetwork(nn.Module):
    """An LSTM's last state, dropout, one linear layer: (B, T, D) -> (B, d)."""

    def __init__(self, dim: int, hidden: int, width: int, dropout: float, padding_counts: bool) -> None:
        super().__init__()
        self.padding_counts = padding_counts
        self.lstm = LSTM(dim, hidden)
        self.dropout = Dropout(dropout)
        self.linear = nn.Linear(hidden, width)

    def forward(self, features: Tensor, key_mask: Tensor, lengths: Tensor) -> Tensor:
        if self.padding_counts:
            lengths = torch.full_like(lengths, features.shape[1])
        return self.linear(self.dropout(last_step(self.lstm(features, lengths), lengths)))


class Subnetworks(nn.Module):
    """A recurrent network for text and pooled ones for audio and vision: {modality: (B, d_m)}.

    Args:
        dims: width of each modality's features.
        hidden: hidden width of text, audio and vision.
        text_width: width of the text vector; those of audio and vision are as wide as their hidden layers.
        dropout: of text, audio and vision.
        padding_counts: padded steps count in means, and recurrences read their last, padded step.
    """

    def __init__(
        self, dims: dict[str, int], hidden: list[int], text_width: int, dropout: list[float], padding_counts: bool
    ) -> None:
        super().__init__()
        sizes = dict(zip(("text", "audio", "vision"), zip(hidden, dropout, strict=True), strict=True))
        self.networks = nn.ModuleDict()
        self.widths = {}
        for modality, dim in dims.items():
            wide, drop = sizes[modality]
            if modality == "text":
                self.networks[modality] = RecurrentNetwork(dim, wide, text_width, drop, padding_counts)
            else:
                self.networks[modality] = PooledNetwork(dim, wide, drop, padding_counts)
            self.widths[modality] = text_width if modality == "text" else wide

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return {
            m: network(batch.features[m], batch.key_mask(m), batch.lengths[m]) for m, network in self.networks.items()
        }


def with_one(vector: Tensor) -> Tensor:
    """(B, 1 + d): a constant 1 in front, so that a product over modalities keeps each of them alone, too."""
    return torch.cat([vector.new_ones(vector.shape[0], 1), vector], dim=1)

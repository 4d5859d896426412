"""The confidence network: from a fused state it predicts the probability of the true class, without the label.

Shapes: B batch, d width of the state.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from mer_lightning.layers.dropout import Dropout

ConfidenceOutput = Literal["sigmoid", "clamp", "linear"]


class ConfidenceNetwork(nn.Module):
    """[Linear, ReLU, BatchNorm, Dropout] for each hidden layer, then one number: (..., d) -> (...,).

    A linear output can be negative, and a negative weight would push modalities apart: `clamp` cuts it off at zero,
    `sigmoid` cannot go there.
    """

    def __init__(self, width: int, layers: int, hidden: int, dropout: float, output: ConfidenceOutput) -> None:
        super().__init__()
        self.output = output
        blocks: list[nn.Module] = []
        for _ in range(layers - 1):
            blocks += [nn.Linear(width, hidden), nn.ReLU(), nn.BatchNorm1d(hidden), Dropout(dropout)]
            width = hidden
        self.layers = nn.Sequential(*blocks, nn.Linear(width, 1))

    def forward(self, state: Tensor) -> Tensor:
        raw = self.layers(state.flatten(0, -2)).float().view(state.shape[:-1])
        if self.output == "sigmoid":
            return torch.sigmoid(raw)
        return raw.clamp(min=0) if self.output == "clamp" else raw

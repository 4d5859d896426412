"""MGR's parts: codes that modalities share or have for themselves, their fusion, and how much each modality matters.

Shapes: B batch, M modalities of the model, K masks, d width of vectors and codes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mer_lightning.layers.dropout import Dropout
from mer_lightning.layers.transformer import TransformerLayer

_LOG_VARIANCE = (-6.0, 2.0)
_DECAY = 0.95


@dataclass(frozen=True)
class Code:
    """A Gaussian per sample and modality, and a draw from it: the mean outside training."""

    drawn: Tensor  # (B, M, d)
    mean: Tensor
    std: Tensor  # zero where codes are not probabilistic


class GaussianEncoder(nn.Module):
    """(..., d) -> a diagonal Gaussian. Its mean has no scale of its own: no distance can be closed by shrinking."""

    def __init__(self, width: int, probabilistic: bool, dropout: float) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(width, width), nn.GELU(), Dropout(dropout), nn.Linear(width, width), nn.GELU()
        )
        self.mean = nn.Linear(width, width)
        self.log_variance = nn.Linear(width, width) if probabilistic else None

    def forward(self, vector: Tensor) -> Code:
        hidden = self.body(vector)
        mean = F.layer_norm(self.mean(hidden).float(), (hidden.shape[-1],))
        if self.log_variance is None:
            return Code(mean, mean, torch.zeros_like(mean))
        std = (self.log_variance(hidden).float().clamp(*_LOG_VARIANCE) / 2).exp()
        drawn = mean + std * torch.randn_like(std) if self.training else mean
        return Code(drawn, mean, std)


class CodeFusion(nn.Module):
    """A Transformer over one token per code. Absent modalities are no keys, and learned tokens stand in their place."""

    def __init__(self, width: int, tokens: int, heads: int = 4, dropout: float = 0.1) -> None:
        super().__init__()
        self.kind = nn.Parameter(torch.randn(tokens, width) * 0.02)
        self.absent = nn.Parameter(torch.zeros(tokens, width))
        self.layer = TransformerLayer(width, heads, dropout, expansion=2)
        self.out = nn.Sequential(nn.Linear(tokens * width, width), nn.GELU(), Dropout(dropout))

    def forward(self, codes: Tensor, present: Tensor) -> Tensor:
        """(B, d) from codes (B, tokens, d) and those present (B, tokens)."""
        tokens = codes.where(present.unsqueeze(2), self.absent.to(codes.dtype)) + self.kind
        nothing = ~present.any(1, keepdim=True)  # a query needs a key, also where nothing is there
        tokens = self.layer(tokens, present | nothing)
        return self.out(tokens.flatten(1))


class Contribution(nn.Module):
    """How much each modality matters: how well it alone predicts a sample, half of it remembered over batches.

    r_m = softmax over present modalities of -e_m / tau        w = r / 2 + (running mean of r) / 2
    """

    running: Tensor

    def __init__(self, modalities: int, temperature: float = 0.5) -> None:
        super().__init__()
        self.temperature = temperature
        self.register_buffer("running", torch.full((modalities,), 1 / modalities))

    @torch.no_grad()
    def forward(self, errors: Tensor, present: Tensor) -> Tensor:
        """(B, M) weights that sum to 1 over present modalities, from the errors (B, M) of each modality alone."""
        errors = errors.masked_fill(~present, torch.inf)
        share = torch.softmax(-errors / self.temperature, dim=1).nan_to_num(0.0)
        if self.training:
            counted = present.sum(0)
            mean = share.sum(0) / counted.clamp(min=1)
            mean = torch.where(counted > 0, mean, self.running)
            self.running.lerp_(mean / mean.sum().clamp(min=1e-6), 1 - _DECAY)
        weights = (share + self.running * present) / 2
        return weights / weights.sum(1, keepdim=True).clamp(min=1e-6)


def uniform_contribution(present: Tensor) -> Tensor:
    return present / present.sum(1, keepdim=True).clamp(min=1)

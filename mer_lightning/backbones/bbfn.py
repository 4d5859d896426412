"""BBFN: text meets audio, and text meets vision, in two stacks of layers that let in only what a gate allows.

Shapes: B batch, T time, d width, M modalities.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mer_lightning.backbones.base import Backbone, Encoded
from mer_lightning.backbones.cross import CrossLayer, never_empty, selected
from mer_lightning.backbones.layers import masked_mean, sinusoidal_positions
from mer_lightning.batch import Batch
from mer_lightning.modalities import MODALITIES


class Complementation(nn.Module):
    """One layer of a pair: each side looks at the other, and a gate of both sides' means decides how much stays."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.look = nn.ModuleList(CrossLayer(width, heads, dropout) for _ in range(2))
        self.gate = nn.ModuleList(nn.Linear(2 * width, width) for _ in range(2))

    def forward(
        self, sides: tuple[Tensor, Tensor], valid: tuple[Tensor, Tensor], both: Tensor
    ) -> tuple[Tensor, Tensor]:
        means = [masked_mean(side, steps) for side, steps in zip(sides, valid, strict=True)]
        found = []
        for number in range(2):
            mine, other = sides[number], sides[1 - number]
            looked = self.look[number](mine, other, never_empty(valid[1 - number]))
            gate = torch.sigmoid(self.gate[number](torch.cat([means[number], means[1 - number]], 1))).unsqueeze(1)
            # Where the other side is absent there is nothing to let in.
            found.append(torch.where(both[:, None, None], mine + gate * (looked - mine), mine))
        return found[0], found[1]


class BBFN(Backbone):
    """Bi-bimodal fusion. Its pairs both hold text; a text that is absent leaves each other modality to itself.

    Args:
        dims: width of each modality's features; text must be among them.
        width: of the convolved features.
        layers: of each pair (our choice).
        heads: attention heads.
        dropout: of sub-layers.
        separation_weight: of the modality discriminator, which keeps the modalities' vectors tellable. The released
            code asks it in every layer of a pair; here it is asked of the vectors before they meet.
    """

    paper = "Han et al., ICMI 2021"

    def __init__(
        self,
        dims: dict[str, int],
        width: int = 40,
        layers: int = 2,
        heads: int = 5,
        dropout: float = 0.1,
        separation_weight: float = 0.1,
    ) -> None:
        super().__init__()
        others = [m for m in dims if m != "text"]
        self.separation_weight, self.width = separation_weight, width
        self.vector_widths = dict.fromkeys(dims, width)
        self.state_width = max(2 * len(others), 1) * width
        self.convolve = nn.ModuleDict({m: nn.Conv1d(dim, width, 3, padding=1) for m, dim in dims.items()})
        self.pairs = nn.ModuleDict(
            {m: nn.ModuleList(Complementation(width, heads, dropout) for _ in range(layers)) for m in others}
        )
        self.absent = nn.ParameterDict({m: nn.Parameter(torch.zeros(width)) for m in dims})
        self.residual = nn.Sequential(
            nn.Linear(self.state_width, self.state_width),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(self.state_width, self.state_width),
        )
        self.discriminator = nn.Linear(width, len(dims))

    def encode(self, batch: Batch) -> Encoded:
        sequences, valid = {}, {}
        for m, convolve in self.convolve.items():
            valid[m] = batch.valid_steps(m)
            steps = batch.features[m].where(valid[m].unsqueeze(2), 0.0)  # a convolution looks over the end
            steps = convolve(steps.transpose(1, 2)).transpose(1, 2)
            steps = steps + sinusoidal_positions(steps.shape[1], steps.shape[2], steps)
            sequences[m] = steps.where(valid[m].unsqueeze(2), 0.0)
        return Encoded({m: masked_mean(s, valid[m]) for m, s in sequences.items()}, sequences, valid)

    def fuse(self, encoded: Encoded, present: Tensor) -> Tensor:
        here = {m: present[:, n] for n, m in enumerate(MODALITIES) if m in encoded.sequences}
        sequences = {m: selected(s, here[m]) for m, s in encoded.sequences.items()}
        parts = [] if self.pairs else [self._mean("text", sequences["text"], encoded.valid["text"], here["text"])]
        for m, layers in self.pairs.items():
            sides = sequences["text"], sequences[m]
            valid = encoded.valid["text"] & here["text"].unsqueeze(1), encoded.valid[m] & here[m].unsqueeze(1)
            for layer in layers.children():
                sides = layer(sides, valid, here["text"] & here[m])
            parts.append(self._mean("text", sides[0], valid[0], here["text"]))
            parts.append(self._mean(m, sides[1], valid[1], here[m]))
        together = torch.cat(parts, 1)
        return together + self.residual(together)

    def _mean(self, modality: str, sequence: Tensor, valid: Tensor, here: Tensor) -> Tensor:
        mean = masked_mean(sequence, valid)
        return mean.where(here.unsqueeze(1), self.absent[modality].to(mean.dtype))

    def auxiliary_losses(self, encoded: Encoded, state: Tensor, batch: Batch) -> dict[str, tuple[Tensor, float]]:
        losses, rows = [], []
        for label, m in enumerate(encoded.vectors):
            here = batch.present[:, MODALITIES.index(m)]
            vector = encoded.vectors[m].where(here.unsqueeze(1), 0.0)
            target = torch.full((len(vector),), label, device=vector.device)
            losses.append(F.cross_entropy(self.discriminator(vector).float(), target, reduction="none") * here)
            rows.append(here.sum())
        value = torch.stack(losses).sum() / torch.stack(rows).sum().clamp(min=1)
        return {"separation": (value, self.separation_weight)}

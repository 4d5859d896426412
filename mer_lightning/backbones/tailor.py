"""TAILOR: private and common features of each modality, gathered step by step, and read by one query per label.

Shapes: B batch, T time, d width, M modalities, Q queries.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mer_lightning.backbones.base import Backbone, Encoded
from mer_lightning.backbones.cross import CrossLayer
from mer_lightning.backbones.layers import TransformerLayer, masked_mean, sinusoidal_positions
from mer_lightning.batch import Batch
from mer_lightning.losses.decoupling import reverse_gradient
from mer_lightning.modalities import MODALITIES


class TAILOR(Backbone):
    """Tailored multimodal learning. Common features are joined along time, so that modalities need no common length
    (the released code adds them up, which needs one). The vector of a modality is the mean of its steps.

    The released loss of the label on common features needs a head and is left out.

    Args:
        dims: width of each modality's features.
        width: of all layers.
        depth: layers of text, audio and vision.
        cross_layers: of each of the three encoders that join two sequences.
        heads: attention heads.
        dropout: of sub-layers.
        queries: one per label; the state holds them side by side.
        adversarial_weight: of telling modalities by their private features, and not by their common ones.
        orthogonality_weight: of the overlap of private and common features; unnormalised, hence small.
    """

    paper = "Zhang et al., AAAI 2022"

    def __init__(
        self,
        dims: dict[str, int],
        width: int = 256,
        depth: list[int] = [6, 4, 4],  # noqa: B006 (never changed; jsonargparse shows it in the help)
        cross_layers: int = 3,
        heads: int = 8,
        dropout: float = 0.3,
        queries: int = 6,
        adversarial_weight: float = 0.01,
        orthogonality_weight: float = 5e-6,
    ) -> None:
        super().__init__()
        self.weights = adversarial_weight, orthogonality_weight
        self.width, self.state_width = width, queries * width
        self.vector_widths = dict.fromkeys(dims, width)

        def layers(count: int) -> nn.ModuleList:
            return nn.ModuleList(TransformerLayer(width, heads, dropout, expansion=1) for _ in range(count))

        self.norm_input = nn.ModuleDict({m: nn.LayerNorm(dim) for m, dim in dims.items()})
        self.project = nn.ModuleDict({m: nn.Linear(dim, width) for m, dim in dims.items()})
        self.encoders = nn.ModuleDict({m: layers(depth[MODALITIES.index(m)]) for m in dims})
        self.private = nn.ModuleDict(
            {m: nn.Sequential(nn.Linear(width, width), nn.Dropout(0.1), nn.Tanh()) for m in dims}
        )
        self.common = nn.Sequential(nn.Linear(width, width), nn.Dropout(dropout), nn.Tanh())
        self.kind = nn.ParameterDict({name: nn.Parameter(torch.randn(width) * 0.02) for name in (*dims, "common")})
        self.nothing = nn.Parameter(torch.randn(width) * 0.02)  # always there, so that no attention is empty
        self.join = nn.ModuleList(layers(cross_layers) for _ in range(3))
        self.queries = nn.Parameter(torch.randn(queries, width) * 0.02)
        self.among = TransformerLayer(width, heads, dropout, expansion=1)
        self.read = CrossLayer(width, heads, dropout, expansion=1)
        self.discriminator = nn.Linear(width, len(dims))

    def encode(self, batch: Batch) -> Encoded:
        vectors, sequences, validity = {}, {}, {}
        for m, layers in self.encoders.items():
            valid = batch.valid_steps(m)
            steps = self.project[m](self.norm_input[m](batch.features[m]))
            steps = (steps + sinusoidal_positions(steps.shape[1], self.width, steps)).where(valid.unsqueeze(2), 0.0)
            steps, valid = self._with_nothing(steps, valid)
            for layer in layers.children():
                steps = layer(steps, valid)
            steps, valid = steps[:, 1:], valid[:, 1:]
            vectors[m], validity[m] = masked_mean(steps, valid), valid
            sequences[m] = torch.cat([self.private[m](steps), self.common(steps)], 2)
        return Encoded(vectors, sequences, validity)

    def fuse(self, encoded: Encoded, present: Tensor) -> Tensor:
        private, common = {}, []
        for number, m in enumerate(MODALITIES):
            if m in encoded.sequences:
                valid = encoded.valid[m] & present[:, number, None]
                kept = encoded.sequences[m].where(valid.unsqueeze(2), 0.0)
                own, shared = kept.split(self.width, 2)
                private[m] = own + self.kind[m].to(own.dtype), valid
                common.append((shared + self.kind["common"].to(shared.dtype), valid))
        spoken = [private[m] for m in ("text",) if m in private]
        unspoken = [private[m] for m in ("audio", "vision") if m in private]
        gathered = self._joined(0, unspoken) if unspoken else []
        gathered = self._joined(1, [*spoken, *gathered])
        ((memory, valid),) = self._joined(2, [*gathered, *common])
        queries = self.queries.to(memory.dtype).expand(len(present), -1, -1)
        queries = self.among(queries, torch.ones(queries.shape[:2], dtype=torch.bool, device=queries.device))
        return self.read(queries, memory, valid).flatten(1)

    def _joined(self, which: int, parts: list[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
        """Sequences one after the other, through one of the three encoders."""
        steps, valid = self._with_nothing(torch.cat([s for s, _ in parts], 1), torch.cat([v for _, v in parts], 1))
        for layer in self.join[which].children():
            steps = layer(steps, valid)
        return [(steps, valid)]

    def _with_nothing(self, steps: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        nothing = self.nothing.to(steps.dtype).expand(len(steps), 1, -1)
        return torch.cat([nothing, steps], 1), torch.cat([valid.new_ones(len(valid), 1), valid], 1)

    def auxiliary_losses(self, encoded: Encoded, state: Tensor, batch: Batch) -> dict[str, tuple[Tensor, float]]:
        told, overlaps, rows = [], [], []
        for label, m in enumerate(encoded.sequences):
            here = batch.present[:, MODALITIES.index(m)]
            valid = encoded.valid[m] & here.unsqueeze(1)
            private, common = encoded.sequences[m].where(valid.unsqueeze(2), 0.0).float().split(self.width, 2)
            target = torch.full((len(here),), label, device=here.device)
            for features in (masked_mean(private, valid), reverse_gradient(masked_mean(common, valid))):
                told.append(F.cross_entropy(self.discriminator(features).float(), target, reduction="none") * here)
            overlaps.append((private @ common.transpose(1, 2)).square().sum((1, 2)) * here)
            rows.append(here.sum())
        count = torch.stack(rows).sum().clamp(min=1)
        return {
            "adversarial": (torch.stack(told).sum() / count, self.weights[0]),
            "orthogonality": (torch.stack(overlaps).sum() / count, self.weights[1]),
        }

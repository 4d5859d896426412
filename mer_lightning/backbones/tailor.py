"""TAILOR: private and common features of every modality, joined from coarse to fine, and read by one query per label.

Each modality has a Transformer of its own, whose steps are split into private and common features. A discriminator must
tell the modality of both; the common features learn the opposite. Audio joins vision, then text joins both, then what
is private joins what is common. The queries read the result, and their outputs side by side are the state.

Shapes: B batch, T time, D input width, d width, Q queries.
"""

from __future__ import annotations

from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mer_lightning.backbones.base import Backbone, Encoded
from mer_lightning.batch import Batch
from mer_lightning.errors import Refusal
from mer_lightning.layers.attention import Attention
from mer_lightning.layers.cross_attention import never_empty
from mer_lightning.layers.dropout import Dropout
from mer_lightning.layers.pooling import masked_mean
from mer_lightning.layers.transformer import sinusoidal_positions
from mer_lightning.losses.decoupling import reverse_gradient, token_overlap
from mer_lightning.modalities import MODALITIES

Sequence = tuple[Tensor, Tensor]  # steps (B, T, d), and which of them are data (B, T)


class TAILOR(Backbone):
    """Private and common features, and a query for every label.

    What differs from the release, so that lengths may differ and an absent modality vanishes: common features follow
    one another in time, each with positions from 0 and no mark of its modality, where the release adds them up; the
    vector of a modality is the mean of its real steps, where CDaT's code flattens them; positions are sinusoidal. The
    loss of a classifier on common features needs a task and is left out.

    Args:
        dims: width of each modality's features; all three are needed.
        width: of all layers, also within their feed-forward parts.
        depth: layers of text, audio and vision.
        cross_depth: layers of each of the three encoders that join.
        heads: of attention.
        dropout: of layers, and on common features.
        queries: how many labels there are (1 for a regression); the state holds one output of each, side by side.
        adversarial_weight: of telling the modality of private and of common features.
        orthogonality_weight: of the overlap of features that should differ; it grows with width and length.
    """

    encoder_parts = ("encoders",)
    paper = "Zhang et al., AAAI 2022"

    def __init__(
        self,
        dims: dict[str, int],
        width: int = 256,
        depth: list[int] = [6, 4, 4],  # noqa: B006 (never changed; jsonargparse shows it in the help)
        cross_depth: int = 3,
        heads: int = 8,
        dropout: float = 0.3,
        queries: int = 6,
        adversarial_weight: float = 0.01,
        orthogonality_weight: float = 5e-6,
    ) -> None:
        super().__init__()
        if set(dims) != set(MODALITIES):
            raise Refusal("tailor", "text, audio and vision", ", ".join(dims), "choose another backbone")
        self.weights = {"adversarial": adversarial_weight, "orthogonality": orthogonality_weight}
        self.vector_widths = dict.fromkeys(dims, width)
        self.state_width = queries * width
        sizes = dict(zip(MODALITIES, depth, strict=True))
        self.encoders = nn.ModuleDict({m: Encoder(dims[m], width, sizes[m], heads, dropout) for m in MODALITIES})
        self.private = nn.ModuleDict(
            {m: nn.Sequential(nn.Linear(width, width), Dropout(0.1), nn.Tanh()) for m in MODALITIES}
        )
        self.common = nn.Sequential(nn.Linear(width, width), Dropout(dropout), nn.Tanh())
        self.discriminator = nn.Sequential(
            nn.Linear(width, width // 2), Dropout(0.1), nn.ReLU(), nn.Linear(width // 2, len(MODALITIES))
        )
        self.join_unspoken, self.join_text, self.join_common = (
            Join(width, cross_depth, heads, dropout) for _ in range(3)
        )
        self.queries = nn.Parameter(torch.randn(queries, width) * 0.02)
        self.norm_queries = nn.LayerNorm(width)
        self.dropout = Dropout(dropout)
        self.decoder = nn.TransformerDecoderLayer(width, heads, width, dropout, F.gelu, batch_first=True)

    def encode(self, batch: Batch) -> Encoded:
        """Vectors are means of steps; sequences are private and common features side by side (B, T, 2 d)."""
        vectors, sequences, key_masks = {}, {}, {}
        for m, encoder in self.encoders.items():
            key_masks[m] = batch.key_mask(m)
            steps = encoder(batch.features[m], key_masks[m])
            vectors[m] = masked_mean(steps, key_masks[m])
            sequences[m] = torch.cat([self.private[m](steps), self.common(steps)], dim=2)
        return Encoded(vectors, sequences, key_masks)

    def fuse(self, encoded: Encoded, present: Tensor) -> Tensor:
        private, common, key_masks = _split(encoded, present)
        text, audio, vision = ((private[m], key_masks[m]) for m in MODALITIES)
        joined = self.join_text([text], self.join_unspoken([audio], [vision]))
        joined = self.join_common(joined, [(common[m], key_masks[m]) for m in MODALITIES])
        memory, keys = (torch.cat(parts, dim=1) for parts in zip(*joined, strict=True))
        queries = self.dropout(self.norm_queries(self.queries).expand(len(present), -1, -1))
        read: Tensor = self.decoder(queries, memory, memory_key_padding_mask=~never_empty(keys))
        return read.flatten(1)

    def auxiliary_losses(self, encoded: Encoded, batch: Batch) -> dict[str, tuple[Tensor, float]]:
        """Only real steps of modalities that are present count, and a pair for the samples that have both.

        adversarial    sum over m of CE(C(private_m), m) + CE(C(reversed gradient of common_m), m), means over steps
        orthogonality  sum over pairs (m, n) of |private_m private_n^T|^2, and over m of |common_m private_m^T|^2,
                       means over samples
        """
        private, common, key_masks = _split(encoded, batch.present)
        here = {m: steps.any(1) for m, steps in key_masks.items()}
        with torch.autocast(batch.present.device.type, enabled=False):
            private, common = ({m: part.float() for m, part in parts.items()} for parts in (private, common))
            told = []
            for label, m in enumerate(MODALITIES):
                for features in (private[m], reverse_gradient(common[m])):
                    logits = self.discriminator(features).flatten(0, 1)
                    losses = F.cross_entropy(logits, logits.new_full((len(logits),), label).long(), reduction="none")
                    told.append(_mean(losses, key_masks[m].flatten()))
            apart = [
                _mean(token_overlap(private[m], private[n]), here[m] & here[n]) for m, n in combinations(private, 2)
            ]
            apart += [_mean(token_overlap(common[m], private[m]), here[m]) for m in private]
        values = {"adversarial": torch.stack(told).sum(), "orthogonality": torch.stack(apart).sum()}
        return {name: (value, self.weights[name]) for name, value in values.items()}


class Encoder(nn.Module):
    """(B, T, D) and key_mask (B, T) -> (B, T, d): layer norm of the features, projection, positions, layers."""

    def __init__(self, dim: int, width: int, depth: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm_features, self.project = nn.LayerNorm(dim), nn.Linear(dim, width)
        self.norm, self.dropout = nn.LayerNorm(width), Dropout(dropout)
        self.layers = Layers(width, depth, heads, dropout)

    def forward(self, features: Tensor, key_mask: Tensor) -> Tensor:
        steps = self.project(self.norm_features(features))
        steps = self.norm(steps + sinusoidal_positions(steps.shape[1], steps.shape[2], steps))
        return self.layers(self.dropout(steps).where(key_mask.unsqueeze(2), 0.0), key_mask)


class Join(nn.Module):
    """Two groups of sequences, marked by a learned type, one after the other through the same layers.

    Positions begin anew in every sequence: where a sequence begins would otherwise depend on how far those before it
    are padded.
    """

    def __init__(self, width: int, depth: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.types = nn.Parameter(torch.randn(2, width) * 0.02)
        self.norm, self.dropout = nn.LayerNorm(width), Dropout(dropout)
        self.layers = Layers(width, depth, heads, dropout)

    def forward(self, first: list[Sequence], second: list[Sequence]) -> list[Sequence]:
        """The same sequences, changed, those of ``first`` before those of ``second``."""
        marked = [
            steps + sinusoidal_positions(steps.shape[1], steps.shape[2], steps) + kind
            for kind, group in zip(self.types, (first, second), strict=True)
            for steps, _ in group
        ]
        masks = [key_mask for _, key_mask in [*first, *second]]
        steps, key_mask = torch.cat(marked, dim=1), torch.cat(masks, dim=1)
        steps = self.layers(self.dropout(self.norm(steps)), key_mask)
        return list(zip(steps.split([each.shape[1] for each in marked], dim=1), masks, strict=True))


class Layers(nn.ModuleList):
    """Post-norm layers, as in BERT; a feed-forward part as wide as the rest."""

    def __init__(self, width: int, depth: int, heads: int, dropout: float) -> None:
        super().__init__(Layer(width, heads, dropout) for _ in range(depth))

    def forward(self, steps: Tensor, key_mask: Tensor) -> Tensor:
        keys = never_empty(key_mask)
        for layer in self:
            steps = layer(steps, keys)
        return steps


class Layer(nn.Module):
    """norm(x + attention(x)), then norm(x + feed-forward(x))."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(width, heads, dropout)
        self.norm_attention = nn.LayerNorm(width)
        self.feed = nn.Sequential(nn.Linear(width, width), nn.GELU(), Dropout(dropout), nn.Linear(width, width))
        self.norm_feed = nn.LayerNorm(width)
        self.dropout = Dropout(dropout)

    def forward(self, steps: Tensor, keys: Tensor) -> Tensor:
        steps = self.norm_attention(steps + self.dropout(self.attention(steps, steps, keys)))
        return self.norm_feed(steps + self.dropout(self.feed(steps)))


def _split(encoded: Encoded, present: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """Private features, common features and real steps, with nothing left of modalities that are not present."""
    private, common, key_masks = {}, {}, {}
    for number, m in enumerate(MODALITIES):
        key_masks[m] = encoded.key_masks[m] & present[:, number, None]
        private[m], common[m] = encoded.sequences[m].where(key_masks[m].unsqueeze(2), 0.0).chunk(2, dim=2)
    return private, common, key_masks


def _mean(values: Tensor, counted: Tensor) -> Tensor:
    """Of the values that count; 0 where none does."""
    return values.where(counted, 0.0).sum() / counted.sum().clamp(min=1)

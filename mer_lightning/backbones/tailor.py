"""TAILOR: private and common features of every modality, joined from coarse to fine, and read by one query per label.

Each modality has a Transformer of its own, whose steps are split into private and common features. A discriminator has
to name the modality of both; common features are trained so that it cannot. Audio joins vision, then text joins both,
then the private features join the common ones; with fewer modalities, the joins that need the others are left out. The
queries attend to the result, and their outputs side by side are the state.

Shapes: B batch, T time, D input width, d width, Q queries.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mer_lightning.backbones.base import Backbone, Encoded
from mer_lightning.backbones.presets import Preset, resolve
from mer_lightning.batch import Batch
from mer_lightning.errors import Refusal
from mer_lightning.layers.attention import Attention
from mer_lightning.layers.cross_attention import never_empty
from mer_lightning.layers.dropout import Dropout
from mer_lightning.layers.pooling import masked_mean
from mer_lightning.layers.transformer import LearnedPositions, sinusoidal_positions
from mer_lightning.losses.decoupling import reverse_gradient, token_overlap
from mer_lightning.modalities import MODALITIES

_FAULTS: dict[str, tuple[Preset, ...]] = {
    "learned_positions": ("official",),
    "summed_common": ("official",),
    "padding_counts": ("official",),
    "shared_reader": ("official",),
    "small_epsilon": ("official",),
}
_DEVIATION = 0.02  # of what is learned and added to steps, when training begins

Sequence = tuple[Tensor, Tensor]  # steps (B, T, d), and which of them are data (B, T)


class TAILOR(Backbone):
    """Private and common features, and a query for every label.

    Under every preset, the vector of a modality is the mean of its real steps, where CDaT's code flattens them, and
    auxiliary losses are of real steps. The loss of a classifier on common features is left out: it needs a task.

    Args:
        dims: width of each modality's features.
        width: of all layers, also within their feed-forward parts.
        depth: layers of text, audio and vision.
        cross_depth: layers of each of the three encoders that join.
        heads: of attention.
        dropout: of layers, and on common features.
        queries: how many labels there are (1 for a regression); the state holds one output of each, side by side.
        adversarial_weight: of telling the modality of private and of common features.
        orthogonality_weight: of the overlap of features that should differ; it grows with width and length.
        steps: of a modality, for which there are learned positions.
        preset: which release to equal.
        learned_positions: choice of official: learned positions, which count on from one sequence to the next where
            sequences are joined, and fix how many steps there may be; fixed has sinusoids that begin anew in each.
        summed_common: of official: the common features of all modalities are added up step by step, so that all need
            equally many steps; in fixed they follow one another, with no mark of their modality.
        padding_counts: fault of official: padded steps of the common features are read like any others.
        shared_reader: choice of official: one linear layer reads every label from its query, so that the state is one
            number per query.
        small_epsilon: of official: layer norms add 1e-12 to a variance and not 1e-5.
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
        steps: int = 60,
        preset: Literal["fixed", "official"] = "fixed",
        learned_positions: bool | None = None,
        summed_common: bool | None = None,
        padding_counts: bool | None = None,
        shared_reader: bool | None = None,
        small_epsilon: bool | None = None,
    ) -> None:
        super().__init__()
        given = (learned_positions, summed_common, padding_counts, shared_reader, small_epsilon)
        self.faults = resolve(preset, _FAULTS, dict(zip(_FAULTS, given, strict=True)))
        self.weights = {"adversarial": adversarial_weight, "orthogonality": orthogonality_weight}
        self.vector_widths = dict.fromkeys(dims, width)
        self.state_width = queries if self.faults["shared_reader"] else queries * width
        epsilon = 1e-12 if self.faults["small_epsilon"] else 1e-5
        limit = steps if self.faults["learned_positions"] else None
        sizes = dict(zip(MODALITIES, depth, strict=True))
        self.encoders = nn.ModuleDict(
            {m: Encoder(dims[m], width, sizes[m], heads, dropout, limit, epsilon) for m in MODALITIES if m in dims}
        )
        self.private = nn.ModuleDict(
            {m: nn.Sequential(nn.Linear(width, width), Dropout(0.1), nn.Tanh()) for m in self.encoders}
        )
        self.common = nn.Sequential(nn.Linear(width, width), Dropout(dropout), nn.Tanh())
        self.discriminator = nn.Sequential(
            nn.Linear(width, width // 2), Dropout(0.1), nn.ReLU(), nn.Linear(width // 2, len(dims))
        )

        def join(sequences: int) -> Join:
            return Join(width, cross_depth, heads, dropout, limit and sequences * limit, epsilon)

        unspoken = len(dims) - ("text" in dims)
        self.join_unspoken = join(2) if unspoken == 2 else None
        self.join_text = join(1 + unspoken) if "text" in dims and unspoken else None
        self.join_common = join(len(dims) + (1 if self.faults["summed_common"] else len(dims)))
        self.queries = nn.Parameter(torch.randn(queries, width) * _DEVIATION)
        self.norm_queries = nn.LayerNorm(width, epsilon)
        self.dropout = Dropout(dropout)
        self.decoder = nn.TransformerDecoderLayer(width, heads, width, dropout, F.gelu, epsilon, batch_first=True)
        if self.faults["shared_reader"]:
            self.reader = nn.Sequential(nn.Linear(width, 1), Dropout(0.1))

    def encode(self, batch: Batch) -> Encoded:
        """Vectors are means of steps; sequences are private and common features side by side (B, T, 2 d)."""
        vectors, sequences, key_masks = {}, {}, {}
        for m, encoder in self.encoders.items():
            key_masks[m] = batch.key_mask(m)
            steps = encoder(batch.features[m], key_masks[m], keep_padding=self.faults["padding_counts"])
            vectors[m] = masked_mean(steps, key_masks[m])
            sequences[m] = torch.cat([self.private[m](steps), self.common(steps)], dim=2)
        return Encoded(vectors, sequences, key_masks)

    def fuse(self, encoded: Encoded, present: Tensor) -> Tensor:
        private, _, key_masks = _split(encoded, present)
        alone = {m: [(private[m], key_masks[m])] for m in private}
        joined = [sequence for m in ("audio", "vision") for sequence in alone.get(m, [])]
        if self.join_unspoken is not None:
            joined = self.join_unspoken(alone["audio"], alone["vision"])
        if "text" in alone:
            joined = alone["text"] if self.join_text is None else self.join_text(alone["text"], joined)
        joined = self.join_common(joined, self._common(encoded, present))
        memory, keys = (torch.cat(parts, dim=1) for parts in zip(*joined, strict=True))
        queries = self.dropout(self.norm_queries(self.queries).expand(present.shape[0], -1, -1))
        read: Tensor = self.decoder(queries, memory, memory_key_padding_mask=~never_empty(keys))
        return self.reader(read).squeeze(2) if self.faults["shared_reader"] else read.flatten(1)

    def _common(self, encoded: Encoded, present: Tensor) -> list[Sequence]:
        """The common features that are joined: one sequence per modality, or their sum."""
        if self.faults["padding_counts"]:
            every_step = {m: torch.ones_like(key_mask) for m, key_mask in encoded.key_masks.items()}
            encoded = replace(encoded, key_masks=every_step)
        _, common, key_masks = _split(encoded, present)
        if not self.faults["summed_common"]:
            return [(common[m], key_masks[m]) for m in common]
        if len({steps.shape[1] for steps in common.values()}) > 1:
            found = ", ".join(f"{steps.shape[1]} of {m}" for m, steps in common.items())
            remedy = "take an aligned corpus, or set `summed_common` to false"
            raise Refusal("tailor with summed_common", "equally many steps of all modalities", found, remedy)
        return [(torch.stack(list(common.values())).sum(0), torch.stack(list(key_masks.values())).any(0))]

    def auxiliary_losses(self, encoded: Encoded, batch: Batch) -> dict[str, tuple[Tensor, float]]:
        """Only real steps of modalities that are present count, and a pair for the samples that have both.

        adversarial    sum over m of CE(C(private_m), m) + CE(C(reversed gradient of common_m), m), means over steps
        orthogonality  sum over pairs (m, n) of |private_m private_n^T|^2, and over m of |common_m private_m^T|^2,
                       means over samples
        """
        private, common, key_masks = _split(encoded, batch.present)
        counted = {m: steps.any(1) for m, steps in key_masks.items()}
        with torch.autocast(batch.present.device.type, enabled=False):
            private, common = ({m: part.float() for m, part in parts.items()} for parts in (private, common))
            named = []
            for label, m in enumerate(private):
                for features in (private[m], reverse_gradient(common[m])):
                    logits = self.discriminator(features).flatten(0, 1)
                    losses = F.cross_entropy(logits, logits.new_full((len(logits),), label).long(), reduction="none")
                    named.append(_mean(losses, key_masks[m].flatten()))
            apart = [
                _mean(token_overlap(private[m], private[n]), counted[m] & counted[n])
                for m, n in combinations(private, 2)
            ]
            apart += [_mean(token_overlap(common[m], private[m]), counted[m]) for m in private]
        values = {"adversarial": torch.stack(named).sum(), "orthogonality": torch.stack(apart).sum()}
        return {name: (value, self.weights[name]) for name, value in values.items()}


class Encoder(nn.Module):
    """(B, T, D) and key_mask (B, T) -> (B, T, d): layer norm of the features, projection, positions, layers.

    Learned positions for ``limit`` steps, or sinusoids where it is None.
    """

    def __init__(
        self, dim: int, width: int, depth: int, heads: int, dropout: float, limit: int | None, epsilon: float
    ) -> None:
        super().__init__()
        self.norm_features, self.project = nn.LayerNorm(dim, epsilon), nn.Linear(dim, width)
        self.norm, self.dropout = nn.LayerNorm(width, epsilon), Dropout(dropout)
        self.layers = Layers(width, depth, heads, dropout, epsilon)
        self.positions = None if limit is None else LearnedPositions(limit, width, _DEVIATION)

    def forward(self, features: Tensor, key_mask: Tensor, keep_padding: bool = False) -> Tensor:
        """No step attends to padding. With ``keep_padding``, padded steps are computed from what they hold, not 0."""
        steps = self.project(self.norm_features(features))
        if self.positions is None:
            positions = sinusoidal_positions(steps.shape[1], steps.shape[2], steps)
        else:
            positions = self.positions(steps.shape[1])
        steps = self.dropout(self.norm(steps + positions))
        return self.layers(steps if keep_padding else steps.where(key_mask.unsqueeze(2), 0.0), key_mask)


class Join(nn.Module):
    """Two groups of sequences, marked by a learned type, one after the other through the same layers.

    Sinusoids begin anew in every sequence: where a sequence begins would otherwise depend on how far those before it
    are padded. Learned positions, for ``limit`` steps in all, count on from one sequence to the next, as released.
    """

    def __init__(
        self, width: int, depth: int, heads: int, dropout: float, limit: int | None = None, epsilon: float = 1e-5
    ) -> None:
        super().__init__()
        self.types = nn.Parameter(torch.randn(2, width) * _DEVIATION)
        self.norm, self.dropout = nn.LayerNorm(width, epsilon), Dropout(dropout)
        self.layers = Layers(width, depth, heads, dropout, epsilon)
        self.positions = None if limit is None else LearnedPositions(limit, width, _DEVIATION)

    def forward(self, first: list[Sequence], second: list[Sequence]) -> list[Sequence]:
        """The same sequences, changed, those of ``first`` before those of ``second``."""
        sizes = [steps.shape[1] for steps, _ in [*first, *second]]
        positions = self._positions(sizes, first[0][0])
        kinds = [kind for kind, group in zip(self.types, (first, second), strict=True) for _ in group]
        sequences, masks = zip(*first, *second, strict=True)
        marked = [steps + where + kind for steps, where, kind in zip(sequences, positions, kinds, strict=True)]
        steps, key_mask = torch.cat(marked, dim=1), torch.cat(masks, dim=1)
        steps = self.layers(self.dropout(self.norm(steps)), key_mask)
        return list(zip(steps.split(sizes, dim=1), masks, strict=True))

    def _positions(self, sizes: list[int], like: Tensor) -> list[Tensor]:
        """(T, d) of each sequence, which has so many steps."""
        if self.positions is None:
            return [sinusoidal_positions(steps, like.shape[2], like) for steps in sizes]
        return list(self.positions(sum(sizes)).split(sizes))


class Layers(nn.ModuleList):
    """Post-norm layers, as in BERT; a feed-forward part as wide as the rest."""

    def __init__(self, width: int, depth: int, heads: int, dropout: float, epsilon: float) -> None:
        super().__init__(Layer(width, heads, dropout, epsilon) for _ in range(depth))

    def forward(self, steps: Tensor, key_mask: Tensor) -> Tensor:
        keys = never_empty(key_mask)
        for layer in self:
            steps = layer(steps, keys)
        return steps


class Layer(nn.Module):
    """norm(x + attention(x)), then norm(x + feed-forward(x))."""

    def __init__(self, width: int, heads: int, dropout: float, epsilon: float) -> None:
        super().__init__()
        self.attention = Attention(width, heads, dropout)
        self.norm_attention = nn.LayerNorm(width, epsilon)
        self.feed = nn.Sequential(nn.Linear(width, width), nn.GELU(), Dropout(dropout), nn.Linear(width, width))
        self.norm_feed = nn.LayerNorm(width, epsilon)
        self.dropout = Dropout(dropout)

    def forward(self, steps: Tensor, keys: Tensor) -> Tensor:
        steps = self.norm_attention(steps + self.dropout(self.attention(steps, steps, keys)))
        return self.norm_feed(steps + self.dropout(self.feed(steps)))


def _split(encoded: Encoded, present: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """Private features, common features and key masks, zero and False at padding and in absent modalities."""
    private, common, key_masks = {}, {}, {}
    for number, m in enumerate(MODALITIES):
        if m not in encoded.sequences:
            continue
        key_masks[m] = encoded.key_masks[m] & present[:, number, None]
        private[m], common[m] = encoded.sequences[m].where(key_masks[m].unsqueeze(2), 0.0).chunk(2, dim=2)
    return private, common, key_masks


def _mean(values: Tensor, counted: Tensor) -> Tensor:
    """Of the values that count; 0 where none does."""
    return values.where(counted, 0.0).sum() / counted.sum().clamp(min=1)

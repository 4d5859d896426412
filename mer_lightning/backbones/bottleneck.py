"""Modalities that exchange information through a few bottleneck tokens: the default modern backbone.

Each modality has layers of its own. In the last layers its tokens also attend to a few bottleneck tokens, which are all
that the modalities share: every present modality proposes new bottleneck tokens, and the next layer gets their mean.
The cost grows linearly with the number of modalities, and one that is absent is left out of the mean.

Shapes: B batch, T time, S bottleneck tokens, D input width, d width, M modalities, K masks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mer_lightning.backbones.base import Backbone, Encoded
from mer_lightning.batch import Batch
from mer_lightning.layers.transformer import SequenceEncoder, TransformerLayer
from mer_lightning.modalities import MODALITIES


class Bottleneck(Backbone):
    """Attention bottlenecks between Transformers, in the manner of MBT.

    Args:
        dims: width of each modality's features.
        width: width of tokens, vectors and state.
        tokens: how many bottleneck tokens the modalities share.
        depth: layers of each modality alone.
        fusion_depth: layers after those, which share the bottleneck tokens.
        heads: attention heads.
        dropout: on tokens and sub-layers.
    """

    encoder_parts = ("encoders",)
    paper = "Nagrani et al., NeurIPS 2021"

    def __init__(
        self,
        dims: dict[str, int],
        width: int = 64,
        tokens: int = 4,
        depth: int = 1,
        fusion_depth: int = 2,
        heads: int = 4,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.state_width = width
        self.vector_widths = dict.fromkeys(dims, width)
        self.encoders = nn.ModuleDict(
            {m: SequenceEncoder(dim, width, depth, heads, dropout) for m, dim in dims.items()}
        )
        self.bottleneck = nn.Parameter(torch.randn(tokens, width) * 0.02)
        self.layers = nn.ModuleList(
            nn.ModuleDict({m: TransformerLayer(width, heads, dropout) for m in dims}) for _ in range(fusion_depth)
        )
        self.norm = nn.LayerNorm(width)

    def encode(self, batch: Batch) -> Encoded:
        key_masks = {m: batch.key_mask(m) for m in self.encoders}
        tokens = {m: encoder(batch.features[m], key_masks[m]) for m, encoder in self.encoders.items()}
        vectors, sequences = ({m: each[:, part] for m, each in tokens.items()} for part in (0, slice(1, None)))
        return Encoded(vectors, sequences, key_masks)

    def fuse(self, encoded: Encoded, present: Tensor) -> Tensor:
        return self.fuse_many(encoded, present.unsqueeze(0))[0]

    def fuse_many(self, encoded: Encoded, present: Tensor) -> Tensor:
        """The first layer with bottleneck tokens does not depend on which other modalities are present, so it is
        computed once for all K masks; only the means differ."""
        given = {m: present[:, :, MODALITIES.index(m), None, None] for m in encoded.vectors}  # (K, B, 1, 1)
        count = torch.stack(list(given.values())).sum(0).clamp(min=1)
        start = self.bottleneck.expand(present.shape[1], -1, -1)
        firsts = {m: self._layer(0, m, *self._stream(encoded, m), start) for m in given}
        shared = self._mean({m: proposal for m, (_, proposal) in firsts.items()}, given, count)
        streams = {m: stream.expand(present.shape[0], *stream.shape) for m, (stream, _) in firsts.items()}
        for number in range(1, len(self.layers)):
            proposals = {}
            for m, stream in streams.items():
                # An absent modality may hold anything, NaN included: zeros replace it before anything is computed.
                tokens = stream.where(given[m], 0.0).flatten(0, 1)
                key_mask = self._stream(encoded, m)[1].repeat(present.shape[0], 1)
                mixed, proposal = self._layer(number, m, tokens, key_mask, shared.flatten(0, 1))
                streams[m], proposals[m] = (each.unflatten(0, present.shape[:2]) for each in (mixed, proposal))
            shared = self._mean(proposals, given, count)
        return self.norm(self._mean(streams, given, count).squeeze(2))

    def _stream(self, encoded: Encoded, modality: str) -> tuple[Tensor, Tensor]:
        """Summary token and steps (B, 1 + T, d), and which of them are data."""
        vector, sequence, key_mask = (
            part[modality] for part in (encoded.vectors, encoded.sequences, encoded.key_masks)
        )
        return torch.cat([vector.unsqueeze(1), sequence], dim=1), torch.cat(
            [key_mask.new_ones(key_mask.shape[0], 1), key_mask], dim=1
        )

    def _layer(
        self, number: int, modality: str, tokens: Tensor, key_mask: Tensor, shared: Tensor
    ) -> tuple[Tensor, Tensor]:
        """One layer over a modality's own tokens and the bottleneck: its tokens, and the bottleneck it proposes.

        Of the last layer only the summary is read.
        """
        both = torch.cat([tokens, shared.to(tokens.dtype)], dim=1)
        keys = torch.cat([key_mask, key_mask.new_ones(shared.shape[:2])], dim=1)
        layer = self.layers[number][modality]  # type: ignore[index]
        mixed = layer(both, keys, first=1 if number == len(self.layers) - 1 else None)
        return mixed[:, : tokens.shape[1]], mixed[:, tokens.shape[1] :]

    @staticmethod
    def _mean(parts: dict[str, Tensor], given: dict[str, Tensor], count: Tensor) -> Tensor:
        """(K, B, S, d) mean of (B, S, d) or (K, B, S, d) over the modalities that are present; 0 where none is."""
        return torch.stack([part.where(given[m], 0.0) for m, part in parts.items()]).sum(0) / count

"""MISA: every modality split into what it shares with the others and what is its own.

One vector per modality (the mean of text, the last states of two stacked recurrences of audio and vision) is projected
to one width. A network of its own makes the private code of it, one network for all modalities makes the shared code.
The six codes are the tokens of one Transformer layer, and its outputs side by side are the state.

Three losses make the codes shared or private. Shared codes of two modalities are to have the same distribution. Private
codes are to be orthogonal to the shared ones and to each other. Both together are to reconstruct the projected vector.

Shapes: B batch, T time, D input width, d width of vectors and codes, M modalities.
"""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor, nn

from mer_lightning.backbones.base import Backbone, Encoded
from mer_lightning.backbones.presets import Preset, resolve
from mer_lightning.batch import Batch
from mer_lightning.layers.both_ways import BothWays
from mer_lightning.layers.pooling import masked_mean
from mer_lightning.losses.decoupling import cmd, orthogonality
from mer_lightning.modalities import MODALITIES

_FAULTS: dict[str, tuple[Preset, ...]] = {"text_lengths": ("mmsa",), "moving_target": ("mmsa", "official")}


class MISA(Backbone):
    """Modality-invariant and modality-specific codes.

    Args:
        dims: width of each modality's features.
        width: of projected vectors and codes; the state holds two codes of each modality.
        heads: of attention among the codes.
        feed: hidden width of the Transformer layer.
        dropout: of the Transformer layer.
        recurrent_text: read text with recurrences, too, as the paper does where it is not from BERT.
        sim_weight: of the difference in distribution between shared codes (central moments up to the fifth).
        diff_weight: of the overlap between codes that should be orthogonal; the loss grows with the batch.
        recon_weight: of the error in reconstructing projected vectors.
        preset: whose faults to repeat.
        text_lengths: fault of mmsa: audio and vision are read as far as the text is long.
        moving_target: fault of mmsa and official: the reconstruction also moves the vectors that it should hit.
    """

    encodes_alike = True
    encoder_parts = ("recurrences", "project", "shared")
    paper = "Hazarika et al., ACM MM 2020"

    def __init__(
        self,
        dims: dict[str, int],
        width: int = 128,
        heads: int = 2,
        feed: int = 2048,
        dropout: float = 0.1,
        recurrent_text: bool = False,
        sim_weight: float = 0.3,
        diff_weight: float = 0.1,
        recon_weight: float = 1.0,
        preset: Preset = "fixed",
        text_lengths: bool | None = None,
        moving_target: bool | None = None,
    ) -> None:
        super().__init__()
        self.faults = resolve(preset, _FAULTS, {"text_lengths": text_lengths, "moving_target": moving_target})
        self.vector_widths = dict.fromkeys(dims, width)
        self.state_width = 2 * len(dims) * width
        self.weights = {"sim": sim_weight, "diff": diff_weight, "recon": recon_weight}
        self.recurrences = nn.ModuleDict(
            {m: StackedRecurrences(dim) for m, dim in dims.items() if recurrent_text or m != "text"}
        )
        self.project = nn.ModuleDict(
            {
                m: nn.Sequential(
                    nn.Linear(4 * dim if m in self.recurrences else dim, width), nn.ReLU(), nn.LayerNorm(width)
                )
                for m, dim in dims.items()
            }
        )
        self.private = nn.ModuleDict({m: nn.Sequential(nn.Linear(width, width), nn.Sigmoid()) for m in dims})
        self.shared = nn.Sequential(nn.Linear(width, width), nn.Sigmoid())
        self.reconstruct = nn.ModuleDict({m: nn.Linear(width, width) for m in dims})
        self.fusion = nn.TransformerEncoderLayer(width, heads, feed, dropout, batch_first=True)

    def encode(self, batch: Batch) -> Encoded:
        """Vectors are shared codes; what stands for a sequence is the private code and the projected vector."""
        shared, others = {}, {}
        for m, project in self.project.items():
            projected = project(self._read(batch, m))
            shared[m] = self.shared(projected)
            others[m] = torch.stack([self.private[m](projected), projected], dim=1)
        return Encoded(shared, others)

    def _read(self, batch: Batch, modality: str) -> Tensor:
        features = batch.features[modality]
        if modality not in self.recurrences:
            return masked_mean(features, batch.key_mask(modality))
        measured = "text" if self.faults["text_lengths"] and "text" in batch.lengths else modality
        return self.recurrences[modality](features, batch.lengths[measured].clamp(max=features.shape[1]))

    def fuse(self, encoded: Encoded, present: Tensor) -> Tensor:
        tokens = torch.stack([s[:, 0] for s in encoded.sequences.values()] + [*encoded.vectors.values()], dim=1)
        given = torch.stack([present[:, MODALITIES.index(m)] for m in encoded.vectors], dim=1).repeat(1, 2)
        absent = ~given & given.any(
            1, keepdim=True
        )  # with nothing present, zeros are the keys: an empty softmax is NaN
        mixed = self.fusion(tokens.where(given.unsqueeze(2), 0.0), src_key_padding_mask=absent)
        return mixed.where(given.unsqueeze(2), 0.0).flatten(1)

    def auxiliary_losses(self, encoded: Encoded, batch: Batch) -> dict[str, tuple[Tensor, float]]:
        """Only modalities that a sample has count; a pair counts for the samples that have both.

        sim    mean over pairs (m, n) of CMD_5(shared_m, shared_n)
        diff   sum over m of Diff(private_m, shared_m), and over pairs (m, n) of Diff(private_m, private_n)
        recon  mean over m of the mean squared error of D_m(private_m + shared_m)
        """
        given = {m: batch.present[:, MODALITIES.index(m)] for m in encoded.vectors}
        pairs = list(combinations(given, 2))
        with torch.autocast(batch.present.device.type, enabled=False):
            shared = {m: vector.float() for m, vector in encoded.vectors.items()}
            private, projected = ({m: s[:, k].float() for m, s in encoded.sequences.items()} for k in (0, 1))
            alike = [cmd(shared[m], shared[n], rows=given[m] & given[n]) for m, n in pairs]
            apart = [orthogonality(private[m], shared[m], given[m]) for m in given]
            apart += [orthogonality(private[m], private[n], given[m] & given[n]) for m, n in pairs]
            reconstruction = []
            for m, decode in self.reconstruct.items():
                target = projected[m] if self.faults["moving_target"] else projected[m].detach()
                errors = (decode(private[m] + shared[m]) - target).square().mean(1)
                reconstruction.append(errors.where(given[m], 0.0).sum() / given[m].sum().clamp(min=1))
            losses = {"diff": torch.stack(apart).sum(), "recon": torch.stack(reconstruction).mean()}
            if alike:
                losses["sim"] = torch.stack(alike).mean()
        return {name: (value, self.weights[name]) for name, value in losses.items()}


class StackedRecurrences(nn.Module):
    """Last states (B, 4 D) of two bidirectional LSTMs, one upon the layer-normed steps (B, T, 2 D) of the other."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.first = BothWays(dim, dim)
        self.norm = nn.LayerNorm(2 * dim)
        self.second = BothWays(2 * dim, dim)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        steps, (forward_first, backward_first) = self.first(features, lengths)
        _, (forward_second, backward_second) = self.second(self.norm(steps), lengths)
        return torch.cat([forward_first, forward_second, backward_first, backward_second], dim=1)

"""ALMT: language at several scales decides what of audio and vision is gathered into a hyper-modality.

Each modality is read into a few learned tokens. The text's tokens go through two more layers; at each of the three
scales they ask audio and vision, and what they hear is added up. The text then looks at the sum.

Shapes: B batch, T time, S tokens per modality, d width, M modalities.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mer_lightning.backbones.base import Backbone, Encoded
from mer_lightning.backbones.cross import CrossLayer, never_empty, selected
from mer_lightning.backbones.layers import Attention, TransformerLayer, sinusoidal_positions
from mer_lightning.backbones.presets import Preset, resolve
from mer_lightning.batch import Batch
from mer_lightning.modalities import MODALITIES

_FAULTS: dict[str, tuple[Preset, ...]] = {"padding_counts": ("mmsa", "official")}


class TokenReader(nn.Module):
    """Learned tokens in front of a sequence, one Transformer layer, and the tokens are kept: (B, T, D) -> (B, S, d)."""

    def __init__(self, dim: int, width: int, tokens: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.project = nn.Linear(dim, width)
        self.tokens = nn.Parameter(torch.randn(tokens, width) * 0.02)
        self.layer = TransformerLayer(width, heads, dropout, expansion=2)

    def forward(self, features: Tensor, valid: Tensor) -> Tensor:
        steps = self.project(features)
        steps = (steps + sinusoidal_positions(steps.shape[1], steps.shape[2], steps)).where(valid.unsqueeze(2), 0.0)
        tokens = self.tokens.to(steps.dtype).expand(len(steps), -1, -1)
        valid = torch.cat([valid.new_ones(len(valid), len(self.tokens)), valid], 1)
        return self.layer(torch.cat([tokens, steps], 1), valid)[:, : len(self.tokens)]


class ALMT(Backbone):
    """Adaptive language-guided multimodal Transformer. Without text, learned tokens ask in its place.

    Args:
        dims: width of each modality's features; text must be among them.
        width: of tokens and state.
        tokens: into which each modality is read.
        heads: attention heads.
        depth: layers of the last Transformer, 2 for MOSI and 4 for MOSEI.
        dropout: of sub-layers (our choice; the released code has none).
        preset: whose faults to repeat.
        padding_counts: fault of mmsa and official: padded steps are read like any others.
    """

    paper = "Zhang et al., EMNLP 2023"

    def __init__(
        self,
        dims: dict[str, int],
        width: int = 128,
        tokens: int = 8,
        heads: int = 8,
        depth: int = 2,
        dropout: float = 0.1,
        preset: Preset = "fixed",
        padding_counts: bool | None = None,
    ) -> None:
        super().__init__()
        self.faults = resolve(preset, _FAULTS, {"padding_counts": padding_counts})
        self.state_width, self.vector_widths = width, dict.fromkeys(dims, width)
        self.readers = nn.ModuleDict({m: TokenReader(d, width, tokens, heads, dropout) for m, d in dims.items()})
        self.language = nn.ModuleList(TransformerLayer(width, heads, dropout, expansion=2) for _ in range(2))
        self.no_text = nn.Parameter(torch.randn(3, tokens, width) * 0.02)
        self.norm_text = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.ask = nn.ModuleDict(
            {m: nn.ModuleList(Attention(width, heads) for _ in range(3)) for m in dims if m != "text"}
        )
        self.hyper = nn.Parameter(torch.randn(tokens, width) * 0.02)
        self.summary = nn.Parameter(torch.randn(width) * 0.02)
        self.layers = nn.ModuleList(CrossLayer(width, heads, dropout, expansion=2) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def encode(self, batch: Batch) -> Encoded:
        sequences = {}
        for m, reader in self.readers.items():
            valid = batch.valid_steps(m)
            sequences[m] = reader(batch.features[m], torch.ones_like(valid) if self.faults["padding_counts"] else valid)
        return Encoded({m: tokens.mean(1) for m, tokens in sequences.items()}, sequences)

    def fuse(self, encoded: Encoded, present: Tensor) -> Tensor:
        scales = self._scales(encoded, present)
        hyper = self.hyper.to(scales[0].dtype).expand(len(present), -1, -1)
        for number, m in enumerate(MODALITIES):
            if m in self.ask:
                here = present[:, number]
                heard = selected(encoded.sequences[m], here)
                keys = never_empty(here.unsqueeze(1).expand(-1, heard.shape[1]))
                for scale, norm, ask in zip(scales, self.norm_text, list(self.ask[m].children()), strict=True):
                    hyper = hyper + selected(ask(norm(scale), heard, keys), here)
        text = torch.cat([self.summary.to(hyper.dtype).expand(len(present), 1, -1), scales[-1]], 1)
        everything = hyper.new_ones(len(present), hyper.shape[1], dtype=torch.bool)
        for layer in self.layers:
            text = layer(text, hyper, everything)
        return self.norm(text[:, 0])

    def _scales(self, encoded: Encoded, present: Tensor) -> list[Tensor]:
        """The text's tokens at three depths, or learned ones where there is no text."""
        if "text" not in encoded.sequences:
            return [each.expand(len(present), -1, -1) for each in self.no_text]
        here = present[:, 0]
        tokens = selected(encoded.sequences["text"], here)
        valid = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        scales = [tokens]
        for layer in self.language:
            scales.append(layer(scales[-1], valid))
        return [
            scale.where(here[:, None, None], none.to(scale.dtype))
            for scale, none in zip(scales, self.no_text, strict=True)
        ]

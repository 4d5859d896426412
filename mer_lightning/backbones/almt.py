"""ALMT: language at several scales decides what of audio and vision is gathered into a hyper-modality.

Each modality is read into a few learned tokens. The text's tokens go through two more layers, which makes three scales.
At each scale they are the queries to audio and vision, and what attention finds is added to the hyper-modality. In the
end a summary token and the text attend to the hyper-modality and, unless a fault is asked for, to the text itself. The
summary is the state.

Shapes: B batch, T time, S tokens per modality, D input width, d width, h heads.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mer_lightning.backbones.base import Backbone, Encoded
from mer_lightning.backbones.presets import Preset, resolve
from mer_lightning.batch import Batch
from mer_lightning.errors import Refusal
from mer_lightning.layers.attention import Attention, attend
from mer_lightning.layers.cross_attention import CrossLayer
from mer_lightning.layers.transformer import LearnedPositions, sinusoidal_positions
from mer_lightning.modalities import MODALITIES

_FAULTS: dict[str, tuple[Preset, ...]] = {
    "padding_counts": ("mmsa", "official"),
    "text_only_asks": ("mmsa", "official"),
    "learned_positions": ("mmsa", "official"),
    "norm_of_values": ("mmsa", "official"),
}
_SCALES = 3
_HEAD_WIDTH = 64  # of the released Transformers, whatever their width; the heads of the hyper-modality share the width


class ALMT(Backbone):
    """Adaptive language-guided multimodal Transformer.

    Without text, learned tokens are the queries in its place. The vector of a modality is the mean of its tokens (our
    choice).

    Args:
        dims: width of each modality's features; text and at least one other.
        width: of tokens, vectors and state.
        tokens: into which each modality is read.
        heads: of attention.
        depth: layers in which the text attends to the hyper-modality: 2 for MOSI, 4 for MOSEI.
        dropout: of sub-layers; the released model has none.
        steps: of text, audio and vision, for which there are learned positions.
        preset: which release to equal.
        padding_counts: fault of mmsa and official: padded steps are read like any others.
        text_only_asks: fault of both: the summary attends to the hyper-modality alone, so that text only selects from
            audio and vision, and with text alone the state is the same for every sample.
        learned_positions: choice of both: learned positions of tokens and steps, which fix how many steps there may be;
            fixed has sinusoids, and tokens need none, because they are learned themselves.
        norm_of_values: of both: values have a norm of their own, beside that of keys.
    """

    encoder_parts = ("readers",)
    paper = "Zhang et al., EMNLP 2023"

    def __init__(
        self,
        dims: dict[str, int],
        width: int = 128,
        tokens: int = 8,
        heads: int = 8,
        depth: int = 2,
        dropout: float = 0.0,
        steps: list[int] = [50, 500, 500],  # noqa: B006 (never changed; jsonargparse shows it in the help)
        preset: Preset = "fixed",
        padding_counts: bool | None = None,
        text_only_asks: bool | None = None,
        learned_positions: bool | None = None,
        norm_of_values: bool | None = None,
    ) -> None:
        super().__init__()
        others = [m for m in dims if m != "text"]
        if "text" not in dims or not others:
            raise Refusal("almt", "text and at least one other modality", ", ".join(dims), "choose another backbone")
        given = (padding_counts, text_only_asks, learned_positions, norm_of_values)
        self.faults = resolve(preset, _FAULTS, dict(zip(_FAULTS, given, strict=True)))
        self.state_width, self.vector_widths = width, dict.fromkeys(dims, width)

        def layer() -> CrossLayer:
            attention = Attention(width, heads, head_width=_HEAD_WIDTH, bias=False)
            return CrossLayer(width, attention, dropout, expansion=1, norms=3 if self.faults["norm_of_values"] else 2)

        longest = dict(zip(MODALITIES, steps, strict=True)) if self.faults["learned_positions"] else {}
        self.readers = nn.ModuleDict(
            {m: TokenReader(dim, width, tokens, layer(), longest.get(m)) for m, dim in dims.items()}
        )
        self.absent_text = nn.Parameter(torch.randn(tokens, width))
        self.places = nn.Parameter(torch.randn(tokens, width))
        self.language = nn.ModuleList(layer() for _ in range(_SCALES - 1))
        self.hyper = nn.Parameter(torch.ones(tokens, width))
        self.gather = nn.ModuleList(HyperLayer(width, heads, others) for _ in range(_SCALES))
        self.summary = nn.Parameter(torch.zeros(1, width))
        self.places_of_text = nn.Parameter(torch.randn(1 + tokens, width))
        self.places_of_hyper = nn.Parameter(torch.randn(1 + tokens, width))
        self.fusion = nn.ModuleList(layer() for _ in range(depth))

    def encode(self, batch: Batch) -> Encoded:
        sequences = {}
        for m, reader in self.readers.items():
            key_mask = batch.key_mask(m)
            sequences[m] = reader(
                batch.features[m], torch.ones_like(key_mask) if self.faults["padding_counts"] else key_mask
            )
        return Encoded({m: tokens.mean(1) for m, tokens in sequences.items()}, sequences)

    def fuse(self, encoded: Encoded, present: Tensor) -> Tensor:
        given = {m: present[:, MODALITIES.index(m), None, None] for m in encoded.sequences}
        others = {m: tokens.where(given[m], 0.0) for m, tokens in encoded.sequences.items()}
        text = others.pop("text").where(given.pop("text"), self.absent_text) + self.places
        hyper = self.hyper.expand_as(text)
        everything = torch.ones(text.shape[:2], dtype=torch.bool, device=text.device)
        for number, gather in enumerate(self.gather):
            if number:
                text = self.language[number - 1](text, text, everything)
            hyper = gather(hyper, text, others, given)
        summary = self.summary.expand(present.shape[0], 1, -1)
        text = torch.cat([summary, text], dim=1) + self.places_of_text
        hyper = torch.cat([summary, hyper], dim=1) + self.places_of_hyper
        for number, layer in enumerate(self.fusion, start=1):
            memory = hyper if self.faults["text_only_asks"] else torch.cat([hyper, text], dim=1)
            queries = text[:, :1] if number == len(self.fusion) else text  # only the summary is read in the end
            text = layer(queries, memory, torch.ones(memory.shape[:2], dtype=torch.bool, device=memory.device))
        return text[:, 0]


class TokenReader(nn.Module):
    """Learned tokens in front of a sequence, one Transformer layer, and the tokens are kept: (B, T, D) -> (B, S, d).

    Args:
        dim, width, tokens: D, d and S.
        layer: in which tokens attend to themselves and to the steps.
        limit: for how many steps there are learned positions; None for sinusoids.
    """

    def __init__(self, dim: int, width: int, tokens: int, layer: CrossLayer, limit: int | None = None) -> None:
        super().__init__()
        self.project = nn.Linear(dim, width)
        self.tokens = nn.Parameter(torch.randn(tokens, width))
        self.layer = layer
        self.positions = None if limit is None else LearnedPositions(tokens + limit, width, deviation=1.0)

    def forward(self, features: Tensor, key_mask: Tensor) -> Tensor:
        steps: Tensor = self.project(features)
        tokens: Tensor = self.tokens
        if self.positions is None:
            positions = sinusoidal_positions(steps.shape[1], steps.shape[2], steps)
        else:
            of_tokens, positions = self.positions(len(tokens) + steps.shape[1]).tensor_split([len(tokens)])
            tokens = tokens + of_tokens
        steps = (steps + positions).where(key_mask.unsqueeze(2), 0.0)
        tokens = tokens.to(steps.dtype).expand(steps.shape[0], -1, -1)
        key_mask = torch.cat([key_mask.new_ones(tokens.shape[:2]), key_mask], dim=1)
        # Only the tokens are kept, so only they are queries.
        return self.layer(tokens, torch.cat([tokens, steps], dim=1), key_mask)


class HyperLayer(nn.Module):
    """h' = norm(h) + W sum over present m of attention(norm(text), norm(m)).

    The query and the output are one for all modalities, keys and values each modality's own. The hyper-modality's norm
    is in its residual path, as released.
    """

    def __init__(self, width: int, heads: int, others: list[str]) -> None:
        super().__init__()
        self.heads = heads
        self.norm_text, self.norm_hyper = nn.LayerNorm(width), nn.LayerNorm(width)
        self.norms = nn.ModuleDict({m: nn.LayerNorm(width) for m in others})
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.ModuleDict({m: nn.Linear(width, 2 * width, bias=False) for m in others})
        self.out = nn.Linear(width, width)

    def forward(self, hyper: Tensor, text: Tensor, others: dict[str, Tensor], present: dict[str, Tensor]) -> Tensor:
        """(B, S, d) from hyper and text, and of each other modality the tokens (B, S, d) and presence (B, 1, 1)."""
        q = self.query(self.norm_text(text)).unflatten(2, (self.heads, -1)).transpose(1, 2)
        total = torch.zeros_like(text)
        for m, tokens in others.items():
            k, v = self.key_value[m](self.norms[m](tokens)).unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
            mixed = attend(q, k, v).transpose(1, 2).flatten(2)
            total = total + mixed.where(present[m], 0.0)
        return self.norm_hyper(hyper) + self.out(total)

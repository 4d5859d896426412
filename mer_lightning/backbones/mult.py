"""Multimodal Transformer: every modality attends to every other one, without alignment.

A target m has one stack of layers for each source n, in which the steps of m attend to those of n. The two results are
concatenated and go through a Transformer over the target alone, whose last step is kept. The last steps of the three
targets, after a residual block, are the state. Of two modalities, each target has one source.

Shapes: B batch, T time of the target, S time of the source, D input width, d width of a stream, K masks.
"""

from __future__ import annotations

import math
from itertools import product

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
from mer_lightning.layers.pooling import last_step, masked_mean
from mer_lightning.layers.transformer import sinusoidal_positions
from mer_lightning.layers.ways import quick_on_cpu
from mer_lightning.modalities import MODALITIES

_FAULTS: dict[str, tuple[Preset, ...]] = {
    "no_positions": ("mmsa",),
    "positions_from_one": ("mmsa", "official"),
    "zero_is_padding": ("mmsa", "official"),
    "padding_counts": ("mmsa", "official"),
    "future_mask": ("mmsa", "official"),
    "shrinking_convolution": ("mmsa", "official"),
    "unprojected": ("mmsa", "official"),
}


class MulT(Backbone):
    """Pairwise cross-modal Transformers.

    Args:
        dims: width of each modality's features; at least two are needed.
        width: d.
        depth: layers of each cross-modal Transformer; those that follow have at least three.
        heads: attention heads.
        kernels: steps that the convolution on text, audio and vision looks at.
        dropout: on the input of Transformers, after sub-layers, and within the feed-forward parts.
        attention_dropout: on attention weights; the paper's recipe has .1, 0 is quicker and takes less memory.
        preset: which release to equal.
        no_positions: fault of mmsa: Transformers do not know the order of steps.
        positions_from_one: choice of mmsa and official: the first step has position 1, and the slowest sinusoid has
            exactly the rate 1/10000.
        zero_is_padding: fault of both, where there are positions: a step whose first channel is 0 gets none.
        padding_counts: fault of both: padded steps are keys, and the last step read may be padding.
        future_mask: of both: a step sees no later ones, by an offset that depends on how far a batch is padded.
        shrinking_convolution: of both: convolutions cut off the ends of a sequence.
        unprojected: of both: a modality whose features already have the width d is not projected.
    """

    encodes_alike = True
    encoder_parts = ("project",)
    paper = "Tsai et al., ACL 2019"

    def __init__(
        self,
        dims: dict[str, int],
        width: int = 30,
        depth: int = 5,
        heads: int = 5,
        kernels: list[int] = [1, 1, 1],  # noqa: B006 (never changed; jsonargparse shows it in the help)
        dropout: float = 0.1,
        attention_dropout: float = 0.0,
        preset: Preset = "fixed",
        no_positions: bool | None = None,
        positions_from_one: bool | None = None,
        zero_is_padding: bool | None = None,
        padding_counts: bool | None = None,
        future_mask: bool | None = None,
        shrinking_convolution: bool | None = None,
        unprojected: bool | None = None,
    ) -> None:
        super().__init__()
        if len(dims) < 2:
            raise Refusal(
                "mult", "modalities that attend to each other", f"only {', '.join(dims)}", "take another backbone"
            )
        given = (
            no_positions,
            positions_from_one,
            zero_is_padding,
            padding_counts,
            future_mask,
            shrinking_convolution,
            unprojected,
        )
        self.faults = resolve(preset, _FAULTS, dict(zip(_FAULTS, given, strict=True)))
        self.vector_widths = dict.fromkeys(dims, width)
        sources = len(dims) - 1
        self.state_width = len(dims) * sources * width
        self.project = nn.ModuleDict(
            {
                m: nn.Identity()
                if self.faults["unprojected"] and dims[m] == width
                else nn.Conv1d(dims[m], width, kernel, bias=False)
                for m, kernel in zip(MODALITIES, kernels, strict=True)
                if m in dims
            }
        )

        def stack(size: int, layers: int) -> Stack:
            return Stack(size, heads, layers, dropout, attention_dropout, self.faults)

        self.streams = nn.ModuleDict({f"{m}_{n}": stack(width, depth) for m in dims for n in dims if m != n})
        self.memories = nn.ModuleDict({m: stack(sources * width, max(depth, 3)) for m in dims})
        state = self.state_width
        self.residual = nn.Sequential(nn.Linear(state, state), nn.ReLU(), Dropout(dropout), nn.Linear(state, state))

    def encode(self, batch: Batch) -> Encoded:
        sequences, key_masks = {}, {}
        for m, project in self.project.items():
            steps = batch.key_mask(m)
            features = batch.features[m].where(steps.unsqueeze(2), 0.0).transpose(1, 2)
            lost = project.kernel_size[0] - 1 if isinstance(project, nn.Conv1d) else 0
            if not self.faults["shrinking_convolution"]:
                features = F.pad(features, (lost // 2, lost - lost // 2))
                lost = 0
            sequences[m] = project(features).transpose(1, 2)
            key_masks[m] = steps[:, lost:]
            if self.faults["padding_counts"]:
                key_masks[m] = torch.ones_like(key_masks[m])
        return Encoded({m: masked_mean(sequences[m], key_masks[m]) for m in sequences}, sequences, key_masks)

    def fuse(self, encoded: Encoded, present: Tensor) -> Tensor:
        return self.fuse_many(encoded, present.unsqueeze(0))[0]

    def fuse_many(self, encoded: Encoded, present: Tensor) -> Tensor:
        """Streams depend on their own two modalities alone and are computed once for all K masks.

        The Transformer that follows depends, for one target, on which of its sources are present: four cases of two
        sources. Where there are no more cases than masks, all cases are computed, and each mask selects one.
        """
        masks, samples = present.shape[:2]
        given = {m: present[:, :, number] for number, m in enumerate(MODALITIES) if m in self.project}
        lasts = []
        for m in given:
            sources = [n for n in given if n != m]
            streams = [(self._stream(encoded, m, n), self._alone(encoded, m, n, given[n])) for n in sources]
            cases = torch.tensor([*product((False, True), repeat=len(sources))], device=present.device).T  # (S, cases)
            if masks < cases.shape[1]:
                last = self._last(encoded, m, streams, torch.stack([given[n] for n in sources]))
            else:
                each = self._last(encoded, m, streams, cases.unsqueeze(2).expand(-1, -1, samples))
                case = torch.stack([given[n].long() << place for place, n in enumerate(reversed(sources))]).sum(0)
                last = each.gather(0, case.unsqueeze(2).expand(-1, -1, each.shape[2]))
            lasts.append(last.where(given[m].unsqueeze(2), 0.0))
        joined = torch.cat(lasts, dim=2)
        return joined + self.residual(joined)

    def _stream(self, encoded: Encoded, target: str, source: str) -> Tensor:
        stack = self.streams[f"{target}_{source}"]
        return stack(encoded.sequences[target], encoded.sequences[source], encoded.key_masks[source])

    def _alone(self, encoded: Encoded, target: str, source: str, source_present: Tensor) -> Tensor | None:
        """The stream of a target whose source is absent: attention adds zeros, so that the target is all there is.

        None if the source is present in every sample, as in most training. On a GPU that is not asked, because the
        host would have to wait for the answer.
        """
        if quick_on_cpu(source_present) and source_present.all():
            return None
        stack: Stack = self.streams[f"{target}_{source}"]  # type: ignore[assignment]
        return stack.without_attention(encoded.sequences[target])

    def _last(
        self, encoded: Encoded, target: str, streams: list[tuple[Tensor, Tensor | None]], sources: Tensor
    ) -> Tensor:
        """(K, B, S d): the last step of a target, given which of its S ``sources`` (S, K, B) are present."""
        masks = sources.shape[1]
        parts = []
        for (stream, alone), present in zip(streams, sources, strict=True):
            if alone is None:
                chosen = stream.expand(masks, *stream.shape)
            else:
                chosen = stream.where(present[:, :, None, None], alone)
            parts.append(chosen.flatten(0, 1))
        key_mask = encoded.key_masks[target].repeat(masks, 1)
        memory: Stack = self.memories[target]  # type: ignore[assignment]
        return memory.last(torch.cat(parts, dim=2), key_mask).unflatten(0, (masks, -1))


class Stack(nn.Module):
    """Layers over one sequence that attends to another, or to itself."""

    def __init__(
        self, width: int, heads: int, depth: int, dropout: float, attention_dropout: float, faults: dict[str, bool]
    ) -> None:
        super().__init__()
        self.faults = faults
        self.dropout = Dropout(dropout)
        self.layers = nn.ModuleList(Layer(width, heads, dropout, attention_dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, target: Tensor, source: Tensor, key_mask: Tensor) -> Tensor:
        """(B, T, d) of target (B, T, d), which attends to the real steps (key_mask (B, S)) of source (B, S, d)."""
        tokens, memory, keys = self._embed(target), self._embed(source), self._keys(target, key_mask)
        for layer in self.layers:
            tokens = layer(tokens, memory, keys)
        return self.norm(tokens)

    def last(self, sequence: Tensor, key_mask: Tensor) -> Tensor:
        """(B, d): the last real step (key_mask (B, T)) of a sequence (B, T, d) that attends to itself.

        Only the last step is read, so in the last layer it is the only query: the others would take most of the time.
        """
        tokens, keys, lengths = self._embed(sequence), self._keys(sequence, key_mask), key_mask.sum(1)
        *layers, final = self.layers
        for layer in layers:
            tokens = layer(tokens, None, keys)
        query = last_step(tokens, lengths).unsqueeze(1)
        return self.norm(final(query, tokens, keys if keys.dim() == 2 else last_step(keys, lengths))).squeeze(1)

    def _keys(self, target: Tensor, key_mask: Tensor) -> Tensor:
        """Valid keys (B, S), or for each query (B, T, S)."""
        keys = never_empty(key_mask)
        if self.faults["future_mask"]:
            queries, steps = target.shape[1], key_mask.shape[1]
            past = torch.ones(queries, steps, dtype=torch.bool, device=key_mask.device).tril(abs(steps - queries))
            keys = keys.unsqueeze(1) & past
        return keys

    def without_attention(self, target: Tensor) -> Tensor:
        """(B, T, d) of target (B, T, d): the same layers without what attention adds, only their feed-forward parts."""
        tokens = self._embed(target)
        for layer in self.layers.children():
            assert isinstance(layer, Layer)
            tokens = layer.feed_forward(tokens)
        return self.norm(tokens)

    def _embed(self, sequence: Tensor) -> Tensor:
        embedded = sequence * math.sqrt(sequence.shape[2])
        if not self.faults["no_positions"]:
            make = released_positions if self.faults["positions_from_one"] else sinusoidal_positions
            positions = make(sequence.shape[1], sequence.shape[2], sequence)
            if self.faults["zero_is_padding"]:
                positions = positions * (sequence[:, :, :1] != 0)
            embedded = embedded + positions
        return self.dropout(embedded)


class Layer(nn.Module):
    """Pre-norm attention, to the sequence itself or to another, and a feed-forward part four times as wide."""

    def __init__(self, width: int, heads: int, dropout: float, attention_dropout: float) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)  # of queries and keys alike, as released
        self.attention = Attention(width, heads, attention_dropout)
        self.norm_feed = nn.LayerNorm(width)
        self.feed = nn.Sequential(nn.Linear(width, 4 * width), nn.ReLU(), Dropout(dropout), nn.Linear(4 * width, width))
        self.dropout = Dropout(dropout)

    def forward(self, tokens: Tensor, memory: Tensor | None, keys: Tensor) -> Tensor:
        normed = self.norm_attention(tokens)
        normed_memory = normed if memory is None else self.norm_attention(memory)
        return self.feed_forward(tokens + self.dropout(self.attention(normed, normed_memory, keys)))

    def feed_forward(self, tokens: Tensor) -> Tensor:
        """(B, T, d) of (B, T, d): the second half of the layer, which treats every step alone."""
        return tokens + self.dropout(self.feed(self.norm_feed(tokens)))


@torch.no_grad()
def released_positions(steps: int, width: int, like: Tensor) -> Tensor:
    """(T, d): the released sinusoids, sines in the first half of the columns and cosines in the second.

    Step t has position t + 1, and column i the rate 10000^(-i / (d/2 - 1)); where d is odd, the last column is 0.
    """
    half = width // 2
    rates = torch.exp(torch.arange(half, device=like.device) * (-math.log(10000.0) / max(half - 1, 1)))
    angles = torch.arange(1, steps + 1, device=like.device).unsqueeze(1) * rates
    return F.pad(torch.cat([angles.sin(), angles.cos()], dim=1), (0, width % 2)).to(like.dtype)

"""BBFN: text is paired with audio and with vision, and each pair goes through a stack of gated layers.

In every layer each side of a pair attends to the other. One gate sets how much of a side is kept, another how much of
what attention found is added. Both gates read a code of each side. A discriminator has to name the side of a code,
which keeps the codes of the two sides different. The first steps of all sides, after a residual block, are the state.

Shapes: B batch, T time, D input width, d width.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mer_lightning.backbones.base import Backbone, Encoded
from mer_lightning.backbones.presets import Preset, resolve
from mer_lightning.batch import Batch
from mer_lightning.errors import Refusal
from mer_lightning.layers.attention import Attention
from mer_lightning.layers.both_ways import BothWays
from mer_lightning.layers.cross_attention import CrossLayer
from mer_lightning.layers.pooling import masked_mean
from mer_lightning.layers.recurrence import GRU
from mer_lightning.modalities import MODALITIES

_FAULTS: dict[str, tuple[Preset, ...]] = {"relu": ("official",), "shared_norm": ("official",)}

# {other modality: the two sides of its pair with text, and the codes of both in every layer}
PairOutputs = dict[str, tuple[list[Tensor], list[list[Tensor]]]]


class BBFN(Backbone):
    """Bi-bimodal fusion.

    A sequence of one learned step replaces an absent modality: the other side of its pair attends to it, and it attends
    to the other side, so that without text a pair still reads all of audio or vision. As released, no positions are
    added: the convolution and the recurrences depend on the order of steps, attention does not.

    Args:
        dims: width of each modality's features; text and at least one other.
        width: of steps and vectors; the state holds two steps of each pair.
        depth: layers of each pair.
        heads: of attention.
        dropout: of sub-layers.
        attention_dropout: on attention weights; the released code has .1, 0 is quicker and takes less memory.
        separation_weight: of the discriminator's loss, which is a mean over layers.
        preset: which release to equal.
        relu: choice of official: ReLU in the feed-forward parts, where fixed has GELU.
        shared_norm: of official: queries and memory of a layer have one norm, where fixed has two.
    """

    encodes_alike = True
    encoder_parts = ("convolve",)
    paper = "Han et al., ICMI 2021"

    def __init__(
        self,
        dims: dict[str, int],
        width: int = 40,
        depth: int = 5,
        heads: int = 5,
        dropout: float = 0.1,
        attention_dropout: float = 0.0,
        separation_weight: float = 0.1,
        preset: Literal["fixed", "official"] = "fixed",
        relu: bool | None = None,
        shared_norm: bool | None = None,
    ) -> None:
        super().__init__()
        others = [m for m in dims if m != "text"]
        if "text" not in dims or not others:
            raise Refusal("bbfn", "text and at least one other modality", ", ".join(dims), "choose another backbone")
        self.faults = resolve(preset, _FAULTS, {"relu": relu, "shared_norm": shared_norm})
        self.separation_weight = separation_weight
        self.vector_widths = dict.fromkeys(dims, width)
        self.state_width = 2 * len(others) * width
        self.convolve = nn.ModuleDict({m: nn.Conv1d(dim, width, 3, padding=1, bias=False) for m, dim in dims.items()})
        self.absent = nn.ParameterDict({m: nn.Parameter(torch.randn(width) * 0.1) for m in dims})

        def layer() -> GatedLayer:
            norms: Literal[1, 2] = 1 if self.faults["shared_norm"] else 2
            activation = nn.ReLU if self.faults["relu"] else nn.GELU
            return GatedLayer(width, heads, dropout, attention_dropout, norms, activation)

        self.pairs = nn.ModuleDict({m: Pair(width, depth, layer) for m in others})
        self.residual = nn.Sequential(
            nn.Linear(self.state_width, self.state_width), nn.ReLU(), nn.Linear(self.state_width, self.state_width)
        )

    def encode(self, batch: Batch) -> Encoded:
        sequences, key_masks = {}, {}
        for m, convolve in self.convolve.items():
            key_masks[m] = batch.key_mask(m)
            # The convolution of the last real step also reads the padded one behind it.
            features = batch.features[m].where(key_masks[m].unsqueeze(2), 0.0)
            sequences[m] = convolve(features.transpose(1, 2)).transpose(1, 2)
        return Encoded({m: masked_mean(steps, key_masks[m]) for m, steps in sequences.items()}, sequences, key_masks)

    def fuse(self, encoded: Encoded, present: Tensor) -> Tensor:
        return self._state(self._pairs(encoded, present))

    def fuse_with_losses(self, encoded: Encoded, batch: Batch) -> tuple[Tensor, dict[str, tuple[Tensor, float]]]:
        pairs = self._pairs(encoded, batch.present)
        return self._state(pairs), self._losses(pairs, batch.present)

    def auxiliary_losses(self, encoded: Encoded, batch: Batch) -> dict[str, tuple[Tensor, float]]:
        return self._losses(self._pairs(encoded, batch.present), batch.present)

    def _pairs(self, encoded: Encoded, present: Tensor) -> PairOutputs:
        sequences, key_masks = {}, {}
        for m, steps in encoded.sequences.items():
            given = present[:, MODALITIES.index(m), None]
            first = torch.arange(steps.shape[1], device=steps.device) == 0
            replacement = self.absent[m].to(steps.dtype).where(first.unsqueeze(1), 0.0)
            sequences[m] = steps.where(given.unsqueeze(2), replacement)
            key_masks[m] = encoded.key_masks[m].where(given, first)
        return {
            m: pair([sequences["text"], sequences[m]], [key_masks["text"], key_masks[m]])
            for m, pair in self.pairs.items()
        }

    def _state(self, pairs: PairOutputs) -> Tensor:
        heads = [side[:, 0] for sides, _ in pairs.values() for side in sides]
        joined = torch.cat(heads, dim=1)
        return joined + self.residual(joined)

    def _losses(self, pairs: PairOutputs, present: Tensor) -> dict[str, tuple[Tensor, float]]:
        """separation: mean over pairs, layers and present sides of the discriminator's cross-entropy."""
        total, count = [], []
        with torch.autocast(present.device.type, enabled=False):
            for m, (_, codes) in pairs.items():
                logits = self.pairs[m].side_logits(codes)  # type: ignore[operator]
                losses = F.softplus(torch.stack([-logits[:, 0], logits[:, 1]], dim=1))
                counted = present[:, [MODALITIES.index("text"), MODALITIES.index(m)]].T.expand_as(losses)
                total.append(losses.where(counted, 0.0).sum())
                count.append(counted.sum())
        value = torch.stack(total).sum() / torch.stack(count).sum().clamp(min=1)
        return {"separation": (value, self.separation_weight)}


class Pair(nn.Module):
    """The layers in which text and one other modality attend to each other.

    Args:
        width: d.
        depth: how many layers there are.
        layer: makes one side of one layer.
    """

    def __init__(self, width: int, depth: int, layer: Callable[[], GatedLayer]) -> None:
        super().__init__()

        def two(make: Callable[[], nn.Module]) -> nn.ModuleList:
            return nn.ModuleList(make() for _ in range(2))

        self.codes = nn.ModuleList(
            two(partial(RecurrentCode if number else MeanCode, width)) for number in range(depth)
        )
        self.looks = nn.ModuleList(two(layer) for _ in range(depth))
        self.tell = nn.ModuleList(  # discriminators
            nn.Sequential(nn.Linear(width, 4 * width), nn.ReLU(), nn.Linear(4 * width, 1)) for _ in range(depth)
        )

    def forward(self, sides: list[Tensor], key_masks: list[Tensor]) -> tuple[list[Tensor], list[list[Tensor]]]:
        """The first step (B, 1, d) of both sides after the last layer, and for every layer the codes (B, d) of both."""
        all_codes = []
        for number, (code, layer) in enumerate(zip(self.codes, self.looks, strict=True), start=1):
            codes = [code[n](sides[n], key_masks[n]) for n in (0, 1)]  # type: ignore[index]
            both = torch.cat(codes, dim=1)
            queries = [side[:, :1] for side in sides] if number == len(self.looks) else sides
            sides = [layer[n](queries[n], sides[1 - n], key_masks[1 - n], both) for n in (0, 1)]  # type: ignore[index]
            all_codes.append(codes)
        return sides, all_codes

    def side_logits(self, codes: list[list[Tensor]]) -> Tensor:
        """(layers, 2, B) logits of being text."""
        pairs = zip(self.tell, codes, strict=True)
        return torch.stack([discriminator(torch.stack(both).float()).squeeze(2) for discriminator, both in pairs])


class MeanCode(nn.Module):
    """(B, d) linear map of the mean of the real steps."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, steps: Tensor, key_mask: Tensor) -> Tensor:
        return self.linear(masked_mean(steps, key_mask))


class RecurrentCode(nn.Module):
    """(B, d) mean over real steps and both directions of a recurrence's outputs."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.recurrence = BothWays(width, width, GRU)

    def forward(self, steps: Tensor, key_mask: Tensor) -> Tensor:
        outputs, _ = self.recurrence(steps, key_mask.sum(1))
        return masked_mean(outputs, key_mask).unflatten(1, (2, -1)).mean(1)


class GatedLayer(CrossLayer):
    """keep * x + take * attention(norm x, norm memory), both gates from the codes; then x + feed-forward(norm x)."""

    def __init__(
        self,
        width: int,
        heads: int,
        dropout: float,
        attention_dropout: float,
        norms: Literal[1, 2] = 2,
        activation: type[nn.Module] = nn.GELU,
    ) -> None:
        attention = Attention(width, heads, attention_dropout)
        super().__init__(width, attention, dropout, norms=norms, activation=activation)
        self.keep, self.take = nn.Linear(2 * width, width), nn.Linear(2 * width, width)

    def forward(self, query: Tensor, memory: Tensor, key_mask: Tensor, codes: Tensor) -> Tensor:  # type: ignore[override]
        keep, take = (torch.sigmoid(gate(codes)).unsqueeze(1) for gate in (self.keep, self.take))
        return self.feed_forward(keep * query + take * self.attend(query, memory, key_mask))

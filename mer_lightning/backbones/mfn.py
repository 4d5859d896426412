"""Memory Fusion Network: one LSTM per modality, attention over what changes between two steps, a shared memory.

At each step the cells of all LSTMs before and after it, c* = [c_{t-1}; c_t], are weighed by attention; the weighed
cells propose a new content of the memory, and two gates, which also see the memory, say how much of the old one to keep
and of the new one to take: u_t = g1 * u_{t-1} + g2 * tanh(proposal).

The LSTMs do not depend on the memory, nor attention and proposals on anything but the cells: all that is computed for
all steps at once. Only the gates and the memory are a loop over time.

Shapes: B batch, T time, D input width, S sum of the hidden widths of the modalities.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mer_lightning.backbones.base import Backbone, Encoded
from mer_lightning.backbones.presets import Preset, resolve
from mer_lightning.batch import Batch
from mer_lightning.layers.dropout import Dropout
from mer_lightning.layers.pooling import last_step
from mer_lightning.layers.recurrence import Packing, unrolled
from mer_lightning.layers.shared_memory import network, remember, with_previous
from mer_lightning.modalities import MODALITIES


class MFN(Backbone):
    """Memory fusion of aligned sequences.

    Args:
        dims: width of each modality's features.
        hidden: hidden width of the LSTMs of text, audio and vision.
        memory: width of the memory.
        shapes: hidden widths of the networks of attention, proposal, keeping gate and taking gate.
        dropout: of the same four networks.
        width: of the state.
        out_dropout: on the state.
        preset: whose faults to repeat.
        padding_counts: fault of mmsa: the recurrences run on over padding.
    """

    aligned_only = True
    encodes_alike = True
    encoder_parts = ("cells",)
    paper = "Zadeh et al., AAAI 2018"

    def __init__(
        self,
        dims: dict[str, int],
        hidden: list[int] = [256, 32, 256],  # noqa: B006 (never changed; jsonargparse shows it in the help)
        memory: int = 400,
        shapes: list[int] = [32, 64, 256, 32],  # noqa: B006
        dropout: list[float] = [0.2, 0.0, 0.7, 0.5],  # noqa: B006
        width: int = 128,
        out_dropout: float = 0.0,
        preset: Preset = "fixed",
        padding_counts: bool | None = None,
    ) -> None:
        super().__init__()
        self.faults = resolve(preset, {"padding_counts": ("mmsa",)}, {"padding_counts": padding_counts})
        widths = dict(zip(MODALITIES, hidden, strict=True))
        self.vector_widths = {m: widths[m] for m in dims}
        self.state_width = width
        self.cells = nn.ModuleDict({m: nn.LSTMCell(dim, widths[m]) for m, dim in dims.items()})
        window = 2 * sum(self.vector_widths.values())
        self.attention, self.proposal = (
            network(window, shape, out, drop)
            for shape, out, drop in zip(shapes[:2], (window, memory), dropout[:2], strict=True)
        )
        self.keep, self.take = (
            network(window + memory, shape, memory, drop) for shape, drop in zip(shapes[2:], dropout[2:], strict=True)
        )
        self.out = nn.Sequential(nn.Linear(window // 2 + memory, width), nn.ReLU(), Dropout(out_dropout))

    def encode(self, batch: Batch) -> Encoded:
        vectors, cells, key_masks = {}, {}, {}
        for m, cell in self.cells.items():
            key_masks[m] = batch.key_mask(m)
            if self.faults["padding_counts"]:
                key_masks[m] = torch.ones_like(key_masks[m])
            lengths = key_masks[m].sum(1)
            states, cells[m] = unrolled(cell, batch.features[m], lengths)  # type: ignore[arg-type]
            vectors[m] = last_step(states, lengths)
        return Encoded(vectors, cells, key_masks)

    def fuse(self, encoded: Encoded, present: Tensor) -> Tensor:
        given = {m: present[:, MODALITIES.index(m)] for m in encoded.vectors}
        now = torch.cat([encoded.sequences[m].where(given[m][:, None, None], 0.0) for m in given], dim=2)
        key_mask = torch.stack([encoded.key_masks[m] & given[m][:, None] for m in given]).any(0)
        packing = Packing(key_mask.sum(1), key_mask.shape[1])
        both = packing.pack(with_previous(now))  # (N, 2 S): cells before and after a step
        attended = both * self.attention(both).softmax(dim=1)
        memory = remember(self.keep, self.take, attended, self.proposal(attended).tanh(), packing)
        lasts = [encoded.vectors[m].where(given[m][:, None], 0.0) for m in given]
        return self.out(torch.cat([*lasts, memory], dim=1))

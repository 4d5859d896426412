"""Early fusion: one LSTM over the concatenated features of aligned steps.

Nothing of it belongs to one modality alone, so a modality's vector is the plain mean of its features, without
parameters, and an absent modality is a block of zeros in the concatenation.

Shapes: B batch, T time, D widths of the features, d width of the state.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mer_lightning.backbones.base import Backbone, Encoded
from mer_lightning.backbones.presets import Preset, resolve
from mer_lightning.batch import Batch
from mer_lightning.layers.dropout import Dropout
from mer_lightning.layers.pooling import last_step, masked_mean
from mer_lightning.modalities import MODALITIES


class EFLSTM(Backbone):
    """Early fusion of aligned features in a recurrence.

    Args:
        dims: width of each modality's features.
        width: of the LSTM and of the state.
        depth: layers of the LSTM.
        dropout: between the layers of the LSTM and on its last state.
        steps: to which the fault norm_over_time pads every batch.
        preset: whose faults to repeat.
        padding_counts: fault of mmsa: the last step read may be padding.
        norm_over_time: fault of mmsa: batch norm over the axis of time, so that every batch must be equally long.
    """

    aligned_only = True
    encodes_alike = True
    paper = "MMSA; Williams et al., 2018"

    def __init__(
        self,
        dims: dict[str, int],
        width: int = 128,
        depth: int = 4,
        dropout: float = 0.5,
        steps: int = 50,
        preset: Preset = "fixed",
        padding_counts: bool | None = None,
        norm_over_time: bool | None = None,
    ) -> None:
        super().__init__()
        self.faults = resolve(
            preset,
            {"padding_counts": ("mmsa",), "norm_over_time": ("mmsa",)},
            {"padding_counts": padding_counts, "norm_over_time": norm_over_time},
        )
        self.steps = steps
        self.state_width = width
        self.vector_widths = dict(dims)
        size = sum(dims.values())
        self.norm = nn.BatchNorm1d(steps) if self.faults["norm_over_time"] else nn.LayerNorm(size)
        self.lstm = nn.LSTM(size, width, depth, dropout=dropout if depth > 1 else 0.0, batch_first=True)
        self.fusion = nn.Sequential(Dropout(dropout), nn.Linear(width, width), nn.ReLU())

    def encode(self, batch: Batch) -> Encoded:
        key_masks = {m: batch.key_mask(m) for m in self.vector_widths}
        sequences = {m: batch.features[m].where(key_masks[m].unsqueeze(2), 0.0) for m in key_masks}
        return Encoded({m: masked_mean(sequences[m], key_masks[m]) for m in key_masks}, sequences, key_masks)

    def fuse(self, encoded: Encoded, present: Tensor) -> Tensor:
        longest = self.steps if self.faults["norm_over_time"] else max(s.shape[1] for s in encoded.sequences.values())
        blocks, lengths = [], torch.zeros(present.shape[0], dtype=torch.long, device=present.device)
        for m, sequence in encoded.sequences.items():
            given = present[:, MODALITIES.index(m)]
            blocks.append(F.pad(sequence.where(given[:, None, None], 0.0), (0, 0, 0, longest - sequence.shape[1])))
            lengths = torch.maximum(lengths, encoded.key_masks[m].sum(1) * given)
        outputs = self.lstm(self.norm(torch.cat(blocks, dim=2)))[0]
        return self.fusion(outputs[:, -1] if self.faults["padding_counts"] else last_step(outputs, lengths))

"""Late fusion by a feed-forward network over TFN's subnetworks.

Shapes: B batch, d_m width of a modality's vector, d width of the state.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mer_lightning.backbones.base import Backbone, Encoded, keep_present
from mer_lightning.backbones.presets import Preset, resolve
from mer_lightning.batch import Batch
from mer_lightning.layers.dropout import Dropout
from mer_lightning.layers.subnetworks import Subnetworks


class LFDNN(Backbone):
    """Concatenated vectors and two linear layers.

    Args:
        dims: width of each modality's features.
        hidden: hidden width of text, audio and vision.
        text_width: width of the text vector.
        width: of the two layers, and of the state.
        dropout: of text, audio, vision, and of the concatenation.
        preset: whose faults to repeat.
        padding_counts: fault of mmsa: padded steps count in means, and the last step read may be padding.
    """

    encoder_parts = ("subnetworks",)
    paper = "MMSA"

    def __init__(
        self,
        dims: dict[str, int],
        hidden: list[int] = [128, 16, 128],  # noqa: B006 (never changed; jsonargparse shows it in the help)
        text_width: int = 256,
        width: int = 128,
        dropout: list[float] = [0.2, 0.2, 0.2, 0.2],  # noqa: B006
        preset: Preset = "fixed",
        padding_counts: bool | None = None,
    ) -> None:
        super().__init__()
        self.faults = resolve(preset, {"padding_counts": ("mmsa",)}, {"padding_counts": padding_counts})
        self.subnetworks = Subnetworks(dims, hidden, text_width, dropout[:3], **self.faults)
        self.vector_widths = self.subnetworks.widths
        self.state_width = width
        self.fusion = nn.Sequential(
            Dropout(dropout[3]),
            nn.Linear(sum(self.vector_widths.values()), width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
        )

    def encode(self, batch: Batch) -> Encoded:
        return Encoded(self.subnetworks(batch))

    def fuse(self, encoded: Encoded, present: Tensor) -> Tensor:
        return self.fusion(torch.cat(keep_present(encoded.vectors, present), dim=1))

"""Tensor Fusion Network: the outer product of the modalities' vectors.

z = [1; u_t] (x) [1; u_a] (x) [1; u_v], flattened, dropout, then two linear layers with ReLU. The constant ones keep
every modality and every pair in the product; an absent modality is a zero vector, of which the one remains.

MMSA ends in a sigmoid stretched to (-3, 3), which is part of its head for sentiment and left out here.

Shapes: B batch, d_m width of a modality's vector, d width of the state.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mer_lightning.backbones.base import Backbone, Encoded, keep_present
from mer_lightning.backbones.presets import Preset, resolve
from mer_lightning.backbones.subnetworks import Subnetworks, with_one
from mer_lightning.batch import Batch


class TFN(Backbone):
    """Tensor fusion.

    Args:
        dims: width of each modality's features.
        hidden: hidden width of text, audio and vision.
        text_width: width of the text vector.
        width: of the two layers after the product, and of the state.
        dropout: of text, audio, vision, and of the product.
        preset: whose faults to repeat.
        padding_counts: fault of mmsa: padded steps count in means, and the last step read may be padding.
    """

    paper = "Zadeh et al., EMNLP 2017"

    def __init__(
        self,
        dims: dict[str, int],
        hidden: list[int] = [128, 32, 128],  # noqa: B006 (never changed; jsonargparse shows it in the help)
        text_width: int = 32,
        width: int = 64,
        dropout: list[float] = [0.3, 0.3, 0.3, 0.5],  # noqa: B006
        preset: Preset = "fixed",
        padding_counts: bool | None = None,
    ) -> None:
        super().__init__()
        self.faults = resolve(preset, {"padding_counts": ("mmsa",)}, {"padding_counts": padding_counts})
        self.subnetworks = Subnetworks(dims, hidden, text_width, dropout[:3], **self.faults)
        self.vector_widths = self.subnetworks.widths
        self.state_width = width
        size = 1
        for wide in self.vector_widths.values():
            size *= wide + 1
        self.fusion = nn.Sequential(
            nn.Dropout(dropout[3]), nn.Linear(size, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()
        )

    def encode(self, batch: Batch) -> Encoded:
        return Encoded(self.subnetworks(batch))

    def fuse(self, encoded: Encoded, present: Tensor) -> Tensor:
        product = torch.ones(len(present), 1, device=present.device)
        for vector in keep_present(encoded.vectors, present):
            product = (product.unsqueeze(2) * with_one(vector).unsqueeze(1)).flatten(1)
        return self.fusion(product)

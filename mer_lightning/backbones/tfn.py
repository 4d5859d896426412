"""Tensor Fusion Network: the outer product of the modalities' vectors.

z = [1; u_t] (x) [1; u_a] (x) [1; u_v], flattened, dropout, then two linear layers with ReLU. The constant ones keep
every modality and every pair in the product; an absent modality is a zero vector, of which the one remains.

MMSA ends in a sigmoid stretched to (-3, 3), which is part of its head for sentiment and left out here.

Shapes: B batch, d_m width of a modality's vector, d width of the state.
"""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor, nn

from mer_lightning.backbones.base import Backbone, Encoded, keep_present
from mer_lightning.backbones.presets import Preset, resolve
from mer_lightning.batch import Batch
from mer_lightning.layers.dropout import Dropout
from mer_lightning.layers.subnetworks import Subnetworks, with_one
from mer_lightning.modalities import MODALITIES


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

    encoder_parts = ("subnetworks",)
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
            Dropout(dropout[3]), nn.Linear(size, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()
        )

    def encode(self, batch: Batch) -> Encoded:
        return Encoded(self.subnetworks(batch))

    def fuse(self, encoded: Encoded, present: Tensor) -> Tensor:
        everything = torch.ones(present.shape[0], 1, device=present.device)
        for vector in keep_present(encoded.vectors, present):
            everything = (everything.unsqueeze(2) * with_one(vector).unsqueeze(1)).flatten(1)
        return self.fusion(everything)

    def fuse_many(self, encoded: Encoded, present: Tensor) -> Tensor:
        """K masks for little more than the price of one.

        A modality that is masked leaves the constant 1 of its factor. So the first layer's output under a mask is the
        sum, over all sets of modalities within the mask, of what the products over exactly that set contribute, and
        the eight contributions are the same for every mask. Dropout on the product mixes them: training takes the plain
        way.
        """
        if self.training:
            return super().fuse_many(encoded, present)
        masks, samples = present.shape[:2]
        modalities = list(encoded.vectors)
        positions = [MODALITIES.index(m) for m in modalities]
        vectors = keep_present(encoded.vectors, present.any(0))
        linear = self.fusion[1]
        assert isinstance(linear, nn.Linear)
        weight = linear.weight.view(-1, *(vector.shape[1] + 1 for vector in vectors))  # (d, 1 + d_t, 1 + d_a, 1 + d_v)
        total = linear.bias.expand(masks, samples, -1)
        for inside in product((False, True), repeat=len(vectors)):
            part, products = weight, torch.ones(samples, 1, dtype=vectors[0].dtype, device=present.device)
            for axis, (vector, chosen) in enumerate(zip(vectors, inside, strict=True), start=1):
                part = part.narrow(axis, 1, vector.shape[1]) if chosen else part.narrow(axis, 0, 1)
                if chosen:
                    products = (products.unsqueeze(2) * vector.unsqueeze(1)).flatten(1)
            contribution = products @ part.flatten(1).T.to(products.dtype)
            needed = [p for p, chosen in zip(positions, inside, strict=True) if chosen]
            allowed = present[:, :, needed].all(2, keepdim=True)
            total = total + contribution.where(allowed, contribution.new_zeros(()))
        state: Tensor = self.fusion[2:](total)
        return state

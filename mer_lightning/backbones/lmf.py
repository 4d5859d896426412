"""Low-rank Multimodal Fusion: TFN's tensor product without the tensor.

z = sum_r w_r prod_m ([1; u_m] F_m^r) + b: the big linear layer that follows TFN's product is a sum of R rank-one terms,
so that each modality is multiplied by its own factor before the modalities are multiplied with each other.

The released models end with z, which has one column per output. In this one z is a state of any width, which the head
of the method reads.

Shapes: B batch, d_m width of a modality's vector, R rank, d width of the state.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mer_lightning.backbones.base import Backbone, Encoded, keep_present
from mer_lightning.backbones.presets import Preset, resolve
from mer_lightning.batch import Batch
from mer_lightning.layers.subnetworks import Subnetworks, with_one


class LMF(Backbone):
    """Low-rank fusion.

    Args:
        dims: width of each modality's features.
        hidden: hidden width of text, audio and vision; the text vector is half as wide.
        rank: R.
        width: of the state.
        dropout: of text, audio and vision.
        preset: whose faults to repeat.
        padding_counts: fault of mmsa: padded steps count in means, and the last step read may be padding.
        frozen_ranks: fault of mmsa: its optimiser is not given the weights and the bias of the sum over ranks.
    """

    encoder_parts = ("subnetworks",)
    paper = "Liu et al., ACL 2018"

    def __init__(
        self,
        dims: dict[str, int],
        hidden: list[int] = [128, 16, 128],  # noqa: B006 (never changed; jsonargparse shows it in the help)
        rank: int = 3,
        width: int = 64,
        dropout: list[float] = [0.3, 0.3, 0.3],  # noqa: B006
        preset: Preset = "fixed",
        padding_counts: bool | None = None,
        frozen_ranks: bool | None = None,
    ) -> None:
        super().__init__()
        self.faults = resolve(
            preset,
            {"padding_counts": ("mmsa",), "frozen_ranks": ("mmsa",)},
            {"padding_counts": padding_counts, "frozen_ranks": frozen_ranks},
        )
        self.subnetworks = Subnetworks(dims, hidden, hidden[0] // 2, dropout, self.faults["padding_counts"])
        self.vector_widths = self.subnetworks.widths
        self.state_width = width
        # Each rank's matrix is initialised on its own: Xavier's rule would take a stack of them for a convolution.
        self.factors = nn.ParameterDict(
            {
                m: torch.stack([nn.init.xavier_normal_(torch.empty(wide + 1, width)) for _ in range(rank)])
                for m, wide in self.vector_widths.items()
            }
        )
        self.rank_weights = nn.Parameter(nn.init.xavier_normal_(torch.empty(1, rank)))
        self.bias = nn.Parameter(torch.zeros(1, width))
        if self.faults["frozen_ranks"]:
            self.rank_weights.requires_grad_(False)
            self.bias.requires_grad_(False)

    def encode(self, batch: Batch) -> Encoded:
        return Encoded(self.subnetworks(batch))

    def fuse(self, encoded: Encoded, present: Tensor) -> Tensor:
        product = torch.ones((), device=present.device)
        for modality, vector in zip(self.vector_widths, keep_present(encoded.vectors, present), strict=True):
            product = product * torch.einsum("bi,rid->rbd", with_one(vector), self.factors[modality])
        return torch.einsum("r,rbd->bd", self.rank_weights[0], product) + self.bias

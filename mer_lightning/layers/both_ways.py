"""A recurrence that reads a sequence forwards and backwards. Shapes: B batch, T time, d width, H hidden width."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mer_lightning.layers.pooling import last_step
from mer_lightning.layers.recurrence import GRU, LSTM


class BothWays(nn.Module):
    """A recurrence over the real steps and one over the same steps in reverse order."""

    def __init__(self, dim: int, hidden: int, cell: type[LSTM] | type[GRU] = LSTM) -> None:
        super().__init__()
        self.forwards, self.backwards = cell(dim, hidden), cell(dim, hidden)

    def forward(self, sequence: Tensor, lengths: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The outputs of both (B, T, 2 H), unspecified at padded steps, and the last state of each (B, H)."""
        steps = torch.arange(sequence.shape[1], device=lengths.device)
        reverse = torch.where(steps < lengths[:, None], lengths[:, None] - 1 - steps, steps)
        forwards = self.forwards(sequence, lengths)
        backwards = self.backwards(_in_order(sequence, reverse), lengths)
        lasts = last_step(forwards, lengths), last_step(backwards, lengths)
        return torch.cat([forwards, _in_order(backwards, reverse)], dim=2), lasts


def _in_order(sequence: Tensor, order: Tensor) -> Tensor:
    """(B, T, d) with step ``order[b, t]`` of sample b at place t."""
    return sequence.gather(1, order.unsqueeze(2).expand_as(sequence))

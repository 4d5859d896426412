"""A memory that recurrences of all modalities write to, step by step: what MFN and Graph-MFN share.

Shapes: B batch, T time, D input width, H hidden width of a modality, A width of what is attended to, U of the memory.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def network(dim: int, hidden: int, out: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, out))


def unrolled(cell: nn.LSTMCell, features: Tensor) -> tuple[Tensor, Tensor]:
    """Hidden states and cells (B, T, H) of all steps; torch's own LSTM keeps its cells to itself.

    i, f, g, o = W x_t + V h_{t-1} + b; c_t = f * c_{t-1} + i * tanh(g); h_t = o * tanh(c_t), with one product W x for
    all steps.
    """
    assert cell.bias_ih is not None
    assert cell.bias_hh is not None
    inputs = F.linear(features, cell.weight_ih, cell.bias_ih + cell.bias_hh)
    state = content = inputs.new_zeros(len(features), cell.hidden_size)
    states, cells = [], []
    for step in inputs.unbind(1):
        i, f, g, o = (step + F.linear(state, cell.weight_hh)).chunk(4, dim=1)
        content = f.sigmoid() * content + i.sigmoid() * g.tanh()
        state = o.sigmoid() * content.tanh()
        states.append(state)
        cells.append(content)
    return torch.stack(states, dim=1), torch.stack(cells, dim=1)


def with_previous(steps: Tensor) -> Tensor:
    """(B, T, 2 S) of (B, T, S): each step behind the one before it, the first one behind zeros."""
    return torch.cat([F.pad(steps, (0, 0, 1, 0))[:, :-1], steps], dim=2)


def remember(keep: nn.Sequential, take: nn.Sequential, attended: Tensor, proposed: Tensor, valid: Tensor) -> Tensor:
    """(B, U) the memory after the last valid step: u_t = keep(a_t, u) * u + take(a_t, u) * proposed_t, u = u_{t-1}.

    Args:
        keep, take: networks whose outputs, through a sigmoid, are the gates.
        attended: (B, T, A) what the gates see beside the memory.
        proposed: (B, T, U) new content.
        valid: (B, T); other steps leave the memory as it is.
    """
    memory = proposed.new_zeros(len(proposed), proposed.shape[2])
    seen = []  # of each gate: what the steps contribute, all at once, and the weights that the memory meets
    for gate in (keep, take):
        first: nn.Linear = gate[0]  # type: ignore[assignment]
        of_steps, of_memory = first.weight.split([attended.shape[2], proposed.shape[2]], dim=1)
        seen.append((F.linear(attended, of_steps, first.bias), of_memory, gate[1:]))
    for step in range(attended.shape[1]):
        kept, taken = (rest(steps[:, step] + F.linear(memory, weights)).sigmoid() for steps, weights, rest in seen)
        changed = kept * memory + taken * proposed[:, step]
        memory = changed.where(valid[:, step, None], memory)
    return memory

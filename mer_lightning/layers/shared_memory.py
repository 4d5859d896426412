"""A memory that recurrences of all modalities write to, step by step: what MFN and Graph-MFN share.

Shapes: B batch, T time, N packed steps of all samples, A width of what is attended to, U of the memory, G hidden widths
of the two gates together.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mer_lightning.layers.dropout import Dropout
from mer_lightning.layers.pooling import last_step
from mer_lightning.layers.recurrence import Packing, a_step_before


def network(dim: int, hidden: int, out: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), Dropout(dropout), nn.Linear(hidden, out))


def with_previous(steps: Tensor) -> Tensor:
    """(B, T, 2 S) of (B, T, S): each step behind the one before it, the first one behind zeros."""
    return torch.cat([F.pad(steps, (0, 0, 1, 0))[:, :-1], steps], dim=2)


def remember(keep: nn.Sequential, take: nn.Sequential, attended: Tensor, proposed: Tensor, packing: Packing) -> Tensor:
    """(B, U) the memory after the last real step: u_t = keep(a_t, u) * u + take(a_t, u) * proposed_t, u = u_{t-1}.

    Args:
        keep, take: networks whose outputs, through a sigmoid, are the gates.
        attended: (N, A) what the gates see beside the memory.
        proposed: (N, U) new content.
        packing: of the N steps.
    """
    of_steps, of_memory, noise, outs = [], [], [], []
    for gate in (keep, take):
        first, _, drop, last = gate
        seen, remembered = first.weight.split([attended.shape[1], proposed.shape[1]], dim=1)  # type: ignore[operator]
        of_steps.append(F.linear(attended, seen, first.bias))  # type: ignore[arg-type]
        of_memory.append(remembered)
        noise.append(drop(torch.ones_like(of_steps[-1])))
        outs += [last.weight, last.bias]
    steps = torch.cat(of_steps, dim=1)
    with torch.autocast(steps.device.type, enabled=False):
        tensors = [each.to(of_memory[0].dtype) for each in (steps, torch.cat(noise, dim=1), proposed)]
        memories = packing.unpack(_Remember.apply(*tensors, packing.sizes, torch.cat(of_memory), *outs))
    return last_step(memories, packing.lengths)


class _Remember(torch.autograd.Function):
    """The loop over time, with one product for each gradient of a weight, where autograd would have one per step.

    steps (N, G): what both gates' hidden layers get from what is attended to; noise (N, G): dropout's factors; proposed
    (N, U); sizes: rows of each step; remembering (G, U): the hidden layers' weights for the memory; outs: weight and
    bias of the output layers. Gives the memory after every step, (N, U).
    """

    @staticmethod
    def forward(
        ctx: Any, steps: Tensor, noise: Tensor, proposed: Tensor, sizes: list[int], remembering: Tensor, *outs: Tensor
    ) -> Tensor:
        of_keep, bias_keep, of_take, bias_take = outs
        split = of_keep.shape[1]
        hidden = steps.clone()
        kept, taken, memories = (torch.empty_like(proposed) for _ in range(3))
        parts = (hidden, noise, proposed, kept, taken, memories)
        memory: Tensor | None = None
        for within, factors, new, keeping, taking, after in zip(*(part.split(sizes) for part in parts), strict=True):
            before = torch.zeros_like(after) if memory is None else memory[: len(after)]
            within.addmm_(before, remembering.t()).relu_().mul_(factors)
            torch.addmm(bias_keep, within[:, :split], of_keep.t(), out=keeping).sigmoid_()
            torch.addmm(bias_take, within[:, split:], of_take.t(), out=taking).sigmoid_()
            memory = torch.mul(keeping, before, out=after).addcmul_(taking, new)
        ctx.save_for_backward(hidden, noise, proposed, kept, taken, memories, remembering, *outs)
        ctx.sizes = sizes
        return memories

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_memories: Tensor) -> tuple[Tensor | None, ...]:
        hidden, noise, proposed, kept, taken, memories, remembering, *outs = ctx.saved_tensors
        of_keep, _, of_take, _ = outs
        split, before = of_keep.shape[1], a_step_before(memories, ctx.sizes)
        sigmoid_backward = torch.ops.aten.sigmoid_backward
        of_hidden, of_proposed = noise * (hidden > 0), taken.clone()
        of_kept, of_taken = sigmoid_backward(before, kept), sigmoid_backward(proposed, taken)
        parts = (of_hidden, of_proposed, of_kept, of_taken, kept, of_memories.clone())
        later: tuple[Tensor, Tensor, Tensor] | None = None
        every = list(zip(*(part.split(ctx.sizes) for part in parts), strict=True))
        for within, new, keeping, taking, through, memory in reversed(every):
            if later is not None:
                later_within, later_through, later_memory = later
                earlier = memory[: len(later_memory)]
                earlier.addcmul_(later_memory, later_through).addmm_(later_within, remembering)
            new.mul_(memory)
            within[:, :split].mul_(keeping.mul_(memory) @ of_keep)
            within[:, split:].mul_(taking.mul_(memory) @ of_take)
            later = within, through, memory
        of_outs = (of_kept.t() @ hidden[:, :split], of_kept.sum(0), of_taken.t() @ hidden[:, split:], of_taken.sum(0))
        return (of_hidden, None, of_proposed, None, of_hidden.t() @ before, *of_outs)

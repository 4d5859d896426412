"""A memory that recurrences of all modalities write to, step by step: what MFN and Graph-MFN share.

Shapes: B batch, T time, A width of what is attended to, U of the memory, G hidden widths of the two gates together.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mer_lightning.backbones.dropout import Dropout


def network(dim: int, hidden: int, out: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), Dropout(dropout), nn.Linear(hidden, out))


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
    of_steps, of_memory, noise, outs = [], [], [], []
    for gate in (keep, take):
        first, _, drop, last = gate
        seen, remembered = first.weight.split([attended.shape[2], proposed.shape[2]], dim=1)  # type: ignore[operator]
        of_steps.append(F.linear(attended, seen, first.bias))  # type: ignore[arg-type]
        of_memory.append(remembered)
        noise.append(drop(torch.ones_like(of_steps[-1])))
        outs += [last.weight, last.bias]
    steps = torch.cat(of_steps, dim=2)
    with torch.autocast(steps.device.type, enabled=False):
        tensors = [each.to(of_memory[0].dtype) for each in (steps, torch.cat(noise, dim=2), proposed)]
        memory: Tensor = _Remember.apply(*tensors, valid, torch.cat(of_memory), *outs)
    return memory


class _Remember(torch.autograd.Function):
    """The loop over time, with one product for each gradient of a weight, where autograd would have one per step.

    steps (B, T, G): what both gates' hidden layers get from what is attended to; noise (B, T, G): dropout's factors;
    proposed (B, T, U); valid (B, T); remembering (G, U): the hidden layers' weights for the memory; outs: weight and
    bias of the output layers.
    """

    @staticmethod
    def forward(
        ctx: Any, steps: Tensor, noise: Tensor, proposed: Tensor, valid: Tensor, remembering: Tensor, *outs: Tensor
    ) -> Tensor:
        hidden = steps.transpose(0, 1).clone(memory_format=torch.contiguous_format)
        factors, proposed = (each.transpose(0, 1).contiguous() for each in (noise, proposed))
        unchanged = ~valid.t().unsqueeze(2)
        kept, taken = torch.empty_like(proposed), torch.empty_like(proposed)
        memories = proposed.new_zeros(len(proposed) + 1, *proposed.shape[1:])
        of_keep, bias_keep, of_take, bias_take = outs
        split = of_keep.shape[1]
        for t in range(len(hidden)):
            within = hidden[t].addmm_(memories[t], remembering.t()).relu_().mul_(factors[t])
            torch.addmm(bias_keep, within[:, :split], of_keep.t(), out=kept[t]).sigmoid_()
            torch.addmm(bias_take, within[:, split:], of_take.t(), out=taken[t]).sigmoid_()
            changed = torch.mul(kept[t], memories[t], out=memories[t + 1]).addcmul_(taken[t], proposed[t])
            torch.where(unchanged[t], memories[t], changed, out=changed)
        ctx.save_for_backward(hidden, factors, proposed, unchanged, kept, taken, memories, remembering, *outs)
        return memories[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_memory: Tensor) -> tuple[Tensor | None, ...]:
        hidden, factors, proposed, unchanged, kept, taken, memories, remembering, *outs = ctx.saved_tensors
        of_keep, _, of_take, _ = outs
        split = of_keep.shape[1]
        sigmoid_backward = torch.ops.aten.sigmoid_backward
        of_kept = sigmoid_backward(memories[:-1], kept).masked_fill_(unchanged, 0.0)
        of_taken = sigmoid_backward(proposed, taken).masked_fill_(unchanged, 0.0)
        of_proposed = taken.masked_fill(unchanged, 0.0)
        through = kept.masked_fill(unchanged, 1.0)
        of_hidden = factors * (hidden > 0)
        for t in range(len(hidden) - 1, -1, -1):
            of_proposed[t].mul_(of_memory)
            of_hidden[t][:, :split].mul_(of_kept[t].mul_(of_memory) @ of_keep)
            of_hidden[t][:, split:].mul_(of_taken[t].mul_(of_memory) @ of_take)
            of_memory = torch.addmm(of_memory * through[t], of_hidden[t], remembering)
        flat = [each.flatten(0, 1) for each in (of_hidden, memories[:-1], of_kept, of_taken, hidden)]
        steps, before, keeping, taking, within = flat
        of_outs = (keeping.t() @ within[:, :split], keeping.sum(0), taking.t() @ within[:, split:], taking.sum(0))
        batch_first = (of_hidden.transpose(0, 1), None, of_proposed.transpose(0, 1), None)
        return (*batch_first, steps.t() @ before, *of_outs)

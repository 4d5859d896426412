"""A memory that all modalities write to, step by step: what MFN and Graph-MFN have in common.

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
    """(B, T, 2 S) of (B, T, S): the step before (zeros for the first step) and the step itself, concatenated."""
    return torch.cat([F.pad(steps, (0, 0, 1, 0))[:, :-1], steps], dim=2)


def remember(keep: nn.Sequential, take: nn.Sequential, attended: Tensor, proposed: Tensor, packing: Packing) -> Tensor:
    """(B, U) the memory after the last real step: u_t = keep(a_t, u) * u + take(a_t, u) * proposed_t, u = u_{t-1}.

    Args:
        keep, take: networks whose outputs, through a sigmoid, are the gates.
        attended: (N, A) what the gates see beside the memory.
        proposed: (N, U) new content.
        packing: of the N steps.
    """
    from_steps, for_memory, noise, outs = [], [], [], []
    for gate in (keep, take):
        first, _, drop, last = gate
        for_attended, weight = first.weight.split([attended.shape[1], proposed.shape[1]], dim=1)  # type: ignore[operator]
        from_steps.append(F.linear(attended, for_attended, first.bias))  # type: ignore[arg-type]
        for_memory.append(weight)
        noise.append(drop(torch.ones_like(from_steps[-1])))
        outs += [last.weight, last.bias]
    steps = torch.cat(from_steps, dim=1)
    with torch.autocast(steps.device.type, enabled=False):
        tensors = [each.to(for_memory[0].dtype) for each in (steps, torch.cat(noise, dim=1), proposed)]
        memories = packing.unpack(_Remember.apply(*tensors, packing.sizes, torch.cat(for_memory), *outs))
    return last_step(memories, packing.lengths)


class _Remember(torch.autograd.Function):
    """The loop over time, with one product for each gradient of a weight, where autograd would have one per step.

    steps (N, G): what the hidden layers of both gates get from what is attended to; noise (N, G): dropout's factors;
    proposed (N, U); sizes: rows of each step; weight (G, U): of the hidden layers, for the memory; outs: weights and
    biases of the output layers. Returns the memory after every step, (N, U):
        s = relu(steps_t + weight u_{t-1}) noise        k, q = sigma(W_k s_k + b_k), sigma(W_q s_q + b_q)
        u_t = k u_{t-1} + q proposed_t

    Backward, with dU the gradient of u_t, and dK, dQ, dS those of what goes into the two sigmoids and the ReLU:
        dU_t = grad u_t + dU_{t+1} k_{t+1} + dS_{t+1} weight
        dK_t = dU u_{t-1} k (1 - k), dQ_t = dU proposed q (1 - q), dS_t = [dK W_k, dQ W_q] noise where s > 0
        d proposed_t = dU q; the gradient of a weight is the sum over t of what comes out of it times what goes in
    """

    @staticmethod
    def forward(
        ctx: Any, steps: Tensor, noise: Tensor, proposed: Tensor, sizes: list[int], weight: Tensor, *outs: Tensor
    ) -> Tensor:
        keep_weight, keep_bias, take_weight, take_bias = outs
        split = keep_weight.shape[1]
        hidden = steps.clone()
        kept, taken, memories = (torch.empty_like(proposed) for _ in range(3))
        parts = (hidden, noise, proposed, kept, taken, memories)
        memory: Tensor | None = None
        for layer, factors, new, keep, take, after in zip(*(part.split(sizes) for part in parts), strict=True):
            before = torch.zeros_like(after) if memory is None else memory[: len(after)]
            layer.addmm_(before, weight.t()).relu_().mul_(factors)
            torch.addmm(keep_bias, layer[:, :split], keep_weight.t(), out=keep).sigmoid_()
            torch.addmm(take_bias, layer[:, split:], take_weight.t(), out=take).sigmoid_()
            memory = torch.mul(keep, before, out=after).addcmul_(take, new)
        ctx.save_for_backward(hidden, noise, proposed, kept, taken, memories, weight, *outs)
        ctx.sizes = sizes
        return memories

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_memories: Tensor) -> tuple[Tensor | None, ...]:
        hidden, noise, proposed, kept, taken, memories, weight, *outs = ctx.saved_tensors
        keep_weight, _, take_weight, _ = outs
        split, before = keep_weight.shape[1], a_step_before(memories, ctx.sizes)
        sigmoid_backward = torch.ops.aten.sigmoid_backward
        # Without their factor dU, which only the loop knows.
        d_hidden, d_proposed = noise * (hidden > 0), taken.clone()
        d_kept, d_taken = sigmoid_backward(before, kept), sigmoid_backward(proposed, taken)
        parts = (d_hidden, d_proposed, d_kept, d_taken, kept, grad_memories.clone())
        steps = list(zip(*(part.split(ctx.sizes) for part in parts), strict=True))
        following: tuple[Tensor, Tensor, Tensor] | None = None
        for d_layer, d_new, d_keep, d_take, keep, d_memory in reversed(steps):
            if following is not None:
                next_layer, next_keep, next_memory = following
                d_memory[: len(next_memory)].addcmul_(next_memory, next_keep).addmm_(next_layer, weight)
            d_new.mul_(d_memory)
            d_layer[:, :split].mul_(d_keep.mul_(d_memory) @ keep_weight)
            d_layer[:, split:].mul_(d_take.mul_(d_memory) @ take_weight)
            following = d_layer, keep, d_memory
        d_outs = (d_kept.t() @ hidden[:, :split], d_kept.sum(0), d_taken.t() @ hidden[:, split:], d_taken.sum(0))
        return (d_hidden, None, d_proposed, None, d_hidden.t() @ before, *d_outs)

"""Recurrences that read no padding, and LSTMs that show their cells.

Packed, the real steps of a batch lie one behind the other: the first steps of all samples, then the second ones, and
so on, longer samples first. One product serves all steps, and the loop over time works on fewer and fewer rows.
Gradients of weights are one product, too, where autograd would add one up for each step.

LSTM:
    i, f, g, o = W x_t + V h_{t-1} + b
    c_t = sigma(f) c_{t-1} + sigma(i) tanh(g)
    h_t = sigma(o) tanh(c_t)

GRU:
    r, z = sigma(W x_t + V h_{t-1} + b)
    n = tanh(W_n x_t + b_n + r (V_n h_{t-1} + c))
    h_t = (1 - z) n + z h_{t-1}

Shapes: B batch, T time, N packed steps of all samples, D input width, H hidden width.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

# oneDNN compiles a program for each shape, which takes longer than most steps. So that few shapes occur, a step has a
# multiple of this many rows: samples that have ended lend their place to the longest one, whose row is read again.
_ROWS = 8


class Packing:
    """Which rows of a padded batch are its real steps, in packed order.

    To read lengths from an accelerator would make the host wait for it: there every step counts as valid.

    Args:
        lengths: (B,)
        steps: T.
    """

    def __init__(self, lengths: Tensor, steps: int) -> None:
        self.batch, self.steps, self.lengths = len(lengths), steps, lengths
        time = torch.arange(steps, device=lengths.device).unsqueeze(1)
        if lengths.device.type == "cpu":
            order = lengths.argsort(descending=True, stable=True)
            key_mask, rows = time < lengths[order], order * steps + time  # (T, B)
            sizes = ((key_mask.sum(1) + _ROWS - 1) // _ROWS * _ROWS).clamp(max=self.batch)
            packed = torch.arange(self.batch) < sizes.unsqueeze(1)
            self.read = rows.where(key_mask, rows[:, :1])[packed]
            self.written = rows.where(key_mask, self.batch * steps)[packed]  # behind the last row
            self.sizes = [size for size in sizes.tolist() if size]
        else:
            self.read = (torch.arange(self.batch, device=lengths.device) * steps + time).flatten()
            self.written, self.sizes = self.read, [self.batch] * steps

    def pack(self, padded: Tensor) -> Tensor:
        """(N, ...) of (B, T, ...)."""
        return padded.flatten(0, 1).index_select(0, self.read)

    def unpack(self, packed: Tensor) -> Tensor:
        """(B, T, ...) of (N, ...), zero at the padding."""
        padded = packed.new_zeros(self.batch * self.steps + 1, *packed.shape[1:])
        return padded.index_copy(0, self.written, packed)[:-1].unflatten(0, (self.batch, self.steps))


def unrolled(cell: nn.LSTMCell, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Hidden states and cells (B, T, H) of features (B, T, D); at the padding they are unspecified."""
    return _unrolled(features, lengths, cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh)


class LSTM(nn.LSTM):
    """torch's LSTM of one layer and direction, batches first. On a CPU it goes our way where padding is long."""

    # A step of our loop costs as much as this many multiplications of a padded batch, as measured.
    _STEP = 1 << 21

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__(dim, hidden, batch_first=True)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:  # type: ignore[override]
        """Hidden states (B, T, H) of features (B, T, D); what they are at the padding is unspecified."""
        if features.device.type == "cpu":
            padding = features.shape[0] * features.shape[1] - int(lengths.sum())
            spared = padding * sum(weight.numel() for weight in self.all_weights[0][:2])
            if spared > features.shape[1] * self._STEP:
                return _unrolled(features, lengths, *self.all_weights[0])[0]
        states: Tensor = super().forward(features)[0]
        return states


class GRU(nn.GRU):
    """torch's GRU of one layer and direction, batches first. On a CPU it goes our way, since torch has no kernel."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__(dim, hidden, batch_first=True)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:  # type: ignore[override]
        """Hidden states (B, T, H) of features (B, T, D); what they are at the padding is unspecified."""
        if features.device.type != "cpu":
            states: Tensor = super().forward(features)[0]
            return states
        of_input, of_state, bias, other_bias = self.all_weights[0]
        packing = Packing(lengths, features.shape[1])
        inputs = F.linear(packing.pack(features), of_input, bias)
        with torch.autocast(inputs.device.type, enabled=False):
            states = _GatedSteps.apply(inputs.to(of_state.dtype), of_state, other_bias, packing.sizes)
        return packing.unpack(states)


def _unrolled(
    features: Tensor, lengths: Tensor, of_input: Tensor, of_state: Tensor, bias: Tensor, other_bias: Tensor
) -> tuple[Tensor, Tensor]:
    packing = Packing(lengths, features.shape[1])
    inputs = F.linear(packing.pack(features), of_input, bias + other_bias)
    with torch.autocast(inputs.device.type, enabled=False):  # cells add up over a sequence
        states, cells = _Steps.apply(inputs.to(of_state.dtype), of_state, packing.sizes)
    return packing.unpack(states), packing.unpack(cells)


class _Steps(torch.autograd.Function):
    """(N, 4 H) inputs to the gates, (4 H, H) weights V, rows of each step -> states, cells (N, H)."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, sizes: list[int]) -> tuple[Tensor, Tensor]:
        gates, hidden, transposed = inputs.clone(), weight.shape[1], weight.t()
        cells, tanhs, states = (gates.new_empty(len(gates), hidden) for _ in range(3))
        squashed = gates.split([2 * hidden, hidden, hidden], dim=1)
        every = zip(*(part.split(sizes) for part in (gates, *squashed, cells, tanhs, states)), strict=True)
        content = state = None
        for gate, in_forget, new, out, cell, tanh, after in every:
            rows = len(gate)
            if state is not None:
                gate.addmm_(state[:rows], transposed)
            in_forget.sigmoid_()
            new.tanh_()
            out.sigmoid_()
            torch.mul(in_forget[:, :hidden], new, out=cell)
            if content is not None:
                cell.addcmul_(in_forget[:, hidden:], content[:rows])
            torch.mul(out, torch.tanh(cell, out=tanh), out=after)
            content, state = cell, after
        ctx.save_for_backward(gates, cells, tanhs, states, weight)
        ctx.sizes = sizes
        return states, cells

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_states: Tensor, of_cells: Tensor) -> tuple[Tensor, Tensor, None]:
        gates, cells, tanhs, states, weight = ctx.saved_tensors
        sizes, hidden = ctx.sizes, weight.shape[1]
        i, f, g, o = gates.chunk(4, dim=1)
        # How each gate's input changes the cell (the last one: the state). The loop multiplies by what cell and state
        # change further on.
        grads = torch.empty_like(gates)
        of_i, of_f, of_g, of_o = grads.chunk(4, dim=1)
        sigmoid_backward, tanh_backward = torch.ops.aten.sigmoid_backward, torch.ops.aten.tanh_backward
        sigmoid_backward.grad_input(g, i, grad_input=of_i)
        of_f.copy_(sigmoid_backward(a_step_before(cells, sizes), f))
        tanh_backward.grad_input(i, g, grad_input=of_g)
        sigmoid_backward.grad_input(tanhs, o, grad_input=of_o)
        of_tanh = tanh_backward(o, tanhs)
        into_cell = grads.unflatten(1, (4, hidden))[:, :3]
        parts = (grads, into_cell, of_o, of_tanh, f, of_states.clone(), of_cells.clone())
        later: tuple[Tensor, Tensor, Tensor] | None = None
        for grad, cell_grad, out_grad, tanh, forget, state, cell in reversed(
            list(zip(*(part.split(sizes) for part in parts), strict=True))
        ):
            if later is not None:
                later_grad, later_cell, later_forget = later
                state[: len(later_grad)].addmm_(later_grad, weight)
                cell[: len(later_grad)].addcmul_(later_cell, later_forget)
            cell.addcmul_(state, tanh)
            cell_grad.mul_(cell.unsqueeze(1))
            out_grad.mul_(state)
            later = grad, cell, forget
        return grads, grads.t() @ a_step_before(states, sizes), None


class _GatedSteps(torch.autograd.Function):
    """(N, 3 H) inputs to r, z and n, (3 H, H) weights V and their bias, rows of each step -> states (N, H) of a GRU."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor, sizes: list[int]) -> Tensor:
        gates, hidden, transposed = inputs.clone(), weight.shape[1], weight.t()
        heard, states = (gates.new_empty(len(gates), hidden) for _ in range(2))  # V_n h + c, and h
        state = gates.new_zeros(sizes[0] if sizes else 0, hidden)
        parts = gates.split([hidden, hidden, hidden], dim=1)
        for reset, keep, new, hear, after in zip(*(part.split(sizes) for part in (*parts, heard, states)), strict=True):
            before = state[: len(reset)]
            of_reset, of_keep, of_new = torch.addmm(bias, before, transposed).chunk(3, dim=1)
            reset.add_(of_reset).sigmoid_()
            keep.add_(of_keep).sigmoid_()
            new.addcmul_(reset, hear.copy_(of_new)).tanh_()
            state = torch.lerp(new, before, keep, out=after)
        ctx.save_for_backward(gates, heard, states, weight)
        ctx.sizes = sizes
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_states: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        gates, heard, states, weight = ctx.saved_tensors
        sizes = ctx.sizes
        reset, keep, new = gates.chunk(3, dim=1)
        before = a_step_before(states, sizes)
        # How each product with the state before changes this one. The loop multiplies by what the state changes later.
        into_new = (1 - keep) * (1 - new.square())
        grads = torch.stack(
            [into_new * heard * reset * (1 - reset), (before - new) * keep * (1 - keep), into_new * reset], dim=1
        )
        of_states = of_states.clone()
        later: tuple[Tensor, Tensor, Tensor] | None = None
        for grad, kept, state in reversed(
            list(zip(*(part.split(sizes) for part in (grads, keep, of_states)), strict=True))
        ):
            if later is not None:
                later_grad, later_kept, later_state = later
                into = state[: len(later_grad)].addcmul_(later_state, later_kept)
                into.addmm_(later_grad.flatten(1), weight)
            grad.mul_(state.unsqueeze(1))
            later = grad, kept, state
        of_weight, of_bias = grads.flatten(1).t() @ before, grads.flatten(1).sum(0)
        grads[:, 2] = into_new * of_states  # r is not in front of what n's input adds
        return grads.flatten(1), of_weight, of_bias, None


def a_step_before(packed: Tensor, sizes: list[int]) -> Tensor:
    """(N, H): of each row the one a step before, zero in the first step."""
    steps = packed.split(sizes)
    earlier = [step[: len(after)] for step, after in pairwise(steps)]
    return torch.cat([torch.zeros_like(steps[0]), *earlier]) if steps else packed

"""Recurrences that skip padding, and LSTMs that return their cells.

The real steps of a batch are packed one after the other: the first steps of all samples, then the second ones, and so
on, longer samples first. The products with inputs are then one product for all steps, and the loop over time works on
fewer rows the more samples have ended. The gradient of a weight is one product, too, and not a sum of one per step.

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

from mer_lightning.layers.ways import quick_on_cpu

# oneDNN compiles a program for each shape, which takes longer than most steps. So that few shapes occur, every step has
# a multiple of this many rows. Rows that are left over are filled with the longest sample again, and their results are
# thrown away.
_ROWS = 8


class Packing:
    """Which rows of a padded batch are its real steps, in packed order.

    On an accelerator every step counts as real, because the host would have to wait for it to read the lengths.

    Args:
        lengths: (B,)
        steps: T.
    """

    def __init__(self, lengths: Tensor, steps: int) -> None:
        self.batch, self.steps, self.lengths = lengths.shape[0], steps, lengths
        time = torch.arange(steps, device=lengths.device).unsqueeze(1)
        if quick_on_cpu(lengths):
            order = lengths.argsort(descending=True, stable=True)
            key_mask, rows = time < lengths[order], order * steps + time  # (T, B)
            sizes = ((key_mask.sum(1) + _ROWS - 1) // _ROWS * _ROWS).clamp(max=self.batch)
            packed = torch.arange(self.batch) < sizes.unsqueeze(1)
            self.read = rows.where(key_mask, rows[:, :1])[packed]
            self.written = rows.where(key_mask, self.batch * steps)[packed]  # the last row takes what is thrown away
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
    """torch's LSTM of one layer and direction, batches first. On a CPU, long padding is skipped by our own loop."""

    # Measured: a step of our loop takes as long as this many multiplications in torch's LSTM. Our loop is used where
    # skipping the padding saves more than that.
    _STEP = 1 << 21

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__(dim, hidden, batch_first=True)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:  # type: ignore[override]
        """Hidden states (B, T, H) of features (B, T, D); what they are at the padding is unspecified."""
        if quick_on_cpu(features):
            padding = features.shape[0] * features.shape[1] - int(lengths.sum())
            saved = padding * sum(weight.numel() for weight in self.all_weights[0][:2])
            if saved > features.shape[1] * self._STEP:
                return _unrolled(features, lengths, *self.all_weights[0])[0]
        states: Tensor = super().forward(features)[0]
        return states


class GRU(nn.GRU):
    """torch's GRU of one layer and direction, batches first. On a CPU, where torch has no kernel, our loop is used."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__(dim, hidden, batch_first=True)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:  # type: ignore[override]
        """Hidden states (B, T, H) of features (B, T, D); what they are at the padding is unspecified."""
        if not quick_on_cpu(features):
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
    """(N, 4 H) inputs to the gates, (4 H, H) weights V, rows of each step -> states, cells (N, H) of an LSTM.

    Backward, with dC and dH the gradients of c_t and h_t, and dA those of what goes into the four gates:
        dH_t = grad h_t + dA_{t+1} V                    dC_t = grad c_t + dH_t o (1 - tanh(c_t)^2) + dC_{t+1} f_{t+1}
        dA_t = (dC g i (1 - i), dC c_{t-1} f (1 - f), dC i (1 - g^2), dH tanh(c_t) o (1 - o))
        dV   = sum over t of dA_t' h_{t-1}
    """

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, sizes: list[int]) -> tuple[Tensor, Tensor]:
        gates, hidden, transposed = inputs.clone(), weight.shape[1], weight.t()
        cells, tanhs, states = (gates.new_empty(len(gates), hidden) for _ in range(3))
        activations = gates.split([2 * hidden, hidden, hidden], dim=1)
        every = zip(*(part.split(sizes) for part in (gates, *activations, cells, tanhs, states)), strict=True)
        cell_before = state_before = None
        for gate, in_forget, new, out, cell, tanh, state in every:
            rows = len(gate)
            if state_before is not None:
                gate.addmm_(state_before[:rows], transposed)
            in_forget.sigmoid_()
            new.tanh_()
            out.sigmoid_()
            torch.mul(in_forget[:, :hidden], new, out=cell)
            if cell_before is not None:
                cell.addcmul_(in_forget[:, hidden:], cell_before[:rows])
            torch.mul(out, torch.tanh(cell, out=tanh), out=state)
            cell_before, state_before = cell, state
        ctx.save_for_backward(gates, cells, tanhs, states, weight)
        ctx.sizes = sizes
        return states, cells

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_states: Tensor, grad_cells: Tensor) -> tuple[Tensor, Tensor, None]:
        gates, cells, tanhs, states, weight = ctx.saved_tensors
        sizes, hidden = ctx.sizes, weight.shape[1]
        i, f, g, o = gates.chunk(4, dim=1)
        # dA without its factors dC and dH, which only the loop knows.
        d_gates = torch.empty_like(gates)
        d_i, d_f, d_g, d_o = d_gates.chunk(4, dim=1)
        sigmoid_backward, tanh_backward = torch.ops.aten.sigmoid_backward, torch.ops.aten.tanh_backward
        sigmoid_backward.grad_input(g, i, grad_input=d_i)
        d_f.copy_(sigmoid_backward(a_step_before(cells, sizes), f))
        tanh_backward.grad_input(i, g, grad_input=d_g)
        sigmoid_backward.grad_input(tanhs, o, grad_input=d_o)
        d_ifg = d_gates.unflatten(1, (4, hidden))[:, :3]
        state_by_cell = tanh_backward(o, tanhs)  # o (1 - tanh(c_t)^2)
        parts = (d_gates, d_ifg, d_o, state_by_cell, f, grad_states.clone(), grad_cells.clone())
        steps = list(zip(*(part.split(sizes) for part in parts), strict=True))
        following: tuple[Tensor, Tensor, Tensor] | None = None
        for d_gate, d_from_cell, d_out, by_cell, forget, d_state, d_cell in reversed(steps):
            if following is not None:
                next_gate, next_cell, next_forget = following
                d_state[: len(next_gate)].addmm_(next_gate, weight)
                d_cell[: len(next_gate)].addcmul_(next_cell, next_forget)
            d_cell.addcmul_(d_state, by_cell)
            d_from_cell.mul_(d_cell.unsqueeze(1))
            d_out.mul_(d_state)
            following = d_gate, d_cell, forget
        return d_gates, d_gates.t() @ a_step_before(states, sizes), None


class _GatedSteps(torch.autograd.Function):
    """(N, 3 H) inputs to r, z and n, (3 H, H) weights V and bias c, rows of each step -> states (N, H) of a GRU.

    Backward, with dH the gradient of h_t, p = V_n h_{t-1} + c_n, and dP the gradients of the three products V h_{t-1}:
        dH_t = grad h_t + dH_{t+1} z_{t+1} + dP_{t+1} V
        dP_t = (dN p r (1 - r), dH (h_{t-1} - n) z (1 - z), dN r) where dN = dH (1 - z) (1 - n^2)
        dV   = sum over t of dP_t' h_{t-1}, dc = sum over t of dP_t; the inputs get dP, too, but n's input gets dN
    """

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor, sizes: list[int]) -> Tensor:
        gates, hidden, transposed = inputs.clone(), weight.shape[1], weight.t()
        products, states = (gates.new_empty(len(gates), hidden) for _ in range(2))  # p and h_t
        state = gates.new_zeros(sizes[0] if sizes else 0, hidden)
        parts = (*gates.split([hidden, hidden, hidden], dim=1), products, states)
        for reset, keep, new, product, after in zip(*(part.split(sizes) for part in parts), strict=True):
            before = state[: len(reset)]
            to_reset, to_keep, to_new = torch.addmm(bias, before, transposed).chunk(3, dim=1)
            reset.add_(to_reset).sigmoid_()
            keep.add_(to_keep).sigmoid_()
            new.addcmul_(reset, product.copy_(to_new)).tanh_()
            state = torch.lerp(new, before, keep, out=after)
        ctx.save_for_backward(gates, products, states, weight)
        ctx.sizes = sizes
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_states: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        gates, p, states, weight = ctx.saved_tensors
        sizes = ctx.sizes
        r, z, n = gates.chunk(3, dim=1)
        before = a_step_before(states, sizes)
        # dP and dN without their factor dH, which only the loop knows.
        new_by_state = (1 - z) * (1 - n.square())
        d_products = torch.stack([new_by_state * p * r * (1 - r), (before - n) * z * (1 - z), new_by_state * r], dim=1)
        d_states = grad_states.clone()
        steps = list(zip(*(part.split(sizes) for part in (d_products, z, d_states)), strict=True))
        following: tuple[Tensor, Tensor, Tensor] | None = None
        for d_product, keep, d_state in reversed(steps):
            if following is not None:
                next_product, next_keep, next_state = following
                earlier = d_state[: len(next_product)].addcmul_(next_state, next_keep)
                earlier.addmm_(next_product.flatten(1), weight)
            d_product.mul_(d_state.unsqueeze(1))
            following = d_product, keep, d_state
        d_weight, d_bias = d_products.flatten(1).t() @ before, d_products.flatten(1).sum(0)
        d_products[:, 2] = new_by_state * d_states  # dN: r multiplies the product, not the input
        return d_products.flatten(1), d_weight, d_bias, None


def a_step_before(packed: Tensor, sizes: list[int]) -> Tensor:
    """(N, H): for each row that of the same sample one step before, zeros for the first step."""
    steps = packed.split(sizes)
    earlier = [step[: len(after)] for step, after in pairwise(steps)]
    return torch.cat([torch.zeros_like(steps[0]), *earlier]) if steps else packed

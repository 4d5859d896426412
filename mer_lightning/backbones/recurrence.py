"""An LSTM that shows its cells, with one product for each gradient of a weight.

torch's own keeps its cells to itself; written out step by step, autograd would add up a gradient of the weights at
every step.

    i, f, g, o = W x_t + V h_{t-1} + b
    c_t = sigma(f) c_{t-1} + sigma(i) tanh(g)
    h_t = sigma(o) tanh(c_t)

Shapes: B batch, T time, D input width, H hidden width.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def unrolled(cell: nn.LSTMCell, features: Tensor) -> tuple[Tensor, Tensor]:
    """Hidden states and cells (B, T, H) of all steps of features (B, T, D)."""
    assert cell.bias_ih is not None
    assert cell.bias_hh is not None
    inputs, weight = F.linear(features, cell.weight_ih, cell.bias_ih + cell.bias_hh), cell.weight_hh
    with torch.autocast(inputs.device.type, enabled=False):  # cells add up over a sequence
        states, cells = _Steps.apply(inputs.to(weight.dtype), weight)
    return states, cells


class _Steps(torch.autograd.Function):
    """(B, T, 4 H) inputs to the gates, (4 H, H) weights V -> states, cells (B, T, H)."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        hidden = weight.shape[1]
        gates = inputs.transpose(0, 1).clone(memory_format=torch.contiguous_format)  # (T, B, 4 H)
        cells, tanhs, states = (gates.new_empty(*gates.shape[:2], hidden) for _ in range(3))
        squashed = gates.split([2 * hidden, hidden, hidden], dim=2)
        content = state = gates.new_zeros(gates.shape[1], hidden)
        transposed = weight.t()
        every = zip(gates.unbind(), *(part.unbind() for part in (*squashed, cells, tanhs, states)), strict=True)
        for gate, in_forget, new, out, cell, tanh, after in every:
            gate.addmm_(state, transposed)
            in_forget.sigmoid_()
            new.tanh_()
            out.sigmoid_()
            torch.mul(in_forget[:, hidden:], content, out=cell).addcmul_(in_forget[:, :hidden], new)
            torch.mul(out, torch.tanh(cell, out=tanh), out=after)
            content, state = cell, after
        ctx.save_for_backward(gates, cells, tanhs, states, weight)
        return states.transpose(0, 1), cells.transpose(0, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_states: Tensor, of_cells: Tensor) -> tuple[Tensor, Tensor]:
        gates, cells, tanhs, states, weight = ctx.saved_tensors
        hidden = weight.shape[1]
        i, f, g, o = gates.chunk(4, dim=2)
        # How each gate's input changes the cell (the last one: the state). The loop multiplies by what cell and state
        # change above.
        grads = torch.empty_like(gates)
        of_i, of_f, of_g, of_o = grads.chunk(4, dim=2)
        sigmoid_backward, tanh_backward = torch.ops.aten.sigmoid_backward, torch.ops.aten.tanh_backward
        sigmoid_backward.grad_input(g, i, grad_input=of_i)
        of_f[0] = 0.0
        sigmoid_backward.grad_input(cells[:-1], f[1:], grad_input=of_f[1:])
        tanh_backward.grad_input(i, g, grad_input=of_g)
        sigmoid_backward.grad_input(tanhs, o, grad_input=of_o)
        of_tanh = tanh_backward(o, tanhs)
        into_cell = grads.unflatten(2, (4, hidden))[:, :, :3]
        every = zip(
            *(
                part.unbind()
                for part in (grads, into_cell, of_o, of_tanh, f, of_states.transpose(0, 1), of_cells.transpose(0, 1))
            ),
            strict=True,
        )
        state, cell = torch.zeros_like(cells[0]), torch.zeros_like(cells[0])
        for grad, cell_grad, out_grad, tanh, forget, from_state, from_cell in reversed(list(every)):
            state = state + from_state
            cell = (cell + from_cell).addcmul_(state, tanh)
            cell_grad.mul_(cell.unsqueeze(1))
            out_grad.mul_(state)
            state, cell = grad @ weight, cell.mul_(forget)
        of_weight = grads[1:].flatten(0, 1).t() @ states[:-1].flatten(0, 1)
        return grads.transpose(0, 1), of_weight

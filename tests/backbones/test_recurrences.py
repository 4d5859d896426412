"""Recurrences with gradients of their own, against the same written out step by step under autograd."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mer_lightning.backbones.recurrence import unrolled
from mer_lightning.backbones.shared_memory import network, remember


def gradients(said: Tensor, weights: Tensor, *inputs: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad((said * weights).sum(), inputs, retain_graph=True))


def test_unrolled_has_the_states_cells_and_gradients_of_torch() -> None:
    torch.manual_seed(0)
    cell = nn.LSTMCell(5, 3).double()
    features = torch.randn(2, 4, 5, dtype=torch.double, requires_grad=True)
    states, cells = unrolled(cell, features)
    hidden, content, expected = torch.zeros(2, 3).double(), torch.zeros(2, 3).double(), []
    for step in features.unbind(1):
        hidden, content = cell(step, (hidden, content))
        expected.append(torch.cat([hidden, content], dim=1))
    said, slow = torch.cat([states, cells], dim=2), torch.stack(expected, dim=1)
    torch.testing.assert_close(said, slow)
    weights, inputs = torch.randn_like(slow), (features, *cell.parameters())
    for ours, theirs in zip(gradients(said, weights, *inputs), gradients(slow, weights, *inputs), strict=True):
        torch.testing.assert_close(ours, theirs)


def slowly(
    keep: nn.Sequential, take: nn.Sequential, attended: Tensor, proposed: Tensor, valid: Tensor, noise: list[Tensor]
) -> Tensor:
    memory = torch.zeros_like(proposed[:, 0])
    for t in range(attended.shape[1]):
        seen = torch.cat([attended[:, t], memory], dim=1)
        gates = [
            gate[3](gate[0](seen).relu() * each[:, t]).sigmoid() for gate, each in zip((keep, take), noise, strict=True)
        ]
        memory = torch.where(valid[:, t, None], gates[0] * memory + gates[1] * proposed[:, t], memory)
    return memory


def test_remember_and_its_gradients() -> None:
    torch.manual_seed(0)
    keep, take = network(6 + 4, 5, 4, 0.3).double(), network(6 + 4, 3, 4, 0.0).double()
    attended = torch.randn(3, 7, 6, dtype=torch.double, requires_grad=True)
    proposed = torch.randn(3, 7, 4, dtype=torch.double, requires_grad=True)
    valid = torch.arange(7) < torch.tensor([[7], [4], [0]])
    inputs = (attended, proposed, *keep.parameters(), *take.parameters())
    for training in (False, True):
        keep.train(training)
        torch.manual_seed(1)
        said = remember(keep, take, attended, proposed, valid)
        torch.manual_seed(1)
        noise = [keep[2](torch.ones(3, 7, 5).double()), torch.ones(3, 7, 3).double()]
        assert bool((noise[0] == 0).any()) == training
        slow = slowly(keep, take, attended, proposed, valid, noise)
        torch.testing.assert_close(said, slow)
        assert torch.equal(said[2], torch.zeros(4).double())
        weights = torch.randn_like(slow)
        for ours, theirs in zip(gradients(said, weights, *inputs), gradients(slow, weights, *inputs), strict=True):
            torch.testing.assert_close(ours, theirs)


def test_half_precision_around_them() -> None:
    """Under autocast the products of inputs are rounded, the recurrence is not, and gradients keep their types."""
    torch.manual_seed(0)
    cell, features = nn.LSTMCell(5, 3), torch.randn(2, 4, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        states, cells = unrolled(cell, features)
    assert states.dtype == cells.dtype == torch.float32
    states.sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in cell.parameters())
    torch.testing.assert_close(states, unrolled(cell, features)[0], rtol=0.05, atol=0.05)

"""Recurrences with gradients of their own, against the same written out step by step under autograd."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from mer_lightning.layers.recurrence import GRU, LSTM, Packing, unrolled
from mer_lightning.layers.shared_memory import network, remember


def gradients(result: Tensor, weights: Tensor, *inputs: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad((result * weights).sum(), inputs, retain_graph=True))


@pytest.fixture(params=[1, 2, 8])
def rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of as many samples as are left, of one more, and of all: these batches are small."""
    monkeypatch.setattr("mer_lightning.layers.recurrence._ROWS", request.param)


def test_unrolled_has_the_states_cells_and_gradients_of_torch() -> None:
    torch.manual_seed(0)
    cell = nn.LSTMCell(5, 3).double()
    features = torch.randn(2, 4, 5, dtype=torch.double, requires_grad=True)
    states, cells = unrolled(cell, features, torch.tensor([4, 4]))
    hidden, content, expected = torch.zeros(2, 3).double(), torch.zeros(2, 3).double(), []
    for step in features.unbind(1):
        hidden, content = cell(step, (hidden, content))
        expected.append(torch.cat([hidden, content], dim=1))
    result, slow = torch.cat([states, cells], dim=2), torch.stack(expected, dim=1)
    torch.testing.assert_close(result, slow)
    weights, inputs = torch.randn_like(slow), (features, *cell.parameters())
    for ours, theirs in zip(gradients(result, weights, *inputs), gradients(slow, weights, *inputs), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_packing_reads_valid_steps_only_and_few_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths, padded = torch.tensor([2, 0, 4, 2]), torch.arange(20.0).view(4, 5)
    expected = padded.where(torch.arange(5) < lengths.unsqueeze(1), 0.0)
    for rows, sizes, read in (
        (1, [3, 3, 1, 1], [10, 0, 15, 11, 1, 16, 12, 13]),
        (2, [4, 4, 2, 2], [10, 0, 15, 10, 11, 1, 16, 11, 12, 12, 13, 13]),  # the longest sample fills up
        (8, [4, 4, 4, 4], [10, 0, 15, 10, 11, 1, 16, 11, 12, 12, 12, 12, 13, 13, 13, 13]),
    ):
        monkeypatch.setattr("mer_lightning.layers.recurrence._ROWS", rows)
        packing = Packing(lengths, 5)
        assert packing.sizes == sizes
        assert packing.pack(padded).tolist() == read
        assert torch.equal(packing.unpack(packing.pack(padded)), expected)
    nothing = Packing(torch.zeros(2, dtype=torch.long), 3)
    assert torch.equal(nothing.unpack(nothing.pack(torch.ones(2, 3, 4))), torch.zeros(2, 3, 4))


@pytest.mark.usefixtures("rows")
def test_packed_and_unrolled_lstm_are_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    lstm = LSTM(5, 3).double()
    features = torch.randn(4, 6, 5, dtype=torch.double, requires_grad=True)
    lengths = torch.tensor([2, 6, 0, 1])
    key_mask = (torch.arange(6) < lengths.unsqueeze(1)).unsqueeze(2)
    inputs, weights = (features, *lstm.parameters()), torch.randn(4, 6, 3).double()
    found = []
    for step in (math.inf, -1):  # never worth it, always worth it
        monkeypatch.setattr(LSTM, "_STEP", step)
        states = lstm(features, lengths).where(key_mask, 0.0)
        found.append([states, *gradients(states, weights, *inputs)])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert lstm(features, torch.zeros(4, dtype=torch.long)).shape == (4, 6, 3)
    with torch.no_grad():
        torch.testing.assert_close(lstm(features, lengths).where(key_mask, 0.0), found[0][0].detach())


@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize("lengths", [[2, 6, 0, 1], [6, 6, 6, 6], [0, 0, 0, 0]])
def test_gru_has_the_states_and_gradients_of_torch(lengths: list[int]) -> None:
    torch.manual_seed(0)
    gru, features = GRU(5, 3).double(), torch.randn(4, 6, 5, dtype=torch.double, requires_grad=True)
    key_mask = (torch.arange(6) < torch.tensor(lengths).unsqueeze(1)).unsqueeze(2)
    inputs, weights = (features, *gru.parameters()), torch.randn(4, 6, 3).double()
    result = gru(features, torch.tensor(lengths)).where(key_mask, 0.0)
    slow = nn.GRU.forward(gru, features)[0].where(key_mask, 0.0)
    torch.testing.assert_close(result, slow)
    for ours, theirs in zip(gradients(result, weights, *inputs), gradients(slow, weights, *inputs), strict=True):
        torch.testing.assert_close(ours, theirs)


def slowly(
    keep: nn.Sequential, take: nn.Sequential, attended: Tensor, proposed: Tensor, key_mask: Tensor, noise: list[Tensor]
) -> Tensor:
    memory = torch.zeros_like(proposed[:, 0])
    for t in range(attended.shape[1]):
        seen = torch.cat([attended[:, t], memory], dim=1)
        gates = [
            gate[3](gate[0](seen).relu() * each[:, t]).sigmoid() for gate, each in zip((keep, take), noise, strict=True)
        ]
        memory = torch.where(key_mask[:, t, None], gates[0] * memory + gates[1] * proposed[:, t], memory)
    return memory


@pytest.mark.usefixtures("rows")
def test_remember_equals_its_steps_and_their_gradients() -> None:
    torch.manual_seed(0)
    keep, take = network(6 + 4, 5, 4, 0.3).double(), network(6 + 4, 3, 4, 0.0).double()
    attended = torch.randn(3, 7, 6, dtype=torch.double, requires_grad=True)
    proposed = torch.randn(3, 7, 4, dtype=torch.double, requires_grad=True)
    key_mask = torch.arange(7) < torch.tensor([[7], [4], [0]])
    inputs = (attended, proposed, *keep.parameters(), *take.parameters())
    for training in (False, True):
        keep.train(training)
        torch.manual_seed(1)
        packing = Packing(key_mask.sum(1), 7)
        result = remember(keep, take, packing.pack(attended), packing.pack(proposed), packing)
        torch.manual_seed(1)
        factors = keep[2](torch.ones(sum(packing.sizes), 5).double())
        assert bool((factors == 0).any()) == training
        noise = [packing.unpack(factors), torch.ones(3, 7, 3).double()]
        slow = slowly(keep, take, attended, proposed, key_mask, noise)
        torch.testing.assert_close(result, slow)
        assert torch.equal(result[2], torch.zeros(4).double())
        weights = torch.randn_like(slow)
        for ours, theirs in zip(gradients(result, weights, *inputs), gradients(slow, weights, *inputs), strict=True):
            torch.testing.assert_close(ours, theirs)


def test_half_precision_around_cells() -> None:
    """Under autocast the products of inputs are rounded, the recurrence is not, and gradients keep their types."""
    torch.manual_seed(0)
    cell, features = nn.LSTMCell(5, 3), torch.randn(2, 4, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        states, cells = unrolled(cell, features, torch.tensor([4, 3]))
    assert states.dtype == cells.dtype == torch.float32
    states.sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in cell.parameters())
    torch.testing.assert_close(states, unrolled(cell, features, torch.tensor([4, 3]))[0], rtol=0.05, atol=0.05)


@pytest.mark.parametrize("kind", [LSTM, GRU])
def test_half_precision_around_layers(kind: type[LSTM] | type[GRU], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LSTM, "_STEP", -1)
    torch.manual_seed(0)
    cell, features, lengths = kind(5, 3), torch.randn(2, 4, 5), torch.tensor([4, 3])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        states = cell(features, lengths)
    assert states.dtype == torch.float32
    states.sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in cell.parameters())
    torch.testing.assert_close(states, cell(features, lengths), rtol=0.05, atol=0.05)

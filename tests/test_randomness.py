"""Stateless random numbers: golden values, independence of batch and order, and uniformity."""

from __future__ import annotations

import math

import pytest
import torch

from mer_lightning.randomness import name_key, uniform

ALL = 2**64 - 1


def _mix(bits: int) -> int:
    bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & ALL
    bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & ALL
    return bits ^ (bits >> 31)


def _slow_uniform(*keys: int) -> float:
    """The same computation with Python's integers, as unsigned 64-bit numbers."""
    state, gamma = 0, 0x9E3779B97F4A7C15
    for key in keys:
        state = _mix(((state ^ _mix((key + gamma) & ALL)) + gamma) & ALL)
    return (state >> 11) / 2**53


def test_golden():
    """The masks of published results depend on these numbers. Never change them."""
    assert name_key("frames") == 25135923075732720
    assert uniform(0).item() == 0.6524484863740322
    assert uniform(-1).item() == 0.3662420901697574
    assert uniform(2**62).item() == 0.7458692342734184
    assert uniform(1111).item() == 0.3107261124563212
    assert uniform(1111, name_key("frames"), torch.tensor([0, 1, 2])).tolist() == [
        0.774891220489128,
        0.44554208057443356,
        0.20733434509258364,
    ]


@pytest.mark.parametrize("keys", [(0,), (1111, 3), (1, 2, 3, 4), (-5, 2**63 - 1), (-(2**63), 7), (0, 0, 0)])
def test_equals_unsigned_arithmetic(keys):
    assert uniform(*keys).item() == _slow_uniform(*keys)


def test_name_keys_are_stable_distinct_and_fit():
    names = [f"{a} {b}" for a in ("train", "valid", "test") for b in range(1000)]
    keys = [name_key(name) for name in names]
    assert len(set(keys)) == len(keys)
    assert all(0 <= key < 2**63 for key in keys)
    assert name_key("a") == 0xCA978112CA1BBD  # the first seven bytes of SHA-256


def test_broadcasting_equals_single_calls():
    rows, steps = torch.arange(5), torch.arange(7)
    together = uniform(1111, rows.unsqueeze(1), steps)
    assert together.shape == (5, 7)
    assert together.tolist() == [[uniform(1111, i, j).item() for j in range(7)] for i in range(5)]


def test_neither_batch_nor_order_nor_integer_type_matters():
    rows = torch.arange(100)
    whole = uniform(3, rows)
    order = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    assert torch.equal(uniform(3, rows[order]), whole[order])
    assert torch.equal(torch.cat([uniform(3, part) for part in rows.split(7)]), whole)
    assert torch.equal(uniform(torch.tensor(3), rows.int()), whole)
    assert torch.equal(uniform(torch.tensor([3]), rows), whole)


def test_no_state_is_read_or_left():
    torch.manual_seed(0)
    first, after = uniform(1, torch.arange(10)), torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(torch.rand(1), after)
    assert torch.equal(uniform(1, torch.arange(10)), first)


def test_the_result_is_on_the_device_of_the_tensor_keys():
    """The result is on the device of the tensor keys; ``meta`` stands for an accelerator."""
    index = torch.arange(4, device="meta")
    assert uniform(1, index, 2, torch.tensor(3)).device.type == "meta"
    assert uniform(index, 1).device.type == "meta"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_accelerator_draws_the_same():
    rows = torch.arange(10_000)
    assert torch.equal(uniform(1111, rows.cuda(), 5).cpu(), uniform(1111, rows, 5))


N = 200_000


@pytest.mark.parametrize(
    "draws",
    [
        pytest.param(uniform(torch.arange(N)), id="one key"),
        pytest.param(uniform(1111, torch.arange(N)), id="last key"),
        pytest.param(uniform(torch.arange(N), 1111), id="first key"),
        pytest.param(uniform(torch.arange(-N // 2, N // 2), 0), id="negative keys"),
        pytest.param(uniform(torch.arange(N) * 2**32, 0), id="high bits"),
    ],
)
def test_uniform(draws):
    assert draws.dtype == torch.float64
    assert draws.min() >= 0
    assert draws.max() < 1
    # Six standard errors of the mean, of the variance and of neighbours' covariance.
    assert abs(draws.mean().item() - 1 / 2) < 6 * math.sqrt(1 / 12 / N)
    assert abs(draws.var().item() - 1 / 12) < 6 * math.sqrt(1 / 180 / N)
    for lag in (1, 2, 3, 64):
        covariance = ((draws[:-lag] - 0.5) * (draws[lag:] - 0.5)).mean().item()
        assert abs(covariance) < 6 * (1 / 12) / math.sqrt(N)
    bins = torch.histc(draws, bins=100, min=0, max=1)
    chi_squared = ((bins - N / 100) ** 2 / (N / 100)).sum().item()
    assert abs(chi_squared - 99) < 6 * math.sqrt(2 * 99)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param((1, torch.arange(N)), (2, torch.arange(N)), id="seeds"),
        pytest.param((torch.arange(N), 5), (5, torch.arange(N)), id="order of keys"),
        pytest.param((1, torch.arange(N)), (1, torch.arange(N), 0), id="one key more"),
        pytest.param((0, torch.arange(N)), (torch.arange(N),), id="a key of zero"),
        pytest.param((name_key("a"), torch.arange(N)), (name_key("b"), torch.arange(N)), id="names"),
        pytest.param((3, torch.arange(N)), (4, torch.arange(N) + 1), id="seed and index shifted"),
    ],
)
def test_other_keys_are_independent(one, other):
    a, b = uniform(*one), uniform(*other)
    assert (a == b).sum() <= 1
    assert abs(((a - 0.5) * (b - 0.5)).mean().item()) < 6 * (1 / 12) / math.sqrt(N)


def test_hardly_any_number_comes_twice():
    draws = uniform(1, torch.arange(500).unsqueeze(1), torch.arange(500)).flatten()
    assert len(draws.unique()) == len(draws)

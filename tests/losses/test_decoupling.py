"""Decoupling losses: golden values of the upstream definitions, and what must stay finite."""

from __future__ import annotations

import pytest
import torch
from torch import tensor

from mer_lightning.losses.decoupling import (
    cmd,
    cross_correlation,
    orthogonality,
    reverse_gradient,
    token_overlap,
)

X = tensor([[0.1, 0.9], [0.4, 0.2], [0.8, 0.5], [0.3, 0.7]], dtype=torch.float64)
Y = tensor([[0.2, 0.6], [0.7, 0.1], [0.5, 0.5], [0.9, 0.4]], dtype=torch.float64)
OF_PAIRS = {
    "cmd": cmd,
    "orthogonality": orthogonality,
    "per sample": lambda x, y, rows=None: orthogonality(x, y, rows, per_sample=True),
    "cross_correlation": cross_correlation,
}


def test_golden_values() -> None:
    assert cmd(X, Y, 5).item() == pytest.approx(0.3009503484, abs=1e-6)
    assert cmd(X, Y, 3).item() == pytest.approx(0.2926391959, abs=1e-6)
    assert orthogonality(X, Y).item() == pytest.approx(0.4687965513, abs=1e-5)
    assert cross_correlation(X, Y).item() == pytest.approx(0.2570856289, abs=1e-7)


def test_token_overlap_by_hand() -> None:
    x, y = tensor([[[1.0, 2.0], [0.0, 1.0]]]), tensor([[[1.0, 0.0], [1.0, 1.0], [2.0, 0.0]]])
    assert token_overlap(x, y).tolist() == [15.0]  # products [[1, 3, 2], [0, 1, 0]]
    shorter = torch.cat([y, torch.zeros(1, 2, 2)], dim=1)
    assert token_overlap(x, shorter).tolist() == [15.0]


@pytest.mark.parametrize("name", OF_PAIRS)
def test_rows_that_do_not_count_play_no_part(name: str) -> None:
    loss = OF_PAIRS[name]
    nothing = torch.full((1, 2), float("nan"), dtype=torch.float64)
    rows = tensor([True, True, False, True, True])
    x, y = (torch.cat([each[:2], nothing, each[2:]]) for each in (X, Y))
    torch.testing.assert_close(loss(x, y, rows=rows), loss(X, Y))


@pytest.mark.parametrize("name", OF_PAIRS)
@pytest.mark.parametrize("case", ["one sample", "identical", "zero rows", "nothing counts"])
def test_stays_finite(name: str, case: str) -> None:
    x, y = X.clone(), Y.clone()
    if case == "one sample":
        x, y = x[:1], y[:1]
    if case == "identical":
        x, y = x[:1].repeat(4, 1), x[:1].repeat(4, 1)
    if case == "zero rows":
        x[1] = y[2] = 0
    rows = torch.zeros(len(x), dtype=torch.bool) if case == "nothing counts" else None
    x, y = x.requires_grad_(), y.requires_grad_()
    loss = OF_PAIRS[name](x, y, rows=rows)
    loss.backward()
    assert loss.isfinite()
    assert x.grad.isfinite().all()
    assert y.grad.isfinite().all()


def test_cmd_of_equal_batches_and_of_one_sample_is_zero() -> None:
    assert cmd(X, X).item() == pytest.approx(0, abs=1e-5)
    assert cmd(X[:1], Y[:1]) == 0


def test_difference_grows_with_the_batch_unless_divided_by_it() -> None:
    torch.manual_seed(0)
    pairs = {n: (torch.rand(n, 32), torch.rand(n, 32)) for n in (16, 256)}
    upstream = {n: orthogonality(*pair).item() for n, pair in pairs.items()}
    divided = {n: orthogonality(*pair, per_sample=True).item() for n, pair in pairs.items()}
    assert upstream[256] / upstream[16] > 10
    assert divided[256] / divided[16] < 0.2


@pytest.mark.parametrize("name", ["cmd", "cross_correlation"])
def test_gradient_is_that_of_finite_differences(name: str) -> None:
    x, y = X.clone().requires_grad_(), Y.clone().requires_grad_()
    assert torch.autograd.gradcheck(OF_PAIRS[name], (x, y))


def test_half_precision_is_computed_in_float32() -> None:
    assert cmd(X.bfloat16(), Y.bfloat16()).dtype == torch.float32


def test_reversed_gradient() -> None:
    x = X.clone().requires_grad_()
    y = reverse_gradient(x, 0.5)
    assert torch.equal(y, x)
    y.square().sum().backward()
    torch.testing.assert_close(x.grad, -0.5 * 2 * X)

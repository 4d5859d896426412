"""Dropout with sixteen bits per element: rates, expectations, gradients, seeds."""

from __future__ import annotations

import pytest
import torch

from mer_lightning.layers.dropout import Dropout, dropout


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.7])
def test_rate_and_expectation(rate: float) -> None:
    torch.manual_seed(0)
    result = dropout(torch.ones(400_000), rate)
    deviation = (rate * (1 - rate) / result.numel()) ** 0.5
    assert abs(float((result == 0).double().mean()) - rate) < 5 * deviation
    assert result[result != 0].unique().tolist() == pytest.approx([1 / (1 - rate)], rel=1e-4)
    # Neighbours share a draw of 64 bits, and must not know of each other.
    dropped = (result == 0).double().view(-1, 4)
    assert torch.corrcoef(dropped.T).fill_diagonal_(0).abs().max() < 5 * dropped.shape[0] ** -0.5


def test_gradient_is_that_of_the_elements_that_stayed() -> None:
    torch.manual_seed(0)
    values = torch.randn(3, 7, requires_grad=True)
    result = dropout(values, 0.4)
    result.sum().backward()
    assert values.grad is not None
    torch.testing.assert_close(values.grad * values.detach(), result.detach())
    assert 0 < int((result == 0).sum()) < result.numel()


def test_one_seed_one_mask_and_another_each_time() -> None:
    torch.manual_seed(3)
    first, second = dropout(torch.ones(5, 13), 0.5), dropout(torch.ones(5, 13), 0.5)
    torch.manual_seed(3)
    torch.testing.assert_close(dropout(torch.ones(5, 13), 0.5), first, rtol=0, atol=0)
    assert not torch.equal(first, second)


def test_rates_of_zero_and_one_empty_tensors_and_evaluation_mode() -> None:
    values = torch.randn(4, 5)
    assert torch.equal(dropout(values, 1.0), torch.zeros(4, 5))
    assert torch.equal(Dropout(0.0)(values), values)
    assert torch.equal(Dropout(0.9).eval()(values), values)
    assert dropout(values[:0], 0.5).shape == (0, 5)
    with pytest.raises(ValueError, match=r"1\.5"):
        Dropout(1.5)

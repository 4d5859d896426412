"""Losses that take representations apart, where few samples count: against slow references over those that do."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, tensor

from mer_lightning.losses import decoupling


def draws(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_five_moments_unless_asked_otherwise() -> None:
    x, y = draws(20, 3), draws(20, 3, seed=1) * 2
    total = (x.mean(0) - y.mean(0)).norm()
    for k in range(2, 6):
        total = total + (((x - x.mean(0)) ** k).mean(0) - ((y - y.mean(0)) ** k).mean(0)).norm()
    assert decoupling.cmd(x, y).item() == pytest.approx(total.item(), rel=1e-5)


@pytest.mark.parametrize("samples", [1, 2, 3])
def test_correlations_need_two_samples(samples: int) -> None:
    """Of two samples all correlations are 1 or -1."""
    x, y, rows = draws(5, 3), draws(5, 2, seed=1), torch.arange(5) < samples
    found = decoupling.cross_correlation(x, y, rows).item()
    if samples == 1:
        assert found == 0
        return
    together = torch.cat([x, y], 1)[:samples]
    expected = torch.corrcoef(together.T)[:3, 3:].square().mean()
    assert found == pytest.approx(expected.item(), rel=1e-4)


def test_one_sample_is_its_own_mean() -> None:
    rows = tensor([True, False, False])
    assert decoupling.orthogonality(draws(3, 4), draws(3, 4, seed=1), rows) == 0


def test_orthogonality_per_sample_divides_by_those_that_count() -> None:
    x, y, rows = draws(5, 3), draws(5, 3, seed=1), tensor([True, True, True, True, False])

    def normed(values: Tensor) -> Tensor:
        centred = values[:4] - values[:4].mean(0)
        return centred / centred.norm(dim=1, keepdim=True)

    product = normed(x).T @ normed(y)
    for per_sample, expected in ((False, product), (True, product / 4)):
        found = decoupling.orthogonality(x, y, rows, per_sample)
        assert found.item() == pytest.approx(expected.square().mean().item(), rel=1e-4)

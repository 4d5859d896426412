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


@pytest.mark.parametrize("samples", [2, 3, 6])
def test_hsic_against_its_definition(samples: int) -> None:
    x, y, rows = draws(6, 3), draws(6, 2, seed=1), torch.arange(6) < samples

    def kernel(values: Tensor) -> Tensor:
        distances = torch.cdist(values[:samples].double(), values[:samples].double()).square()
        return torch.exp(-distances / (2 * 0.7**2))

    centring = torch.eye(samples, dtype=torch.float64) - 1 / samples
    expected = torch.trace(kernel(x) @ centring @ kernel(y) @ centring) / (samples - 1) ** 2
    assert decoupling.hsic(x, y, rows, bandwidth=0.7).item() == pytest.approx(expected.item(), rel=1e-4)


def test_hsic_takes_the_median_distance_for_its_bandwidth() -> None:
    """All pairs count in the median, those of a sample with itself, too; equal samples have no distance at all."""
    x, y = draws(7, 3), draws(7, 2, seed=1)
    widths = [torch.cdist(each, each).square().median().sqrt() for each in (x, y)]
    first, second = (torch.exp(-torch.cdist(v, v).square() / (2 * w**2)) for v, w in zip((x, y), widths, strict=True))
    centring = torch.eye(7) - 1 / 7
    expected = torch.trace(first @ centring @ second @ centring) / 36
    assert decoupling.hsic(x, y).item() == pytest.approx(expected.item(), rel=1e-4)
    assert decoupling.hsic(torch.ones(7, 3), y) == pytest.approx(0.0, abs=1e-6)


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


@pytest.mark.parametrize("anchors", [1, 2])
def test_label_margin_over_the_anchors_that_have_both_kinds(anchors: int) -> None:
    """Samples 0 and 1 have one label; sample 2 another one; sample 3 does not count, whatever it holds."""
    features, labels = draws(4, 5), tensor([1.0, 1.0, 3.0, 2.0])
    features[1], features[3] = -features[0], torch.nan
    rows = tensor([True, True, True, False])
    positive = torch.zeros(4, 4, dtype=torch.bool)
    positive[0, 1], positive[1, 0], positive[0, 3], positive[2, 2] = True, anchors == 2, True, True
    unit = torch.nn.functional.normalize(features, dim=1)
    terms = [(0.15 * 2 - unit[i] @ unit[1 - i] + unit[i] @ unit[2]).clamp(min=0) for i in range(anchors)]
    found = decoupling.label_margin(features, labels, positive, rows=rows)
    assert found.item() == pytest.approx((sum(terms) / anchors).item(), rel=1e-5)
    assert found > 0


def test_label_margin_without_any_anchor_is_zero() -> None:
    assert decoupling.label_margin(draws(3, 5), torch.ones(3), torch.ones(3, 3, dtype=torch.bool)) == 0

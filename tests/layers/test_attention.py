"""Attention on a CPU is torch's, in whatever way it is computed."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mer_lightning.layers import attention
from mer_lightning.layers.attention import attend

BATCH, HEADS, QUERIES, KEYS, WIDTH = 7, 2, 4, 5, 3
MASKS = {"none": None, "keys": (BATCH, 1, 1, KEYS), "queries and keys": (BATCH, 1, QUERIES, KEYS)}


@pytest.fixture(params=["at once", "in pieces", "sample by sample"])
def way(request, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param != "at once":
        monkeypatch.setattr(attention, "_KEPT", 0)
        samples = 3 if request.param == "in pieces" else 0
        monkeypatch.setattr(attention, "_PIECE", samples * HEADS * QUERIES * KEYS)


def drawn(dtype: torch.dtype = torch.float64) -> list[Tensor]:
    draw = torch.Generator().manual_seed(0)
    shapes = ((BATCH, HEADS, steps, WIDTH) for steps in (QUERIES, KEYS, KEYS))
    return [torch.randn(shape, generator=draw, dtype=dtype).requires_grad_() for shape in shapes]


def mask_of(shape: tuple[int, ...] | None) -> Tensor | None:
    if shape is None:
        return None
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(1)) > 0.5
    mask[..., 0] = True
    return mask


@pytest.mark.parametrize("shape", MASKS.values(), ids=MASKS)
def test_values_and_gradients_are_those_of_torch(way: None, shape: tuple[int, ...] | None) -> None:
    inputs, mask = drawn(), mask_of(shape)
    result, known = attend(*inputs, mask), F.scaled_dot_product_attention(*inputs, attn_mask=mask)
    torch.testing.assert_close(result, known)
    weights = torch.randn_like(known)
    for ours, theirs in zip(*(torch.autograd.grad(x, inputs, weights) for x in (result, known)), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_sixteen_bits(way: None) -> None:
    inputs = drawn(torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = attend(*inputs, mask_of(MASKS["keys"]))
    known = F.scaled_dot_product_attention(*(each.double() for each in inputs), attn_mask=mask_of(MASKS["keys"]))
    assert result.dtype == torch.bfloat16
    torch.testing.assert_close(result.double(), known, rtol=0.05, atol=0.05)
    for ours, theirs in zip(*(torch.autograd.grad(x.sum(), inputs) for x in (result, known)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0.05, atol=0.1)


def test_with_dropout_it_is_that_of_torch_on_average() -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 3, 5, 4) for _ in range(3))
    mask = torch.rand(2, 1, 5, 5) > 0.4
    mask[..., 0] = True
    plain = attend(query, key, value, mask, 0.0)
    many = torch.stack([attend(query, key, value, mask, 0.3) for _ in range(4000)])
    error = many.std(0) / len(many) ** 0.5
    assert ((many.mean(0) - plain).abs() < 6 * error + 1e-6).all()
    # What is hidden stays hidden, whatever it is.
    changed = torch.where(mask[0, 0, 0].view(1, 1, 5, 1), value, value + 100)
    torch.manual_seed(1)
    result = attend(query, key, value, mask, 0.3)[0, :, 0]
    torch.manual_seed(1)
    torch.testing.assert_close(attend(query, key, changed, mask, 0.3)[0, :, 0], result)

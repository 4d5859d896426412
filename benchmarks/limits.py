"""Rows that say how far a training step is from what the processor could do: its products alone, as one large product.

What is beside the products (dropout, softmax, the optimiser, memory) has a limit of its own, which nobody counts here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
import yaml
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.harness import Row, side_by_side
from benchmarks.peers import MULT, PEERS
from benchmarks.training import made_batch, supervised_step
from mer_lightning.backbones.base import all_backbones

_SIDE = 1024  # of a product that reaches the processor's rate


def limit_rows() -> Iterator[Row]:
    """The architectures that are set beside MMSA, and ours; every sample of full length."""
    mult = {name: yaml.safe_load(value) for name, value in (option.split("=") for option in MULT)}
    sizes = {peer.backbone: peer.batch for peer in PEERS} | {"late_transformer": 32, "bottleneck": 32}
    for name, samples in sizes.items():
        backbone = partial(all_backbones()[name], **(mult if name == "mult" else {}))
        step = supervised_step(backbone, made_batch(samples))
        work = operations(step)
        sides = ("a training step", step), ("its products, as one large product", product_of(work))
        yield side_by_side(f"the processor's limit, {name}", *sides, "", note=f"{work / 1e9:.1f} GFLOP in products")


def operations(step: Callable[[], object]) -> int:
    """Floating-point operations of a step in products of matrices; no one asks for gradients of features."""
    aten = torch.ops.aten
    counter = FlopCounterMode(
        display=False,
        custom_mapping={
            aten.addmm_: lambda out, left, right, **_: 2 * left[0] * left[1] * right[1],
            aten.mkldnn_rnn_layer: lambda features, weights, *_, **__: _recurrent(features, weights, 1),
            aten.mkldnn_rnn_layer_backward: lambda features, weights, *_, **__: _recurrent(features, weights, 2),
        },
    )
    with counter:
        step()
    return int(counter.get_total_flops())


def _recurrent(features: Any, weights: Any, of_states: int) -> int:
    """Of (T, B, D) features and (4 H, D) weights: one product with the features, so many with the states."""
    steps, batch, width = features
    gates = weights[0]
    return int(2 * steps * batch * gates * (width + of_states * gates // 4))


def product_of(work: int) -> Callable[[], torch.Tensor]:
    right = torch.randn(_SIDE, _SIDE)
    left = torch.randn(max(work // (2 * _SIDE * _SIDE), 1), _SIDE)
    out = torch.empty_like(left)
    return lambda: torch.mm(left, right, out=out)

"""Which parameters decay, the learning rate over time, and one pass over the weights for each step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import nn

Schedule = Literal["cosine", "constant"]


def decayed_and_plain(parameters: Iterable[nn.Parameter], **options: Any) -> list[dict[str, Any]]:
    """Parameter groups of those that learn: weights, then norms and biases, which no weight decay touches."""
    learners = [parameter for parameter in parameters if parameter.requires_grad]
    decayed, plain = ([p for p in learners if (p.dim() > 1) is weights] for weights in (True, False))
    return [{"params": decayed, **options}, {"params": plain, "weight_decay": 0.0, **options}]


def with_fused_kernels(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Lets torch's own optimisers make a step in one pass over memory, where they can and nothing else was asked for.

    Given to the constructor, `fused=True` would also forbid to clip gradients under 16-bit scaling; set in the groups,
    it chooses the same kernels without that.
    """
    for group in optimizer.param_groups:
        left_open = group.get("fused", False) is None and not any(
            group.get(other) for other in ("foreach", "capturable", "differentiable")
        )
        if left_open and all(p.is_floating_point() for p in group["params"]):
            group["fused"] = True
    return optimizer


def rate_factor(schedule: Schedule, total: int) -> Callable[[int], float]:
    """step -> factor of every group's learning rate, after a warm-up over the first tenth of ``total`` steps."""
    warmup = max(total // 10, 1)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        if schedule == "constant":
            return 1.0
        return 0.5 * (1 + math.cos(math.pi * min((step - warmup) / max(total - warmup, 1), 1.0)))

    return factor


def with_schedule(optimizer: torch.optim.Optimizer, schedule: Schedule, total: int) -> OptimizerLRScheduler:
    """What Lightning wants of ``configure_optimizers``: the rate changes with every step."""
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rate_factor(schedule, total))
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

"""Which parameters decay, and the learning rate over time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, Literal

from torch import nn

Schedule = Literal["cosine", "constant"]


def decayed_and_plain(parameters: Iterable[nn.Parameter], **options: Any) -> list[dict[str, Any]]:
    """Parameter groups of those that learn: weights, then norms and biases, which no weight decay touches."""
    learners = [parameter for parameter in parameters if parameter.requires_grad]
    decayed, plain = ([p for p in learners if (p.dim() > 1) is weights] for weights in (True, False))
    return [{"params": decayed, **options}, {"params": plain, "weight_decay": 0.0, **options}]


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

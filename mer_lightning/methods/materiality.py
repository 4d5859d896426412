"""Whether a loss matters: its share of what moves the encoders, and whether it pulls with the task or against it.

A loss may be large and move nothing, or small and move much. What counts is its gradient.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mer_lightning.methods.phase import Losses

EVERY = 5  # epochs between two measurements
MATERIAL = 0.05  # a loss with a smaller share hardly acts: what is measured is not the method
TASK = "task"
SHARE, COSINE = "gradient_share/", "gradient_cosine/"  # how the names of logged values begin, behind the phase's


@dataclass(frozen=True)
class Pull:
    """share = |g| / |g_task| and cosine = g g_task / (|g| |g_task|) of a loss's weighted gradient g."""

    share: Tensor
    cosine: Tensor


def pulls(losses: Losses, parameters: Iterable[nn.Parameter]) -> dict[str, Pull]:
    """{name: Pull} of every loss beside the task's that reaches ``parameters``; nothing where there is no task.

    The graph of the losses stays, for the step's own backward pass.
    """
    learning = [parameter for parameter in parameters if parameter.requires_grad]
    if TASK not in losses or not learning:
        return {}
    gradients = {name: _gradient(value, weight, learning) for name, (value, weight) in losses.items()}
    task = gradients.pop(TASK)
    if task is None:
        return {}
    found = {}
    for name, gradient in gradients.items():
        if gradient is not None:
            own, of_task = gradient.norm(), task.norm()
            cosine = gradient @ task / (own * of_task).clamp(min=1e-20)
            found[name] = Pull(own / of_task.clamp(min=1e-20), cosine)
    return found


def _gradient(value: Tensor, weight: float, parameters: list[nn.Parameter]) -> Tensor | None:
    """The gradient of weight times value, as one vector; None where the loss does not reach the parameters at all."""
    if not value.requires_grad:
        return None
    parts = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
    if all(part is None for part in parts):
        return None
    flat = [torch.zeros_like(p) if part is None else part for p, part in zip(parameters, parts, strict=True)]
    return weight * torch.cat([part.flatten().double() for part in flat])


def immaterial(shares: Mapping[str, float]) -> str:
    """One line on losses whose mean share is below MATERIAL; empty where there are none."""
    small = {name: share for name, share in shares.items() if share < MATERIAL}
    listed = ", ".join(f"{name} {share:.1%}" for name, share in small.items())
    return f"share of the task's gradient on the encoders below {MATERIAL:.0%}: {listed}" if small else ""

"""Which of two ways of computing the same a layer takes."""

from __future__ import annotations

import torch
from torch import Tensor


def quick_on_cpu(tensor: Tensor) -> bool:
    """Whether to take the way that looks at values, such as lengths, and is quicker on a CPU.

    An accelerator would have to wait for the host to see them, and an exported model has none to look at.
    """
    return tensor.device.type == "cpu" and not torch.compiler.is_exporting()

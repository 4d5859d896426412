"""Sample weights from uncertainty: learnt together with the task, or made from what the model says.

Shapes: B samples (of all views), V views, C classes, O outputs, N samples of the training split.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from mer_lightning.tasks import MultiLabel, Task

Direction = Literal["suppress", "emphasize"]

LOWEST, HIGHEST = 0.2, 5.0  # of a learnt weight
_EPS = 1e-6


def bounded_log_scale(raw: Tensor) -> Tensor:
    """s = a tanh(raw / a) with a = ln 5: exp(-s) stays in [0.2, 5], and s = raw near zero.

    A hard clamp has the same bounds, but a sample beyond them would have no gradient by which to come back.
    """
    bound = math.log(HIGHEST)
    return bound * torch.tanh(raw / bound)


def heteroscedastic(losses: Tensor, log_scale: Tensor, laplace: bool) -> Tensor:
    """(B,) exp(-s) l + s for the L1 loss (the likelihood of a Laplace law), exp(-s) l + s / 2 otherwise."""
    return torch.exp(-log_scale) * losses + (log_scale if laplace else log_scale / 2)


def predictive_uncertainty(logits: Tensor, task: Task) -> Tensor:
    """(V, B) in [0, 1] of logits (V, B, O): entropy / ln C; the mean entropy / ln 2 of the labels, where each is a yes
    or no; for regression and ratings, the deviation of a sample's predictions over views, the mean over targets.
    """
    views, samples = logits.shape[:2]
    p = task.probabilities(logits.flatten(0, 1))
    if p is None:
        return logits.float().std(0, unbiased=False).mean(-1).expand(views, samples)
    if isinstance(task, MultiLabel):
        uncertainty = (_entropy(p) + _entropy(1 - p)).mean(1) / math.log(2)
    else:
        uncertainty = _entropy(p).sum(1) / math.log(p.shape[1])
    return uncertainty.view(views, samples)


def _entropy(p: Tensor) -> Tensor:
    return torch.special.entr(p)


@torch.no_grad()
def sample_weights(uncertainty: Tensor, direction: Direction, kappa: float = 5.0) -> Tensor:
    """(B,) weights of mean 1 without a gradient; unchanged when all uncertainties are multiplied by one number.

    suppress:   clamp(1 / (u / median u), 0.2, 1): in [0.2, 5] once the mean is 1
    emphasize:  1 + kappa (u / max u)^2:           in [1 / (1 + kappa), 1 + kappa] once the mean is 1
    """
    u = uncertainty.float()
    if direction == "suppress":
        weights = (1 / (u / u.median().clamp(min=_EPS)).clamp(min=_EPS)).clamp(LOWEST, 1.0)
    else:
        weights = 1 + kappa * (u / u.max().clamp(min=_EPS)).square()
    return weights / weights.mean()


class UncertaintyBank(nn.Module):
    """What is remembered of each training sample in each combination: an exponential moving average.

    A buffer, so that a fit that was killed goes on with it; it takes the size of what is loaded into it.

    Args:
        momentum: share of the old value that stays.
    """

    table: Tensor  # (N, 7), NaN where a sample was never seen

    def __init__(self, momentum: float = 0.9) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("table", torch.empty(0, 7))
        self.register_load_state_dict_pre_hook(_take_size)

    def resize(self, samples: int) -> None:
        """Forget everything, unless the size is right already."""
        if len(self.table) != samples:
            self.table = torch.full((samples, 7), torch.nan, device=self.table.device)

    @torch.no_grad()
    def update(self, index: Tensor, combination: Tensor, values: Tensor) -> Tensor:
        """(B,) the averages with the new values in them; a combination of 0 is not kept and gives back its value."""
        values, place = values.float(), (combination - 1).clamp(min=0)
        before = self.table[index, place]
        after = values.where(before.isnan(), self.momentum * before + (1 - self.momentum) * values)
        kept = combination > 0
        self.table[index, place] = after.where(kept, before)
        return after.where(kept, values)


def _take_size(module: nn.Module, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    assert isinstance(module, UncertaintyBank)
    if (name := f"{prefix}table") in state:
        module.resize(len(state[name]))

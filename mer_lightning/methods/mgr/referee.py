"""The referee: a classifier of modalities that is well trained, so that shared codes have something to hide from.

It trains by itself, beside the method's optimiser, on the codes of the last batches; to everybody else it stands still.

Shapes: B batch, M modalities, d width of codes, R batches remembered.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

from mer_lightning.methods.mgr.losses import recognition

_HIDDEN = 64
_BATCHES = 16
_STEPS = 4  # per batch: with two, codes hid from it only after the epoch that validation chooses
_RATE = 3e-3
_BETAS, _EPS = (0.9, 0.999), 1e-8


class Referee(nn.Module):
    """Says of codes (..., d) which of M modalities they are of, and learns it by Adam from the last 16 batches.

    Its parameters ask for no gradient: no optimiser and no reducer of several processes knows them. What it remembers,
    and the state of Adam, are buffers, so that a fit that was killed goes on with them.
    """

    bank: Tensor  # (R, B, M, d) the codes of the last batches, the oldest first
    filled: Tensor  # (R, B, M) bool, which of them are there
    first: Tensor  # Adam's moments of all parameters in one row, and its steps
    second: Tensor
    steps: Tensor

    def __init__(self, modalities: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, modalities))
        self.layers.requires_grad_(False)
        size = sum(parameter.numel() for parameter in self.layers.parameters())
        self.register_buffer("first", torch.zeros(size))
        self.register_buffer("second", torch.zeros(size))
        self.register_buffer("steps", torch.zeros(()))
        self.register_buffer("bank", torch.zeros(_BATCHES, 0, modalities, width))
        self.register_buffer("filled", torch.zeros(_BATCHES, 0, modalities, dtype=torch.bool))
        self.register_load_state_dict_pre_hook(_take_size)

    def forward(self, codes: Tensor) -> Tensor:
        """Logits (..., M): a gradient reaches the codes, and not the referee."""
        logits: Tensor = self.layers(codes)
        return logits

    @torch.no_grad()
    def learn(self, codes: Tensor, present: Tensor) -> None:
        """Four steps on the last batches, of which codes (B, M, d), where they are present (B, M), are the newest."""
        self._make_room(len(codes))
        unused = self.bank.shape[1] - len(codes)
        newest = nn.functional.pad(codes, (0, 0, 0, 0, 0, unused)), nn.functional.pad(present, (0, 0, 0, unused))
        self.bank = torch.cat([self.bank[1:], newest[0].unsqueeze(0)])
        self.filled = torch.cat([self.filled[1:], newest[1].unsqueeze(0)])
        for _ in range(_STEPS):
            self._step()

    def _make_room(self, samples: int) -> None:
        """For batches of more samples than there ever were."""
        if (more := samples - self.bank.shape[1]) > 0:
            self.bank = nn.functional.pad(self.bank, (0, 0, 0, 0, 0, more))
            self.filled = nn.functional.pad(self.filled, (0, 0, 0, more))

    def _step(self) -> None:
        gradient = self._gradient()
        self.steps += 1
        self.first.lerp_(gradient, 1 - _BETAS[0])
        self.second.lerp_(gradient.square(), 1 - _BETAS[1])
        mean, square = (
            moment / (1 - beta**self.steps) for moment, beta in zip((self.first, self.second), _BETAS, strict=True)
        )
        change = _RATE * mean / (square.sqrt() + _EPS)
        parameters = list(self.layers.parameters())
        for parameter, part in zip(parameters, change.split([p.numel() for p in parameters]), strict=True):
            parameter.sub_(part.view_as(parameter))

    @torch.enable_grad()
    def _gradient(self) -> Tensor:
        """Of the cross-entropy over the bank, for all parameters in one row."""
        learning = {name: parameter.detach().requires_grad_() for name, parameter in self.layers.named_parameters()}
        logits = torch.func.functional_call(self.layers, learning, (self.bank.flatten(0, 1),))
        loss = recognition(logits, self.filled.flatten(0, 1))
        return parameters_to_vector(torch.autograd.grad(loss, list(learning.values())))


def _take_size(referee: nn.Module, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    """What is loaded says how large batches are."""
    assert isinstance(referee, Referee)
    for name in ("bank", "filled"):
        if (key := f"{prefix}{name}") in state:
            setattr(referee, name, torch.zeros_like(state[key], device=getattr(referee, name).device))

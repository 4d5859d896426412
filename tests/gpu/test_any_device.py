"""Training steps on the device `meta`, which every machine has: an accelerator whose tensors have no values.

A tensor that a step makes on the host by mistake does not fit those of the device. A step that asks for a value finds
none: on an accelerator the host would have to wait for it.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import torch

from mer_lightning.backbones.base import Backbone, all_backbones
from mer_lightning.backbones.early import Early
from mer_lightning.contract import DIMS, example_batch
from mer_lightning.methods.base import MERMethod, all_methods
from mer_lightning.methods.supervised import Supervised
from mer_lightning.tasks import Regression
from tests.tiny_encoders import tiny_encoder, with_tokens


@pytest.fixture(autouse=True)
def autocast_of_no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch has none for `meta`."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())


def train(method: MERMethod, tokens: bool = False) -> None:
    """A step of every phase."""
    batch = example_batch("aligned", Regression())
    batch = (with_tokens(batch) if tokens else batch).to("meta")
    method.to("meta")
    for phase in method.phases():
        method.enter(phase)
        losses = [value * weight for value, weight in phase.losses(batch).values()]
        assert {loss.device.type for loss in losses} == {"meta"}
        torch.stack(losses).sum().backward()
        assert any(parameter.grad is not None for parameter in method.parameters())


@pytest.mark.parametrize("backbone", all_backbones().values(), ids=all_backbones())
def test_every_backbone(backbone: type[Backbone], tmp_path: Path) -> None:
    def make(widths: dict[str, int]) -> Backbone:
        return backbone(widths, path=str(tiny_encoder(tmp_path))) if backbone.needs_tokens else backbone(widths)

    dims = DIMS | {"text": 1} if backbone.needs_tokens else DIMS
    train(Supervised(dims=dims, task_card=Regression().card(), backbone=make), backbone.needs_tokens)


@pytest.mark.parametrize("method", all_methods().values(), ids=all_methods())
def test_every_method(method: type[MERMethod]) -> None:
    train(method(dims=DIMS, task_card=Regression().card(), backbone=Early))

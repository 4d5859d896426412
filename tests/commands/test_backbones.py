"""`mer-lightning backbones` lists them all, and its claim about missing modalities is measured."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from mer_lightning.backbones.base import Encoded, all_backbones
from mer_lightning.backbones.early import Early
from mer_lightning.cli import main
from mer_lightning.commands import backbones
from mer_lightning.commands.backbones import is_safe
from mer_lightning.contract import DIMS
from mer_lightning.contract import example_batch as make_batch


def test_lists_every_backbone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MER_DATA", str(tmp_path))
    for name, value in {"_BATCH": 4, "_WARM_UP": 0, "_STEPS": 1}.items():  # nobody reads the times
        monkeypatch.setattr(backbones, name, value)
    assert main(["backbones"]) == 0
    printed = capsys.readouterr().out
    for name, cls in all_backbones().items():
        assert name in printed
        if cls.needs_tokens:
            assert any(line.split()[:1] == [name] and "needs token ids" in line for line in printed.splitlines())
            continue
        size = sum(parameter.numel() for parameter in cls({"text": 768, "audio": 5, "vision": 20}).parameters())
        assert f"{size:,}" in printed


def test_a_leak_is_called_unsafe() -> None:
    class Leaky(Early):
        def fuse(self, encoded: Encoded, present: Tensor) -> Tensor:
            return self.fusion(torch.cat(list(encoded.vectors.values()), dim=1))

    assert is_safe(Early(DIMS), make_batch())
    assert not is_safe(Leaky(DIMS), make_batch())

"""Exported models answer as the method does, whatever the batch, its steps and its masks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from mer_lightning.api.export import TensorsOnly, export, input_names
from mer_lightning.contract import DIMS
from mer_lightning.errors import Refusal
from mer_lightning.methods.base import MERMethod
from mer_lightning.methods.supervised import Supervised
from mer_lightning.tasks import SingleLabel

TASK = SingleLabel(("happy", "sad", "neutral", "angry"))


def method(backbone: str) -> MERMethod:
    torch.manual_seed(0)
    return Supervised(dims=DIMS, task_card=TASK.card(), backbone=backbone).eval()


def inputs(samples: int, steps: int) -> tuple[Tensor, ...]:
    draw = torch.Generator().manual_seed(samples)
    made: list[Tensor] = []
    for width in DIMS.values():
        made.append(torch.randn(samples, steps, width, generator=draw))
        made.append(torch.randint(0, steps + 1, (samples,), generator=draw))
    return (*made, torch.rand(samples, 3, generator=draw) < 0.7)


def test_a_program_of_torch(tmp_path: Path) -> None:
    path = export(method("late_transformer"), tmp_path / "model.pt2")
    for shape in ((9, 4), (3, 11)):
        given = inputs(*shape)
        answer = torch.export.load(path).module()(*given)
        torch.testing.assert_close(answer, TensorsOnly(method("late_transformer"))(*given), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("backbone", "steps"), [("late_transformer", None), ("tfn", 6)])
def test_onnx(backbone: str, steps: int | None, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    session = runtime.InferenceSession(export(method(backbone), tmp_path / "model.onnx", steps))
    assert [each.name for each in session.get_inputs()] == input_names(method(backbone))
    given = inputs(9, 6)
    fed = {name: tensor.numpy() for name, tensor in zip(input_names(method(backbone)), given, strict=True)}
    answer = torch.from_numpy(session.run(["output"], fed)[0])
    torch.testing.assert_close(answer, TensorsOnly(method(backbone))(*given), atol=1e-4, rtol=0)


def test_what_cannot_be_exported_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="steps=50"):
        export(method("tfn"), tmp_path / "model.pt2")
    with pytest.raises(Refusal, match="choose another backbone"):
        export(method("mfn"), tmp_path / "model.pt2", steps=6)
    with pytest.raises(Refusal, match="ending in"):
        export(method("early"), tmp_path / "model.pb")
    assert not list(tmp_path.iterdir())

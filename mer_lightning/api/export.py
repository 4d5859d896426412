"""A trained model as a file that other programs run: ONNX, or a program of torch.export.

Inputs, in this order, for each modality that the model knows:
    MODALITY           (B, T, D) float32, as extracted: the model standardises features itself
    MODALITY_lengths   (B,) int64: how many of the T steps count; 0 for a sample that lacks the modality
and then
    present            (B, 3) bool: which of text, audio, vision the model may look at
Output:
    output             (B, O): numbers in the units of the labels, or logits of the classes
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from mer_lightning.batch import Batch
from mer_lightning.errors import Refusal
from mer_lightning.methods.base import MERMethod
from mer_lightning.modalities import MODALITIES
from mer_lightning.whole_files import whole

_SUFFIXES = (".onnx", ".pt2")
_SAMPLES, _STEPS = 5, 7  # of the example: numbers that no width has by chance
_MOST_SAMPLES, _MOST_STEPS = 2**16, 2**14


class TensorsOnly(nn.Module):
    """A method whose inputs are tensors, in the order that is written above."""

    def __init__(self, method: MERMethod) -> None:
        super().__init__()
        self.method, self.modalities = method.eval(), tuple(method.dims)

    def forward(self, *inputs: Tensor) -> Tensor:
        *of_modalities, present = inputs
        features = dict(zip(self.modalities, of_modalities[::2], strict=True))
        lengths = dict(zip(self.modalities, of_modalities[1::2], strict=True))
        index = torch.arange(present.shape[0], device=present.device)
        there = [lengths[m] > 0 if m in lengths else index < 0 for m in MODALITIES]
        answer: Tensor = self.method(Batch(features, lengths, present & torch.stack(there, 1), None, index))
        return answer


def input_names(method: MERMethod) -> list[str]:
    return [*(name for m in method.dims for name in (m, f"{m}_lengths")), "present"]


def export(method: MERMethod, path: Path, steps: int | None = None) -> Path:
    """Write the file.

    ``steps``: the number of steps that every sequence is padded to; by default any number, which backbones with
    recurrences cannot have.
    """
    if path.suffix not in _SUFFIXES:
        raise Refusal(path, f"a name ending in {' or '.join(_SUFFIXES)}", f"'{path.suffix}'", "choose another name")
    if method.vocabulary is not None:
        raise Refusal(path, "a model that reads features", "one that reads token ids", "train on features of the text")
    if path.suffix == ".onnx" and importlib.util.find_spec("onnxscript") is None:
        raise Refusal(path, "the package onnxscript", "none", "pip install 'mer-lightning[export]'")
    with _without_chatter():
        program = _program(method, steps)
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as temporary:
            if path.suffix == ".onnx":
                _write_onnx(program, method, temporary)
            else:
                torch.export.save(program, temporary)
    return path


def _program(method: MERMethod, steps: int | None) -> ExportedProgram:
    inputs: list[Tensor] = []
    shapes: list[dict[int, Any]] = []
    batch, common = Dim("batch", min=2, max=_MOST_SAMPLES), Dim("steps", min=2, max=_MOST_STEPS)
    for modality, width in method.dims.items():
        own = common if method.backbone.aligned_only else Dim(f"{modality}_steps", min=2, max=_MOST_STEPS)
        inputs += [torch.zeros(_SAMPLES, steps or _STEPS, width), torch.full((_SAMPLES,), steps or _STEPS)]
        shapes += [{0: batch} if steps else {0: batch, 1: own}, {0: batch}]
    inputs.append(torch.ones(_SAMPLES, len(MODALITIES), dtype=torch.bool))
    shapes.append({0: batch})
    try:
        model = TensorsOnly(method)
        return torch.export.export(model, tuple(inputs), dynamic_shapes=(tuple(shapes),), strict=False)
    except Exception as error:  # of many kinds, all of which say that the model's code does not fit a fixed program
        backbone = type(method.backbone).__name__
        expected, found = "a model without loops over steps", f"{backbone}: {type(error).__name__}"
        remedy = "choose another backbone" if steps else "name a number of steps: export(path, steps=50)"
        raise Refusal("export", expected, found, remedy) from error


def _write_onnx(program: ExportedProgram, method: MERMethod, path: Path) -> None:
    names = input_names(method)
    made = torch.onnx.export(
        program, dynamo=True, input_names=names, output_names=["output"], external_data=False, verbose=False
    )
    assert made is not None
    made.model.metadata_props["task"] = json.dumps(method.task.card())
    made.model.metadata_props["trained_on"] = method.trained_on
    made.save(path)


@contextlib.contextmanager
def _without_chatter() -> Iterator[None]:
    """What the exporters print while they work is not for people who use them."""
    logging.disable(logging.WARNING)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)

"""MFN: MMSA's sizes and outputs, and equality with the plain loop over steps that it rearranges."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mer_lightning.backbones.mfn import MFN
from mer_lightning.batch import Batch
from mer_lightning.contract import DIMS
from mer_lightning.contract import example_batch as make_batch
from tests.backbones.mmsa_peer import mmsa_class

SMALL: dict[str, Any] = {"hidden": [4, 2, 3], "memory": 5, "shapes": [6, 7, 8, 9], "width": 4}


@pytest.mark.parametrize(
    ("backbone", "expected"),
    [
        (MFN({"text": 768, "audio": 5, "vision": 20}, preset="mmsa"), 2_172_657),
        (MFN({"text": 768, "audio": 74, "vision": 35}, [128, 32, 128], 128, [128, 128, 256, 256]), 1_276_865),
    ],
    ids=["mosi", "mosei"],
)
def test_sizes_of_mmsa(backbone: MFN, expected: int) -> None:
    modules = (backbone, nn.Linear(backbone.state_width, 1))
    assert sum(p.numel() for module in modules for p in module.parameters()) == expected


def state(backbone: MFN, batch: Batch) -> Tensor:
    with torch.no_grad():
        return backbone.fuse(backbone.encode(batch), batch.present)


@torch.no_grad()
def test_equals_mmsa() -> None:
    shapes = dict(zip(("NN1Config", "NN2Config", "gamma1Config", "gamma2Config"), SMALL["shapes"], strict=True))
    options: dict[str, Any] = {name: {"shapes": shape, "drop": 0.1} for name, shape in shapes.items()}
    options |= {"outConfig": {"shapes": 4, "drop": 0.1}, "hidden_dims": SMALL["hidden"], "memsize": 5, "windowsize": 2}
    options |= {"feature_dims": list(DIMS.values()), "train_mode": "regression", "num_classes": 3}
    torch.manual_seed(1)
    theirs: Any = mmsa_class("models.singleTask.MFN", "MFN")(SimpleNamespace(**options)).eval()
    ours: Any = MFN(DIMS, **SMALL, preset="mmsa").eval()
    for m, letter in (("text", "l"), ("audio", "a"), ("vision", "v")):
        ours.cells[m].load_state_dict(getattr(theirs, f"lstm_{letter}").state_dict())
    for network, name in (
        (ours.attention, "att1"),
        (ours.proposal, "att2"),
        (ours.keep, "gamma1"),
        (ours.take, "gamma2"),
    ):
        network[0].load_state_dict(getattr(theirs, f"{name}_fc1").state_dict())
        network[3].load_state_dict(getattr(theirs, f"{name}_fc2").state_dict())
    ours.out[0].load_state_dict(theirs.out_fc1.state_dict())
    batch = make_batch("aligned")
    result = theirs.out_fc2(state(ours, batch))
    torch.testing.assert_close(result, theirs(*batch.features.values())["M"], rtol=0, atol=1e-5)


@torch.no_grad()
def test_equals_a_loop_over_the_steps_of_each_sample_alone() -> None:
    torch.manual_seed(0)
    backbone, batch = MFN(DIMS, **SMALL).eval(), make_batch("aligned")
    result = state(backbone, batch)
    for row, steps in enumerate(batch.lengths["text"].tolist()):
        hidden = {m: torch.zeros(1, cell.hidden_size) for m, cell in backbone.cells.items()}
        content, memory = dict(hidden), torch.zeros(1, 5)
        for step in range(steps):
            before = torch.cat(list(content.values()), dim=1)
            for m, cell in backbone.cells.items():
                hidden[m], content[m] = cell(batch.features[m][row, step, None], (hidden[m], content[m]))
            both = torch.cat([before, *content.values()], dim=1)
            attended = backbone.attention(both).softmax(1) * both
            seen = torch.cat([attended, memory], dim=1)
            memory = (
                backbone.keep(seen).sigmoid() * memory
                + backbone.take(seen).sigmoid() * backbone.proposal(attended).tanh()
            )
        expected = backbone.out(torch.cat([*hidden.values(), memory], dim=1))[0]
        torch.testing.assert_close(result[row], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fault", [True, False])
def test_padding_counts(fault: bool) -> None:
    torch.manual_seed(0)
    backbone, batch = MFN(DIMS, **SMALL, padding_counts=fault).eval(), make_batch("aligned")
    longer = {m: torch.cat([f, torch.zeros(len(batch), 2, f.shape[2])], dim=1) for m, f in batch.features.items()}
    assert torch.allclose(state(backbone, batch), state(backbone, replace(batch, features=longer)), atol=1e-5) != fault

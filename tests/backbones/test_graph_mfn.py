"""Graph-MFN: MMSA's sizes and outputs, equality with a graph written out vertex by vertex, and each fault's cure."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mer_lightning.backbones.graph_mfn import FusionGraph, GraphMFN
from mer_lightning.batch import Batch
from mer_lightning.contract import DIMS
from mer_lightning.contract import example_batch as make_batch
from tests.backbones.mmsa_peer import mmsa_class

SMALL: dict[str, Any] = {"hidden": [4, 2, 3], "inner": 6, "memory": 5, "shapes": [7, 8, 9], "width": 4}


MOSI = {"text": 768, "audio": 5, "vision": 20}
MOSEI = {"text": 768, "audio": 74, "vision": 35}
MOSEI_SIZES: dict[str, Any] = {"hidden": [64, 16, 64], "inner": 128, "shapes": [32, 64, 256], "width": 128}


@pytest.mark.parametrize(
    ("backbone", "trained", "unregistered"),
    [
        (GraphMFN(MOSI, preset="mmsa"), 2_110_624, 208_656),
        (GraphMFN(MOSEI, **MOSEI_SIZES, preset="mmsa"), 675_792, 133_712),
    ],
    ids=["mosi", "mosei"],
)
def test_sizes_of_mmsa(backbone: GraphMFN, trained: int, unregistered: int) -> None:
    parameters = [p for module in (backbone, nn.Linear(backbone.state_width, 1)) for p in module.parameters()]
    assert sum(p.numel() for p in parameters if p.requires_grad) == trained
    assert sum(p.numel() for p in parameters if not p.requires_grad) == unregistered


def state(backbone: GraphMFN, batch: Batch) -> Tensor:
    with torch.no_grad():
        return backbone.fuse(backbone.encode(batch), batch.present)


@torch.no_grad()
def test_equals_mmsa() -> None:
    shapes = dict(zip(("NNConfig", "gamma1Config", "gamma2Config"), SMALL["shapes"], strict=True))
    options: dict[str, Any] = {name: {"shapes": shape, "drop": 0.1} for name, shape in shapes.items()}
    options |= {"outConfig": {"shapes": 4, "drop": 0.1}, "hidden_dims": SMALL["hidden"], "memsize": 5}
    options |= {"inner_node_dim": 6, "device": "cpu"}
    options |= {"feature_dims": list(DIMS.values()), "train_mode": "regression", "num_classes": 3}
    torch.manual_seed(1)
    theirs: Any = mmsa_class("models.singleTask.Graph_MFN", "Graph_MFN")(SimpleNamespace(**options)).eval()
    ours: Any = GraphMFN(DIMS, **SMALL, preset="mmsa").eval()
    for m, letter in (("text", "l"), ("audio", "a"), ("vision", "v")):
        ours.cells[m].load_state_dict(getattr(theirs, f"lstm_{letter}").state_dict())
        ours.vertices[m].load_state_dict(getattr(theirs, f"{letter}_transform").state_dict())
    graph = theirs.graph_mfn
    keys = {"text_audio": (0, 1), "text_vision": (0, 2), "audio_vision": (1, 2), "text_audio_vision": (0, 1, 2)}
    networks = {name: graph.networks[key] for name, key in keys.items()} | {"summary": graph.t_network}
    for name, source in networks.items():
        ours.graph.networks[name][0].load_state_dict(source[0].state_dict())
        ours.graph.networks[name][2].load_state_dict(source[1][0].state_dict())
    first, second, last = graph.efficacy_model
    for target, source in zip(ours.graph.efficacies[:5:2], (first, second[0], last), strict=True):
        target.load_state_dict(source.state_dict())
    for network, name in ((ours.proposal, "att2"), (ours.keep, "gamma1"), (ours.take, "gamma2")):
        network[0].load_state_dict(getattr(theirs, f"{name}_fc1").state_dict())
        network[3].load_state_dict(getattr(theirs, f"{name}_fc2").state_dict())
    ours.out[0].load_state_dict(theirs.out_fc1.state_dict())
    batch = make_batch("aligned")
    result = theirs.out_fc2(state(ours, batch))
    torch.testing.assert_close(result, theirs(*batch.features.values())["M"], rtol=0, atol=1e-5)


@torch.no_grad()
def test_the_graph_equals_one_written_out_vertex_by_vertex() -> None:
    torch.manual_seed(0)
    graph = FusionGraph({"text": 4, "audio": 2, "vision": 3}, inner=6, linear=False)
    t, a, v = (torch.randn(2, 5, wide) for wide in (4, 2, 3))
    e = graph.efficacies(torch.cat([t, a, v], dim=2)).unsqueeze(-1)
    assert e.shape[2] == 19
    network = graph.networks
    ta = network["text_audio"](torch.cat([e[:, :, 0] * t, e[:, :, 1] * a], dim=2))
    tv = network["text_vision"](torch.cat([e[:, :, 2] * t, e[:, :, 3] * v], dim=2))
    av = network["audio_vision"](torch.cat([e[:, :, 4] * a, e[:, :, 5] * v], dim=2))
    six = [t, a, v, ta, tv, av]
    tav = network["text_audio_vision"](torch.cat([e[:, :, 6 + k] * x for k, x in enumerate(six)], dim=2))
    summary = network["summary"](torch.cat([e[:, :, 12 + k] * x for k, x in enumerate([*six, tav])], dim=2))
    torch.testing.assert_close(graph({"text": t, "audio": a, "vision": v}), summary)


@torch.no_grad()
def test_equals_a_loop_over_the_steps_of_each_sample_alone() -> None:
    torch.manual_seed(0)
    backbone, batch = GraphMFN(DIMS, **SMALL).eval(), make_batch("aligned")
    result = state(backbone, batch)
    for row, steps in enumerate(batch.lengths["text"].tolist()):
        hidden = {m: torch.zeros(1, cell.hidden_size) for m, cell in backbone.cells.items()}
        content, memory = dict(hidden), torch.zeros(1, 5)
        for step in range(steps):
            vertices = {}
            for m, cell in backbone.cells.items():
                before = hidden[m]
                hidden[m], content[m] = cell(batch.features[m][row, step, None], (hidden[m], content[m]))
                vertices[m] = backbone.vertices[m](torch.cat([before, hidden[m]], dim=1)).relu()[None]
            attended = backbone.graph(vertices)[0]
            seen = torch.cat([attended, memory], dim=1)
            memory = (
                backbone.keep(seen).sigmoid() * memory
                + backbone.take(seen).sigmoid() * backbone.proposal(attended).tanh()
            )
        expected = backbone.out(torch.cat([*hidden.values(), memory], dim=1))[0]
        torch.testing.assert_close(result[row], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fault", [True, False])
def test_frozen_vertices_never_train(fault: bool) -> None:
    backbone, batch = GraphMFN(DIMS, **SMALL, frozen_vertices=fault), make_batch("aligned")
    backbone.fuse(backbone.encode(batch), batch.present).sum().backward()
    trained = {name: next(network.parameters()).grad is not None for name, network in backbone.graph.networks.items()}
    vertices = ("text_audio", "text_vision", "audio_vision", "text_audio_vision")
    assert trained == dict.fromkeys(vertices, not fault) | {"summary": True}
    assert any(key.startswith("graph.networks.text_audio") for key in backbone.state_dict())  # saved all the same


@pytest.mark.parametrize("fault", [True, False])
@torch.no_grad()
def test_linear_graph(fault: bool) -> None:
    torch.manual_seed(0)
    graph: Any = FusionGraph({"text": 4, "audio": 2}, inner=6, linear=fault)
    x, y = torch.randn(2, 1, 1, 6) * 50
    efficacies, vertex = graph.efficacies(x), graph.networks["text_audio"]
    assert bool(((efficacies >= 0) & (efficacies <= 1)).all()) != fault
    middle = (vertex(x) + vertex(y)) / 2
    assert torch.allclose(vertex((x + y) / 2), middle, atol=1e-4) == fault


@pytest.mark.parametrize("fault", [True, False])
def test_padding_counts(fault: bool) -> None:
    torch.manual_seed(0)
    backbone, batch = GraphMFN(DIMS, **SMALL, padding_counts=fault).eval(), make_batch("aligned")
    longer = {m: torch.cat([f, torch.zeros(len(batch), 2, f.shape[2])], dim=1) for m, f in batch.features.items()}
    assert torch.allclose(state(backbone, batch), state(backbone, replace(batch, features=longer)), atol=1e-5) != fault


@pytest.mark.parametrize(("modalities", "edges"), [(("vision",), 1), (("text", "vision"), 5)])
def test_fewer_modalities_are_a_smaller_graph(modalities: tuple[str, ...], edges: int) -> None:
    batch = make_batch("aligned")
    backbone = GraphMFN({m: DIMS[m] for m in modalities}, **SMALL).eval()
    assert backbone.graph.efficacies[4].out_features == edges
    assert state(backbone, batch).std(dim=0).sum() > 1e-3

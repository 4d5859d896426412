"""Graph-MFN: Memory Fusion Network, its attention replaced by a graph over all combinations of modalities.

At each step every combination of modalities is a vertex. Vertices of one modality come from its LSTM, before and after
the step; each larger one is a small network over all vertices within it, and one more network sums up all of them. Each
edge has an efficacy, predicted from the vertices of single modalities, by which what flows along it is multiplied: for
three modalities 2 + 2 + 2 edges into pairs, 6 into the triple and 7 into the summary, 19 in all.

Nothing in the graph depends on the memory: it is computed for all steps at once.

Shapes: B batch, T time, D input width, H hidden width of a modality, N width of inner vertices.
"""

from __future__ import annotations

from itertools import combinations, pairwise

import torch
from torch import Tensor, nn

from mer_lightning.backbones.base import Backbone, Encoded
from mer_lightning.backbones.presets import Preset, resolve
from mer_lightning.batch import Batch
from mer_lightning.layers.dropout import Dropout
from mer_lightning.layers.pooling import last_step
from mer_lightning.layers.recurrence import Packing, unrolled
from mer_lightning.layers.shared_memory import network, remember, with_previous
from mer_lightning.modalities import MODALITIES

_FAULTS: dict[str, tuple[Preset, ...]] = {
    "frozen_vertices": ("mmsa",),
    "linear_graph": ("mmsa",),
    "padding_counts": ("mmsa",),
}
_HIDDEN = 100  # of every network in the graph, as released
_SUMMARY = "summary"


class GraphMFN(Backbone):
    """Memory fusion of aligned sequences through a dynamic fusion graph.

    Args:
        dims: width of each modality's features.
        hidden: hidden width of the LSTMs of text, audio and vision, and of their vertices.
        inner: width of the vertices of several modalities, and of the summary.
        memory: width of the memory.
        shapes: hidden widths of the networks of proposal, keeping gate and taking gate.
        dropout: of the same three networks.
        width: of the state.
        out_dropout: on the state.
        preset: whose faults to repeat.
        frozen_vertices: fault of mmsa: the networks of vertices of several modalities never train.
        linear_graph: fault of mmsa: nothing between the graph's linear layers, and efficacies without bounds.
        padding_counts: fault of mmsa: the recurrences run on over padding.
    """

    aligned_only = True
    encodes_alike = True
    encoder_parts = ("cells",)
    paper = "Zadeh et al., ACL 2018"

    def __init__(
        self,
        dims: dict[str, int],
        hidden: list[int] = [256, 32, 256],  # noqa: B006 (never changed; jsonargparse shows it in the help)
        inner: int = 64,
        memory: int = 300,
        shapes: list[int] = [32, 128, 64],  # noqa: B006
        dropout: list[float] = [0.0, 0.5, 0.5],  # noqa: B006
        width: int = 256,
        out_dropout: float = 0.0,
        preset: Preset = "fixed",
        frozen_vertices: bool | None = None,
        linear_graph: bool | None = None,
        padding_counts: bool | None = None,
    ) -> None:
        super().__init__()
        given = (frozen_vertices, linear_graph, padding_counts)
        self.faults = resolve(preset, _FAULTS, dict(zip(_FAULTS, given, strict=True)))
        widths = dict(zip(MODALITIES, hidden, strict=True))
        self.vector_widths = {m: widths[m] for m in dims}
        self.state_width = width
        self.cells = nn.ModuleDict({m: nn.LSTMCell(dim, widths[m]) for m, dim in dims.items()})
        self.vertices = nn.ModuleDict({m: nn.Linear(2 * wide, wide) for m, wide in self.vector_widths.items()})
        self.graph = FusionGraph(self.vector_widths, inner, linear=self.faults["linear_graph"])
        if self.faults["frozen_vertices"]:
            for name, vertex in self.graph.networks.items():
                vertex.requires_grad_(name == _SUMMARY)
        self.proposal = network(inner, shapes[0], memory, dropout[0])
        self.keep, self.take = (
            network(inner + memory, shape, memory, drop) for shape, drop in zip(shapes[1:], dropout[1:], strict=True)
        )
        self.out = nn.Sequential(
            nn.Linear(sum(self.vector_widths.values()) + memory, width), nn.ReLU(), Dropout(out_dropout)
        )

    def encode(self, batch: Batch) -> Encoded:
        """The sequences are the vertices of single modalities."""
        vectors, vertices, key_masks = {}, {}, {}
        for m, cell in self.cells.items():
            key_masks[m] = batch.key_mask(m)
            if self.faults["padding_counts"]:
                key_masks[m] = torch.ones_like(key_masks[m])
            lengths = key_masks[m].sum(1)
            states, _ = unrolled(cell, batch.features[m], lengths)  # type: ignore[arg-type]
            vertices[m] = self.vertices[m](with_previous(states)).relu()
            vectors[m] = last_step(states, lengths)
        return Encoded(vectors, vertices, key_masks)

    def fuse(self, encoded: Encoded, present: Tensor) -> Tensor:
        given = {m: present[:, MODALITIES.index(m)] for m in encoded.vectors}
        key_mask = torch.stack([encoded.key_masks[m] & given[m][:, None] for m in given]).any(0)
        packing = Packing(key_mask.sum(1), key_mask.shape[1])
        attended = self.graph(
            {m: packing.pack(encoded.sequences[m].where(given[m][:, None, None], 0.0)) for m in given}
        )
        memory = remember(self.keep, self.take, attended, self.proposal(attended).tanh(), packing)
        lasts = [encoded.vectors[m].where(given[m][:, None], 0.0) for m in given]
        return self.out(torch.cat([*lasts, memory], dim=1))


class FusionGraph(nn.Module):
    """The summary (..., N) of the vertices of single modalities {modality: (..., H)} and all that follow from them.

    Args:
        widths: H of each modality.
        inner: N.
        linear: leave out the activations.
    """

    def __init__(self, widths: dict[str, int], inner: int, linear: bool) -> None:
        super().__init__()
        wide = dict(widths)
        self.inputs: dict[str, list[str]] = {}  # of each vertex that has a network, and of the summary
        for vertex in _combinations(list(widths)):
            if len(vertex) > 1:
                self.inputs["_".join(vertex)] = ["_".join(within) for within in _combinations(vertex)[:-1]]
                wide["_".join(vertex)] = inner
        self.inputs[_SUMMARY] = list(wide)

        def stack(*sizes: int) -> list[nn.Module]:
            layers: list[nn.Module] = []
            for dim, out in pairwise(sizes):
                layers += [nn.Linear(dim, out), nn.Identity() if linear else nn.ReLU()]
            return layers[:-1]

        self.networks = nn.ModuleDict(
            {
                vertex: nn.Sequential(*stack(sum(wide[name] for name in inputs), _HIDDEN, inner))
                for vertex, inputs in self.inputs.items()
            }
        )
        edges = sum(len(inputs) for inputs in self.inputs.values())
        bounds = nn.Identity() if linear else nn.Sigmoid()
        self.efficacies = nn.Sequential(*stack(sum(widths.values()), _HIDDEN, inner, edges), bounds)

    def forward(self, singles: dict[str, Tensor]) -> Tensor:
        outputs = dict(singles)
        efficacies = iter(self.efficacies(torch.cat(list(singles.values()), dim=-1)).split(1, dim=-1))  # (..., 1) each
        for vertex, inputs in self.inputs.items():
            flows = [outputs[name] * next(efficacies) for name in inputs]
            outputs[vertex] = self.networks[vertex](torch.cat(flows, dim=-1))
        return outputs[_SUMMARY]


def _combinations(modalities: list[str] | tuple[str, ...]) -> list[tuple[str, ...]]:
    """All non-empty ones, the smaller first."""
    return [chosen for size in range(1, len(modalities) + 1) for chosen in combinations(modalities, size)]

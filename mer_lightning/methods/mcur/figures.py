"""The figure of MCUR: whether states of one category lie together, whatever combination they were made from.

Shapes: K combinations, N samples, d width of the state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import matplotlib
import torch
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from torch import Tensor

from mer_lightning.data.datamodule import MERData
from mer_lightning.errors import Refusal
from mer_lightning.methods.finished_runs import FinishedRun, FinishedRuns
from mer_lightning.methods.loading import load_method
from mer_lightning.modalities import combination_present, combinations_of

_SAMPLES = 120  # more points would hide each other
_MARKERS = "ov^s<D*"  # one per combination


@dataclass(frozen=True)
class StateMap:
    combinations: tuple[str, ...]
    points: Tensor  # (K, N, 2)
    category: Tensor  # (N,)


def figures(runs: FinishedRuns) -> dict[str, Figure]:
    """Of the first seed, from its checkpoint and its corpus; none where one of them is gone."""
    states = state_map(runs.runs[0])
    if states is None:
        return {}
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.subplots()
    # One colour per category, as the page's figures have them; the last one is of all beyond.
    colours = matplotlib.rcParams["axes.prop_cycle"].by_key()["color"]
    by_category: dict[str, Any] = {"cmap": ListedColormap(colours), "vmin": 0, "vmax": len(colours) - 1}
    named = zip(states.combinations, _MARKERS, strict=False)  # fewer than markers with fewer modalities
    for points, (combination, marker) in zip(states.points, named, strict=True):
        x, y = points.T.numpy()
        axes.scatter(x, y, c=states.category.numpy(), marker=marker, s=10, alpha=0.6, label=combination, **by_category)
    figure.legend(fontsize=8, loc="outside lower center", ncols=7, handletextpad=0.1, columnspacing=1)
    axes.set_xticks([])
    axes.set_yticks([])
    return {"states of the first seed: two principal components, one colour per category": figure}


def state_map(run: FinishedRun) -> StateMap | None:
    """The first two principal components of test samples' states under all combinations."""
    data: dict[str, Any] = run.config["data"]
    options = {key: data[key] for key in ("corpus", "alignment", "partition", "synthetic", "samples") if key in data}
    try:
        method, module = load_method(run.checkpoint).eval(), MERData(**options)
    except Refusal:
        return None
    module.setup("test")
    split = module.split("test")
    batch = split.batch(torch.arange(0, len(split), max(len(split) // _SAMPLES, 1))[:_SAMPLES])
    assert batch.target is not None
    combinations = combinations_of(method.dims)
    masks = torch.tensor([combination_present(name) for name in combinations])
    with torch.inference_mode():
        prepared = method.inputs(batch)
        states = method.states(method.backbone.encode(prepared), masks.unsqueeze(1) & prepared.present)
    rows = states.flatten(0, 1)  # (K N, d)
    centred = rows - rows.mean(0)
    _, _, directions = torch.linalg.svd(centred, full_matrices=False)
    points = (centred @ directions[:2].T).unflatten(0, states.shape[:2])
    return StateMap(combinations, points, method.task.category(batch.target))

"""A map of what a run makes of its test samples: states in two dimensions, by category and by what was there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mer_lightning.errors import Refusal
from mer_lightning.studies.ledger import Run
from mer_lightning.training.run_folder import BEST

if TYPE_CHECKING:
    from torch import Tensor

_SAMPLES = 120


@dataclass(frozen=True)
class StateMap:
    points: Tensor  # (K, N, 2) of K combinations
    category: Tensor  # (N,)
    combinations: tuple[str, ...]


def state_map(run: Run) -> StateMap | None:
    """The first two principal components over all combinations; None where checkpoint or corpus are not there."""
    import torch

    from mer_lightning.data.datamodule import MERData
    from mer_lightning.methods.loading import load_method
    from mer_lightning.modalities import COMBINATIONS, combination_present

    data: dict[str, Any] = run.config["data"]
    wanted = {key: data[key] for key in ("corpus", "alignment", "partition", "synthetic", "samples") if key in data}
    try:
        method, module = load_method(run.folder / BEST).eval(), MERData(**wanted)
    except Refusal:
        return None
    module.setup("test")
    split = module.split("test")
    batch = split.batch(torch.arange(0, len(split), max(len(split) // _SAMPLES, 1))[:_SAMPLES])
    masks = torch.tensor([combination_present(name) for name in COMBINATIONS])
    with torch.inference_mode():
        prepared = method.inputs(batch)
        states = method.states(method.backbone.encode(prepared), masks.unsqueeze(1) & prepared.present)
    flat = states.flatten(0, 1)
    centred = flat - flat.mean(0)
    _, _, directions = torch.linalg.svd(centred, full_matrices=False)
    assert batch.target is not None
    points = (centred @ directions[:2].T).unflatten(0, states.shape[:2])
    return StateMap(points, method.task.category(batch.target), COMBINATIONS)

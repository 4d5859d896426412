"""What stands beside the scores of a model: those of the best constant, and of a linear model of mean features.

The linear model is one for each combination of modalities, trained and chosen on the complete samples' own frames: for
a condition that masks whole modalities, each sample is predicted by the model of what the condition shows of it. Where
single frames are masked there is none. A model is kept in the user's cache, by the content of the corpus.

Shapes: N samples, M = 3 modalities, K conditions, O outputs, D width.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load, save
from torch import Tensor

from mer_lightning.data.corpus import Corpus, Split
from mer_lightning.data.linear import Floats, Labels, LinearModel, fitted, pooled
from mer_lightning.data.places import user_cache
from mer_lightning.evaluation.floors import best_floor, constants
from mer_lightning.evaluation.metrics import evaluate, score
from mer_lightning.evaluation.protocols import FrozenProtocol
from mer_lightning.modalities import MODALITIES, combination_name, combination_present
from mer_lightning.tasks import Task
from mer_lightning.whole_files import whole

_VERSION = 1  # of what is kept; raise it when the same corpus gives another model
_SAMPLES_AT_ONCE = 2048
_ENOUGH = 50_000  # samples, evenly spaced, that a model is trained on and chosen by: it has a few hundred weights


@dataclass(frozen=True)
class References:
    """Predictions of a split by models that every other one should beat."""

    constants: dict[str, Tensor]  # {name: (N, O)}
    linear: Tensor | None = None  # (K, N, O), NaN under conditions for which there is no linear model

    @staticmethod
    def joined(parts: Sequence[References]) -> References:
        """Of several splits, one after the other: each constant and each linear model is that of its own split."""
        names = [name for name in parts[0].constants if all(name in part.constants for part in parts)]
        linear = [part.linear for part in parts if part.linear is not None]
        return References(
            {name: torch.cat([part.constants[name] for part in parts]) for name in names},
            torch.cat(linear, 1) if len(linear) == len(parts) else None,
        )

    def of(self, rows: Tensor) -> References:
        """Those of some samples."""
        chosen = {name: logits[rows] for name, logits in self.constants.items()}
        return References(chosen, None if self.linear is None else self.linear[:, rows])

    def floor(self, task: Task, target: Tensor) -> dict[str, float]:
        """{metric: value} of the best constant."""
        return best_floor(task, {name: evaluate(task, logits, target) for name, logits in self.constants.items()})

    def linear_scores(self, task: Task, condition: int, target: Tensor) -> dict[str, float]:
        """{metric: value} under one condition; empty where there is no linear model."""
        if self.linear is None or bool(self.linear[condition].isnan().any()):
            return {}
        return evaluate(task, self.linear[condition], target)


def references(task: Task, corpus: Corpus, partition: str, split: str, frozen: FrozenProtocol) -> References:
    """Of one split of a corpus, under a protocol that was frozen for it."""
    train, evaluated = corpus.split(partition, "train"), corpus.split(partition, split)
    assert train.target is not None
    return References(
        constants(task, train.target, len(evaluated)), _linear_logits(task, corpus, partition, evaluated, frozen)
    )


def _linear_logits(
    task: Task, corpus: Corpus, partition: str, evaluated: Split, frozen: FrozenProtocol
) -> Tensor | None:
    """(K, N, O); None where there is no validation split to choose by."""
    if not len(corpus.rows(partition, "valid")):
        return None
    whole = [k for k, condition in enumerate(frozen.conditions) if condition.masks_whole_modalities]
    shown = frozen.present[whole] & torch.tensor([m in corpus.dims for m in MODALITIES])
    rows, kind = shown.flatten(0, 1).unique(dim=0, return_inverse=True)
    names = [combination_name(row) for row in rows.tolist()]
    models = {name: linear_model(task, corpus, partition, name) for name in names}
    logits = torch.full((len(frozen.conditions), len(evaluated), task.outputs), torch.nan)
    for index in torch.arange(len(evaluated)).split(_SAMPLES_AT_ONCE):
        features = _mean_features(evaluated, index, evaluated.modalities)
        each = [torch.from_numpy(models[name](_side_by_side(features, _modalities(name)))) for name in names]
        of_kind = torch.stack(each).float()  # (combinations, n, O)
        for k, kinds in zip(whole, kind.view(shown.shape[:2]), strict=True):
            logits[k, index] = of_kind[kinds[index], torch.arange(len(index))]
    return logits


def linear_model(task: Task, corpus: Corpus, partition: str, combination: str) -> LinearModel:
    """Trained on the training split, its penalty chosen on validation; the test split is not read."""
    width = sum(corpus.dims[m] for m in _modalities(combination))
    facts = [_VERSION, corpus.card.sha256, task.card(), partition, combination]
    path = user_cache() / "linear" / f"{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]}.safetensors"
    if (kept := _kept(path, width, task.outputs)) is not None:
        return kept

    def validation_score(outputs: Floats, labels: Labels) -> float:
        return score(task, evaluate(task, torch.from_numpy(outputs), torch.from_numpy(labels)))

    train, valid = (_evenly_spaced(corpus.split(partition, name), combination) for name in ("train", "valid"))
    model = fitted(task, train, valid, validation_score)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as temporary:
        temporary.write_bytes(save({name: np.ascontiguousarray(each) for name, each in vars(model).items()}))
    return model


def _evenly_spaced(split: Split, combination: str) -> tuple[Floats, Labels]:
    """(n, D) mean features of a combination, and the labels: of a split, or of some of its samples if it is large."""
    assert split.target is not None
    index = torch.arange(len(split))[:: -(-len(split) // _ENOUGH)]
    modalities = _modalities(combination)
    parts = [_mean_features(split, each, modalities) for each in index.split(_SAMPLES_AT_ONCE)]
    return np.concatenate([_side_by_side(each, modalities) for each in parts]), split.target[index].numpy()


def _mean_features(split: Split, index: Tensor, modalities: Sequence[str]) -> dict[str, Floats]:
    """{modality: (n, D)} of some samples."""
    return {m: pooled(split.frames(m, index).numpy(), split.lengths[m][index].numpy()) for m in modalities}


def _side_by_side(features: dict[str, Floats], modalities: Sequence[str]) -> Floats:
    return np.hstack([features[m] for m in modalities])


def _modalities(combination: str) -> list[str]:
    present = zip(MODALITIES, combination_present(combination), strict=True)
    return [m for m, is_present in present if is_present]


def _kept(path: Path, width: int, outputs: int) -> LinearModel | None:
    """The model in the cache, if there is one and it is whole."""
    shapes = {"mean": (width,), "deviation": (width,), "weight": (width, outputs), "bias": (outputs,)}
    try:
        arrays = load(path.read_bytes())
    except (OSError, SafetensorError):
        return None
    whole_one = {name: each.shape for name, each in arrays.items()} == shapes
    return LinearModel(**arrays) if whole_one and all(np.isfinite(each).all() for each in arrays.values()) else None

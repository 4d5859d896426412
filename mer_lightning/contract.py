"""The laws that every backbone and every method keeps, as checks that a project of one's own can run.

    from mer_lightning.contract import check_backbone, check_method

    def test_mine():
        check_backbone(Mine)
        check_method(MyMethod)

A check raises an AssertionError that names the law.

Shapes: B batch, T time, D width, M = 3 modalities, K masks.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mer_lightning.backbones.base import Backbone, Encoded
from mer_lightning.batch import Batch
from mer_lightning.layers.dropout import Dropout
from mer_lightning.methods.base import MERMethod
from mer_lightning.methods.supervised import Supervised
from mer_lightning.modalities import COMBINATIONS, MODALITIES, combination_present
from mer_lightning.tasks import MultiLabel, Ratings, Regression, SingleLabel, Task

ALIGNMENTS = ("aligned", "unaligned", "utterance")
DIMS = {"text": 12, "audio": 5, "vision": 7}
TASKS: dict[str, Task] = {
    "regression": Regression(),
    "single_label": SingleLabel(("happy", "sad", "neutral", "angry")),
    "multi_label": MultiLabel(("happy", "sad", "anger")),
    "ratings": Ratings(("valence", "arousal"), (1.0, -50.0), (7.0, 50.0)),
}
_MASKS = torch.tensor([combination_present(name) for name in COMBINATIONS])
_CLOSE = 1e-5
_LEARNS = 0.8  # of the parameters: few play no part in some batch


def example_batch(alignment: str = "unaligned", task: Task | None = None, samples: int = 6, seed: int = 0) -> Batch:
    """Random features with true lengths; every step beyond a length is zero."""
    draw = torch.Generator().manual_seed(seed)
    longest = {"aligned": (6, 6, 6), "unaligned": (6, 9, 11), "utterance": (1, 1, 1)}[alignment]
    shared = torch.randint(1, 7, (samples,), generator=draw)
    features, lengths = {}, {}
    for (m, dim), steps in zip(DIMS.items(), longest, strict=True):
        own = torch.randint(1, steps + 1, (samples,), generator=draw)
        lengths[m] = shared if alignment == "aligned" else own
        lengths[m][0] = steps
        values = torch.randn(samples, steps, dim, generator=draw)
        features[m] = values * (torch.arange(steps) < lengths[m][:, None])[..., None]
    target = None if task is None else _labels(task, samples, draw)
    return Batch(features, lengths, torch.ones(samples, 3, dtype=torch.bool), target, torch.arange(samples))


def _labels(task: Task, samples: int, draw: torch.Generator) -> Tensor:
    if isinstance(task, Regression):
        return torch.randn(samples, generator=draw)
    if isinstance(task, SingleLabel):
        return torch.randint(0, task.outputs, (samples,), generator=draw)
    if isinstance(task, Ratings):
        low, high = torch.tensor(task.low), torch.tensor(task.high)
        return low + (high - low) * torch.rand(samples, task.outputs, generator=draw)
    return torch.randint(0, 2, (samples, task.outputs), generator=draw).float()


def check_backbone(cls: type[Backbone], **options: Any) -> None:
    """Every law of a backbone that reads features, for every alignment that it takes, and every task trained on it."""
    for alignment in ALIGNMENTS:
        if alignment == "unaligned" and cls.aligned_only:
            continue
        for name, law in LAWS.items():
            with _named(f"{cls.__name__}, {alignment}: {name.replace('_', ' ')}"):
                law(example_backbone(cls, DIMS, **options), example_batch(alignment))
    for kind, task in TASKS.items():
        with _named(f"{cls.__name__}: trains on {kind}"):
            trains_on(example_backbone(cls, DIMS, **options), task, example_batch("aligned", task))


def check_method(cls: type[MERMethod], **options: Any) -> None:
    """Each phase has finite losses with gradients, whatever modalities samples have, and the method answers."""
    for kind, task in TASKS.items():
        torch.manual_seed(0)
        method = cls(dims=DIMS, task_card=task.card(), **{"backbone": "early", **options})
        batch = example_batch("aligned", task)
        present = _MASKS[: len(batch)]  # another combination for each sample
        for phase in method.phases():
            for masked in (batch, batch.limited_to(present)):
                with _named(f"{cls.__name__}, {kind}, phase {phase.name}: losses are finite and teach"):
                    method.enter(phase)
                    losses = phase.losses(method.inputs(masked))
                    total = torch.stack([weight * value for value, weight in losses.values()]).sum()
                    assert total.isfinite()
                    method.zero_grad()
                    total.backward()
                    learning = [parameter.grad for parameter in method.parameters() if parameter.grad is not None]
                    assert learning
                    assert all(gradient.isfinite().all() for gradient in learning)
        with _named(f"{cls.__name__}, {kind}: answers"):
            method.eval()
            assert method(batch).shape == (len(batch), task.outputs)


def example_backbone(cls: type[Backbone], dims: dict[str, int], **options: Any) -> Backbone:
    """In evaluation mode. Parameters that start at zero would hide what depends on them."""
    torch.manual_seed(0)
    backbone = cls(dims, **options).eval()
    with torch.no_grad():
        for parameter in backbone.parameters():
            if not parameter.any():
                parameter.normal_(std=0.1)
    return backbone


@contextmanager
def _named(law: str) -> Iterator[None]:
    """Inside, an assertion that fails says which law it is of."""
    try:
        yield
    except AssertionError as error:
        raise AssertionError(f"{law}: {error}") from error


# --- the laws of a backbone: (backbone in evaluation mode, batch of six samples)


def state_of(backbone: Backbone, batch: Batch) -> Tensor:
    with torch.no_grad():
        return backbone.fuse(backbone.encode(batch), batch.present)


def an_absent_modality_cannot_change_the_state(backbone: Backbone, batch: Batch) -> None:
    """Bit for bit, whatever it contains."""
    for mask in _MASKS[:-1]:
        masked = batch.limited_to(mask)
        before = state_of(backbone, masked)
        for surprise in (1e4, float("nan"), float("inf")):
            features = {
                m: values if mask[MODALITIES.index(m)] else torch.full_like(values, surprise)
                for m, values in masked.features.items()
            }
            assert torch.equal(before, state_of(backbone, replace(masked, features=features)))
        assert before.isfinite().all()


def a_present_modality_does_change_the_state(backbone: Backbone, batch: Batch) -> None:
    """With the others, and alone: the conditions t, a and v are no constants."""
    for number, modality in enumerate(MODALITIES):
        for given in (batch, batch.limited_to(torch.eye(3, dtype=torch.bool)[number])):
            other = replace(given, features=_changed(backbone, given, modality))
            difference = state_of(backbone, given) - state_of(backbone, other)
            assert difference.abs().max() > _CLOSE, modality


def _changed(backbone: Backbone, batch: Batch, modality: str) -> dict[str, Tensor]:
    """Token ids move to others of the vocabulary; features change in a way that no layer norm takes back."""
    other = batch.features[modality] * 2 + 1
    if not (backbone.needs_tokens and modality == "text"):
        other = other * torch.rand(other.shape, generator=torch.Generator().manual_seed(1))
    return batch.features | {modality: other}


def permuting_the_batch_permutes_the_output(backbone: Backbone, batch: Batch) -> None:
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    _assert_close(state_of(backbone, _chosen(batch, order)), state_of(backbone, batch)[order])


def padding_cannot_change_the_output(backbone: Backbone, batch: Batch) -> None:
    padded = {}
    for m, values in batch.features.items():
        longer = torch.cat([values, torch.full((len(batch), 4, values.shape[2]), 77.0)], dim=1)
        padding = torch.arange(longer.shape[1]) >= batch.lengths[m][:, None]
        padded[m] = longer.masked_fill(padding[..., None], 77.0)
    _assert_close(state_of(backbone, replace(batch, features=padded)), state_of(backbone, batch))


def fusing_many_masks_equals_many_passes(backbone: Backbone, batch: Batch) -> None:
    masks = _MASKS[:, None, :].expand(-1, len(batch), -1)
    with torch.no_grad():
        together = backbone.fuse_many(backbone.encode(batch), masks)
    for fused, mask in zip(together, _MASKS, strict=True):
        _assert_close(fused, state_of(backbone, batch.limited_to(mask)))


def a_batch_of_one_and_bfloat16_work(backbone: Backbone, batch: Batch) -> None:
    one = _chosen(batch, torch.tensor([0]))
    assert state_of(backbone, one).shape == (1, backbone.state_width)
    assert state_of(backbone, one).isfinite().all()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert state_of(backbone, batch).isfinite().all()


def widths_are_as_declared_and_gradients_finite(backbone: Backbone, batch: Batch) -> None:
    backbone = copy.deepcopy(backbone).train()
    encoded = backbone.encode(batch)
    assert {m: vector.shape[1] for m, vector in encoded.vectors.items()} == backbone.vector_widths
    fused = backbone.fuse(encoded, batch.present & torch.tensor([True, False, True]))
    both = backbone.fuse(encoded, batch.present)
    (fused.square().sum() + both.square().sum()).backward()
    for name, parameter in backbone.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), name
    trained = [name for name, parameter in backbone.named_parameters() if parameter.grad is not None]
    assert len(trained) > _LEARNS * len(list(backbone.named_parameters()))


def a_sample_with_nothing_at_all_stays_finite(backbone: Backbone, batch: Batch) -> None:
    none = {m: torch.zeros_like(n) for m, n in batch.lengths.items()}
    empty = replace(batch, lengths=none, present=torch.zeros_like(batch.present))
    assert state_of(backbone, empty).isfinite().all()


def encoder_parts_are_what_the_vectors_depend_on(backbone: Backbone, batch: Batch) -> None:
    """MGR trains these parameters alone, and CDaT needs that each vector has some."""
    backbone = copy.deepcopy(backbone)
    vectors = backbone.encode(batch).vectors
    learning = [vector.square().sum() for vector in vectors.values() if vector.requires_grad]
    if learning:
        torch.stack(learning).sum().backward()
    by_gradient = {name for name, parameter in backbone.named_parameters() if parameter.grad is not None}
    declared = {id(parameter) for parameter in backbone.encoder_parameters()}
    said = {name for name, p in backbone.named_parameters() if id(p) in declared and p.requires_grad}
    wanted = tuple(dict.fromkeys(name.partition(".")[0] for name in sorted(by_gradient)))
    assert said == by_gradient, f"set encoder_parts = {wanted} in {type(backbone).__name__}"


def encodes_alike_is_true_where_it_is_set(backbone: Backbone, batch: Batch) -> None:
    """CDaT spares an encoding there; one that has dropout and says otherwise would give it noisy confidences."""
    backbone = copy.deepcopy(backbone)
    for part in backbone.modules():  # whatever their rates are by default
        if isinstance(part, Dropout):
            part.rate = 0.5
    with torch.no_grad():
        evaluated, trained = (backbone.train(training).encode(batch) for training in (False, True))
    pairs = [(a[m], b[m]) for a, b in zip(_parts(evaluated), _parts(trained), strict=True) for m in a]
    alike = all(torch.equal(first, second) for first, second in pairs)
    assert backbone.encodes_alike == alike, f"set encodes_alike = {alike} in {type(backbone).__name__}"


def _chosen(batch: Batch, rows: Tensor) -> Batch:
    features, lengths = ({m: each[rows] for m, each in part.items()} for part in (batch.features, batch.lengths))
    return Batch(features, lengths, batch.present[rows], None, batch.index[rows])


def _parts(encoded: Encoded) -> tuple[dict[str, Tensor], ...]:
    return encoded.vectors, encoded.sequences, encoded.key_masks


def _assert_close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=_CLOSE, atol=_CLOSE)


LAWS: dict[str, Callable[[Backbone, Batch], None]] = {
    law.__name__: law
    for law in (
        an_absent_modality_cannot_change_the_state,
        a_present_modality_does_change_the_state,
        permuting_the_batch_permutes_the_output,
        padding_cannot_change_the_output,
        fusing_many_masks_equals_many_passes,
        a_batch_of_one_and_bfloat16_work,
        widths_are_as_declared_and_gradients_finite,
        a_sample_with_nothing_at_all_stays_finite,
        encoder_parts_are_what_the_vectors_depend_on,
        encodes_alike_is_true_where_it_is_set,
    )
}


def trains_on(backbone: Backbone, task: Task, batch: Batch) -> None:
    """A short step against the gradient lowers the loss."""
    own = copy.deepcopy(backbone)
    dims = {m: values.shape[2] for m, values in batch.features.items()}
    method = Supervised(dims, task.card(), lambda _: own).eval()  # without dropout

    def loss() -> Tensor:
        parts = method.training_losses(method.inputs(batch))
        return torch.stack([weight * value for value, weight in parts.values()]).sum()

    before = loss()
    before.backward()
    gradients = [(p, p.grad) for p in method.parameters() if p.grad is not None]
    length = torch.stack([gradient.norm() for _, gradient in gradients]).norm()
    with torch.no_grad():
        for parameter, gradient in gradients:
            parameter.sub_(1e-3 * gradient / length)
        assert loss() < before

"""The five laws of a backbone, for every backbone there is, both alignments and utterances (DESIGN.md, section 3).

Adding a backbone adds no line here, unless its parameter count is to be pinned in tests/backbones/.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from mer_lightning.backbones.base import Backbone, Encoded, all_backbones
from mer_lightning.batch import Batch
from mer_lightning.errors import Refusal
from mer_lightning.layers.dropout import Dropout
from mer_lightning.methods.supervised import Supervised
from mer_lightning.modalities import COMBINATIONS, MODALITIES, combination_present, combinations_of
from tests.conftest import DIMS, TASKS, make_batch
from tests.tiny_encoders import tiny_encoder, with_tokens

ALIGNMENTS = ("aligned", "unaligned", "utterance")
MASKS = torch.tensor([combination_present(name) for name in COMBINATIONS])


def allowed(cls: type[Backbone], alignment: str) -> bool:
    return alignment != "unaligned" or not cls.aligned_only


def dims_for(cls: type[Backbone]) -> dict[str, int]:
    return DIMS | {"text": 1} if cls.needs_tokens else DIMS


def batch_for(backbone: Backbone, alignment: str, **more: Any) -> Batch:
    batch = make_batch(alignment, **more)
    return with_tokens(batch) if backbone.needs_tokens else batch


CASES = [
    pytest.param(cls, alignment, id=f"{name}-{alignment}")
    for name, cls in all_backbones().items()
    for alignment in ALIGNMENTS
    if allowed(cls, alignment)
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[type[Backbone], Backbone]:
    """Each backbone is made once for all tests; one that trains it or changes it works on a copy."""
    found = {}
    for cls in all_backbones().values():
        torch.manual_seed(0)
        options = {"path": str(tiny_encoder(tmp_path_factory.mktemp("encoder")))} if cls.needs_tokens else {}
        found[cls] = cls(dims_for(cls), **options).eval()
        # Parameters that start at zero would hide what depends on them.
        with torch.no_grad():
            for parameter in found[cls].parameters():
                if not parameter.any():
                    parameter.normal_(std=0.1)
    return found


@pytest.fixture
def backbone(request: pytest.FixtureRequest, made: dict[type[Backbone], Backbone]) -> Iterator[Backbone]:
    torch.manual_seed(0)
    yield made[request.param]
    assert not any(part.training for part in made[request.param].modules()), "the test must work on a copy"
    assert all(p.grad is None for p in made[request.param].parameters()), "the test must work on a copy"


def state(backbone: Backbone, batch: Batch) -> torch.Tensor:
    with torch.no_grad():
        return backbone.fuse(backbone.encode(batch), batch.present)


@pytest.mark.parametrize(("backbone", "alignment"), CASES, indirect=["backbone"])
@pytest.mark.parametrize("combination", COMBINATIONS[:-1])
def test_absent_modality_cannot_change_the_state(backbone: Backbone, alignment: str, combination: str) -> None:
    present = torch.tensor(combination_present(combination))
    batch = batch_for(backbone, alignment).limited_to(present)
    before = state(backbone, batch)
    for surprise in (1e4, float("nan"), float("inf")):
        changed = dict(batch.features)
        for number, modality in enumerate(MODALITIES):
            if not present[number]:
                changed[modality] = torch.full_like(changed[modality], surprise)
        assert torch.equal(before, state(backbone, replace(batch, features=changed)))
    assert before.isfinite().all()


def changed(backbone: Backbone, batch: Batch, modality: str) -> dict[str, torch.Tensor]:
    """Token ids move to others of the vocabulary; features change in a way that no layer norm takes back."""
    other = batch.features[modality] * 2 + 1
    if not (backbone.needs_tokens and modality == "text"):
        other = other * torch.rand(other.shape, generator=torch.Generator().manual_seed(1))
    return batch.features | {modality: other}


@pytest.mark.parametrize(("backbone", "alignment"), CASES, indirect=["backbone"])
def test_present_modality_does_change_the_state(backbone: Backbone, alignment: str) -> None:
    batch = batch_for(backbone, alignment)
    for modality in MODALITIES:
        difference = state(backbone, batch) - state(
            backbone, replace(batch, features=changed(backbone, batch, modality))
        )
        assert difference.abs().max() > 1e-5


@pytest.mark.parametrize(("backbone", "alignment"), CASES, indirect=["backbone"])
def test_a_modality_alone_changes_the_state(backbone: Backbone, alignment: str) -> None:
    """With one modality present the state still depends on it: the conditions t, a and v are no constants."""
    batch = batch_for(backbone, alignment)
    for number, modality in enumerate(MODALITIES):
        alone = batch.limited_to(torch.eye(3, dtype=torch.bool)[number])
        difference = state(backbone, alone) - state(
            backbone, replace(alone, features=changed(backbone, batch, modality))
        )
        assert difference.abs().max() > 1e-5, modality


@pytest.mark.parametrize(("backbone", "alignment"), CASES, indirect=["backbone"])
def test_permuting_the_batch_permutes_the_output(backbone: Backbone, alignment: str) -> None:
    batch = batch_for(backbone, alignment)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    permuted = Batch(
        {m: f[order] for m, f in batch.features.items()},
        {m: n[order] for m, n in batch.lengths.items()},
        batch.present[order],
        None,
        batch.index[order],
    )
    torch.testing.assert_close(state(backbone, permuted), state(backbone, batch)[order], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("backbone", "alignment"), CASES, indirect=["backbone"])
def test_padding_cannot_change_the_output(backbone: Backbone, alignment: str) -> None:
    batch = batch_for(backbone, alignment)
    padded = {}
    for m, values in batch.features.items():
        more = torch.full((len(batch), 4, values.shape[2]), 77.0)
        longer = torch.cat([values, more], dim=1)
        steps = torch.arange(longer.shape[1])
        padding = (steps >= batch.lengths[m][:, None])[..., None]
        padded[m] = longer.masked_fill(padding, 77.0)
    torch.testing.assert_close(
        state(backbone, replace(batch, features=padded)), state(backbone, batch), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize(("backbone", "alignment"), CASES, indirect=["backbone"])
def test_fusing_many_masks_equals_many_passes(backbone: Backbone, alignment: str) -> None:
    batch = batch_for(backbone, alignment)
    masks = MASKS[:, None, :].expand(-1, len(batch), -1)
    with torch.no_grad():
        together = backbone.fuse_many(backbone.encode(batch), masks)
    for number, mask in enumerate(MASKS):
        torch.testing.assert_close(together[number], state(backbone, batch.limited_to(mask)), rtol=1e-5, atol=1e-5)


# What these models are about: text that guides the others, and modalities that attend to each other.
REFUSED = {"almt": ("av", "v"), "bbfn": ("av", "v"), "mult": ("v",)}


@pytest.mark.parametrize("letters", ["ta", "tv", "av", "v"])
@pytest.mark.parametrize("name", [name for name, cls in all_backbones().items() if not cls.needs_tokens])
def test_any_subset_of_modalities(name: str, letters: str) -> None:
    """Of a corpus that has no others: laws 1 and 4, whatever the columns of the others say."""
    torch.manual_seed(0)
    has = [m for m, present in zip(MODALITIES, combination_present(letters), strict=True) if present]
    if letters in REFUSED.get(name, ()):
        with pytest.raises(Refusal, match=f"{name}: expected"):
            all_backbones()[name]({m: DIMS[m] for m in has})
        return
    backbone = all_backbones()[name]({m: DIMS[m] for m in has}).eval()
    whole = make_batch("aligned")
    batch = replace(whole, features={m: whole.features[m] for m in has}, lengths={m: whole.lengths[m] for m in has})
    masks = torch.tensor([combination_present(each) for each in combinations_of(has)])
    with torch.no_grad():
        encoded = backbone.encode(batch)
        together = backbone.fuse_many(encoded, masks[:, None, :].expand(-1, len(batch), -1))
        assert together.shape == (len(masks), len(batch), backbone.state_width)
        assert together.isfinite().all()
        for fused, mask in zip(together, masks, strict=True):
            torch.testing.assert_close(fused, state(backbone, batch.limited_to(mask)), rtol=1e-5, atol=1e-5)
            surprise = {m: v if mask[MODALITIES.index(m)] else v * float("nan") for m, v in batch.features.items()}
            changed = replace(batch.limited_to(mask), features=surprise)
            assert torch.equal(state(backbone, changed), state(backbone, batch.limited_to(mask)))


@pytest.mark.parametrize(("backbone", "alignment"), CASES, indirect=["backbone"])
def test_batch_of_one_and_bfloat16(backbone: Backbone, alignment: str) -> None:
    one = batch_for(backbone, alignment, samples=1)
    assert state(backbone, one).shape == (1, backbone.state_width)
    assert state(backbone, one).isfinite().all()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert state(backbone, batch_for(backbone, alignment)).isfinite().all()


@pytest.mark.parametrize(("backbone", "alignment"), CASES, indirect=["backbone"])
def test_widths_and_gradients(backbone: Backbone, alignment: str) -> None:
    backbone, batch = copy.deepcopy(backbone).train(), batch_for(backbone, alignment)
    encoded = backbone.encode(batch)
    assert {m: vector.shape[1] for m, vector in encoded.vectors.items()} == backbone.vector_widths
    fused = backbone.fuse(encoded, batch.present & torch.tensor([True, False, True]))
    both = backbone.fuse(encoded, batch.present)
    (fused.square().sum() + both.square().sum()).backward()
    for name, parameter in backbone.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), name
    trained = [name for name, parameter in backbone.named_parameters() if parameter.grad is not None]
    assert len(trained) > 0.8 * len(list(backbone.named_parameters()))


# A task sees the state only, whatever the alignment: one alignment has all tasks.
@pytest.mark.parametrize(
    ("backbone", "alignment", "kind"),
    [
        pytest.param(*case.values, kind, id=f"{case.id}-{kind}")
        for case in CASES
        for kind in TASKS
        if kind == "regression" or case.values[1] == "aligned"
    ],
    indirect=["backbone"],
)
def test_every_task_trains_on_it(backbone: Backbone, alignment: str, kind: str) -> None:
    own = copy.deepcopy(backbone)
    method = Supervised(dims_for(type(backbone)), TASKS[kind].card(), lambda dims: own).eval()  # without dropout
    batch = batch_for(backbone, alignment, task=TASKS[kind])

    def loss() -> torch.Tensor:
        parts = method.training_losses(method.inputs(batch))
        return torch.stack([weight * value for value, weight in parts.values()]).sum()

    before = loss()
    before.backward()
    parameters = [p for p in method.parameters() if p.grad is not None]
    length = torch.stack([p.grad.norm() for p in parameters]).norm()  # a short step against the gradient
    with torch.no_grad():
        for parameter in parameters:
            parameter -= 1e-3 * parameter.grad / length
        assert loss() < before


@pytest.mark.parametrize(("backbone", "alignment"), CASES, indirect=["backbone"])
def test_sample_with_nothing_at_all_stays_finite(backbone: Backbone, alignment: str) -> None:
    batch = batch_for(backbone, alignment)
    none = {m: torch.zeros_like(n) for m, n in batch.lengths.items()}
    empty = replace(batch, lengths=none, present=torch.zeros_like(batch.present))
    assert state(backbone, empty).isfinite().all()


@pytest.mark.parametrize(("backbone", "alignment"), CASES, indirect=["backbone"])
def test_encoder_parts_are_what_the_vectors_depend_on(backbone: Backbone, alignment: str) -> None:
    """MGR trains these parameters alone, and CDaT needs that each vector has some."""
    backbone, batch = copy.deepcopy(backbone), batch_for(backbone, alignment)
    vectors = backbone.encode(batch).vectors
    learning = [vector.square().sum() for vector in vectors.values() if vector.requires_grad]
    if learning:
        torch.stack(learning).sum().backward()
    by_gradient = {name for name, parameter in backbone.named_parameters() if parameter.grad is not None}
    declared = {id(parameter) for parameter in backbone.encoder_parameters()}
    said = {name for name, p in backbone.named_parameters() if id(p) in declared and p.requires_grad}
    wanted = tuple(dict.fromkeys(name.partition(".")[0] for name in sorted(by_gradient)))
    assert said == by_gradient, f"set encoder_parts = {wanted} in {type(backbone).__name__}"


@pytest.mark.parametrize(("backbone", "alignment"), CASES, indirect=["backbone"])
def test_encodes_alike_where_it_says_so(backbone: Backbone, alignment: str) -> None:
    """CDaT spares an encoding there; one that has dropout and says otherwise would give it noisy confidences."""
    backbone, batch = copy.deepcopy(backbone), batch_for(backbone, alignment)
    for part in backbone.modules():  # whatever their rates are by default
        if isinstance(part, Dropout):
            part.rate = 0.5
    with torch.no_grad():
        evaluated, trained = (backbone.train(training).encode(batch) for training in (False, True))
    pairs = [(a[m], b[m]) for a, b in zip(_parts(evaluated), _parts(trained), strict=True) for m in a]
    alike = all(torch.equal(first, second) for first, second in pairs)
    assert backbone.encodes_alike == alike, f"set encodes_alike = {alike} in {type(backbone).__name__}"


def _parts(encoded: Encoded) -> tuple[dict[str, torch.Tensor], ...]:
    return encoded.vectors, encoded.sequences, encoded.key_masks

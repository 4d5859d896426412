"""The laws of a backbone, for every backbone there is, both alignments and utterances (DESIGN.md, section 3).

Adding a backbone adds no line here, unless its parameter count is to be pinned in tests/backbones/.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from mer_lightning.backbones.base import Backbone, all_backbones
from mer_lightning.batch import Batch
from mer_lightning.contract import (
    ALIGNMENTS,
    DIMS,
    LAWS,
    TASKS,
    check_backbone,
    check_method,
    example_backbone,
    example_batch,
    state_of,
    trains_on,
)
from mer_lightning.errors import Refusal
from mer_lightning.methods.base import all_methods
from mer_lightning.modalities import MODALITIES, combination_present, combinations_of
from mer_lightning.tasks import Task
from tests.tiny_encoders import tiny_encoder, with_tokens


def dims_for(cls: type[Backbone]) -> dict[str, int]:
    return DIMS | {"text": 1} if cls.needs_tokens else DIMS


def batch_for(backbone: Backbone, alignment: str, task: Task | None = None) -> Batch:
    batch = example_batch(alignment, task)
    return with_tokens(batch) if backbone.needs_tokens else batch


CASES = [
    pytest.param(cls, alignment, id=f"{name}-{alignment}")
    for name, cls in all_backbones().items()
    for alignment in ALIGNMENTS
    if alignment != "unaligned" or not cls.aligned_only
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[type[Backbone], Backbone]:
    """Each backbone is made once for all tests; one that trains it or changes it works on a copy."""
    found = {}
    for cls in all_backbones().values():
        options = {"path": str(tiny_encoder(tmp_path_factory.mktemp("encoder")))} if cls.needs_tokens else {}
        found[cls] = example_backbone(cls, dims_for(cls), **options)
    return found


@pytest.fixture
def backbone(request: pytest.FixtureRequest, made: dict[type[Backbone], Backbone]) -> Iterator[Backbone]:
    torch.manual_seed(0)
    yield made[request.param]
    assert not any(part.training for part in made[request.param].modules()), "the test must work on a copy"
    assert all(p.grad is None for p in made[request.param].parameters()), "the test must work on a copy"


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(("backbone", "alignment"), CASES, indirect=["backbone"])
def test_every_backbone_obeys(backbone: Backbone, alignment: str, law: str) -> None:
    LAWS[law](backbone, batch_for(backbone, alignment))


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
    trains_on(backbone, TASKS[kind], batch_for(backbone, alignment, TASKS[kind]))


@pytest.mark.parametrize("name", all_methods())
def test_every_method_obeys(name: str) -> None:
    check_method(all_methods()[name])


def test_a_project_of_ones_own_checks_all_at_once() -> None:
    check_backbone(all_backbones()["early"], width=16)


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
    whole = example_batch("aligned")
    batch = replace(whole, features={m: whole.features[m] for m in has}, lengths={m: whole.lengths[m] for m in has})
    masks = torch.tensor([combination_present(each) for each in combinations_of(has)])
    with torch.no_grad():
        encoded = backbone.encode(batch)
        together = backbone.fuse_many(encoded, masks[:, None, :].expand(-1, len(batch), -1))
        assert together.shape == (len(masks), len(batch), backbone.state_width)
        assert together.isfinite().all()
        for fused, mask in zip(together, masks, strict=True):
            torch.testing.assert_close(fused, state_of(backbone, batch.limited_to(mask)), rtol=1e-5, atol=1e-5)
            surprise = {m: v if mask[MODALITIES.index(m)] else v * float("nan") for m, v in batch.features.items()}
            changed = replace(batch.limited_to(mask), features=surprise)
            assert torch.equal(state_of(backbone, changed), state_of(backbone, batch.limited_to(mask)))

"""TAILOR: sizes, its losses against plain loops, whose gradients turn round, and how sequences are joined."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mer_lightning.backbones.base import Encoded
from mer_lightning.backbones.tailor import TAILOR, Join
from mer_lightning.batch import Batch
from mer_lightning.contract import DIMS
from mer_lightning.contract import example_batch as make_batch
from mer_lightning.layers.transformer import sinusoidal_positions

SMALL: dict[str, Any] = {"width": 8, "heads": 2, "depth": [2, 1, 1], "cross_depth": 1, "queries": 3}
SOME = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 1, 1], [1, 1, 0], [1, 1, 1], [0, 0, 1]]).bool()


@pytest.mark.parametrize(
    ("dims", "expected"),
    [({"text": 300, "audio": 74, "vision": 35}, 10_171_701), ({"text": 768, "audio": 5, "vision": 20}, 10_270_773)],
)
def test_size_is_that_of_the_described_layers(dims: dict[str, int], expected: int) -> None:
    d = 256
    linear, norm = d * d + d, 2 * d
    layer = 4 * linear + 2 * linear + 2 * norm  # attention, a feed-forward part as wide, post-norms
    encoders = sum(2 * dim + dim * d + d + norm for dim in dims.values()) + (6 + 4 + 4) * layer
    joins = 3 * (2 * d + norm + 3 * layer)
    split = 4 * linear + (d * d // 2 + d // 2) + (3 * d // 2 + 3)
    decoder = 6 * d + norm + layer + 4 * linear + norm
    assert encoders + joins + split + decoder == expected
    assert sum(p.numel() for p in TAILOR(dims).parameters()) == expected


def small(**options: Any) -> TAILOR:
    torch.manual_seed(0)
    return TAILOR(DIMS, **SMALL, **options).eval()


def losses_of(backbone: TAILOR, batch: Batch) -> dict[str, tuple[Tensor, float]]:
    encoded = backbone.encode(batch)
    return backbone.auxiliary_losses(encoded, batch)


def pieces(encoded: Encoded, batch: Batch, modality: str, sample: int) -> tuple[Tensor, Tensor]:
    """Private and common features of the real steps of one sample."""
    private, common = encoded.sequences[modality][sample, : batch.lengths[modality][sample]].chunk(2, dim=1)
    return private, common


@pytest.mark.parametrize("present", [torch.ones(6, 3).bool(), SOME], ids=["all", "some"])
@torch.no_grad()
def test_losses_are_those_of_the_steps_that_are_there(present: Tensor) -> None:
    backbone, batch = small(), replace(make_batch(), present=present)
    encoded = backbone.encode(batch)
    given = {m: [b for b in range(6) if present[b, number]] for number, m in enumerate(DIMS)}
    adversarial, orthogonality = torch.zeros(()), torch.zeros(())
    for label, m in enumerate(DIMS):
        for kind in (0, 1):
            steps = torch.cat([pieces(encoded, batch, m, b)[kind] for b in given[m]])
            adversarial -= torch.stack([backbone.discriminator(s).log_softmax(0)[label] for s in steps]).mean()
        terms = []
        for b in given[m]:
            private, common = pieces(encoded, batch, m, b)
            terms.append((common @ private.T).norm() ** 2)
        orthogonality += torch.stack(terms).mean()
    for m, n in combinations(DIMS, 2):
        both = [b for b in given[m] if b in given[n]]
        terms = [(pieces(encoded, batch, m, b)[0] @ pieces(encoded, batch, n, b)[0].T).norm() ** 2 for b in both]
        orthogonality += torch.stack(terms).mean()
    losses = losses_of(backbone, batch)
    torch.testing.assert_close(losses["adversarial"][0], adversarial)
    torch.testing.assert_close(losses["orthogonality"][0], orthogonality)
    assert (losses["adversarial"][1], losses["orthogonality"][1]) == (0.01, 5e-6)


@pytest.mark.parametrize("present", [SOME, torch.zeros(6, 3).bool()], ids=["some", "none"])
def test_what_is_absent_cannot_change_the_losses(present: Tensor) -> None:
    backbone, batch = small(), replace(make_batch(), present=present)
    spoilt = {
        m: values.where(present[:, number, None, None], float("nan"))
        for number, (m, values) in enumerate(batch.features.items())
    }
    strange = losses_of(backbone, replace(batch, features=spoilt))
    for name, (value, _) in losses_of(backbone, batch).items():
        assert torch.equal(value, strange[name][0])
        assert bool(value > 0) == bool(present.any())


def test_only_common_features_learn_not_to_be_told_apart() -> None:
    """Discriminator and private features follow the gradient of cross-entropy, common features go against it."""
    backbone, batch = small(), make_batch()
    parts = {name: tuple(getattr(backbone, name).parameters()) for name in ("discriminator", "private", "common")}
    encoded = backbone.encode(batch)
    value, _ = backbone.auxiliary_losses(encoded, batch)["adversarial"]
    plain = torch.zeros(())
    for label, m in enumerate(DIMS):
        key_mask = batch.key_mask(m)
        for features in encoded.sequences[m].chunk(2, dim=2):
            logits = backbone.discriminator(features[key_mask])
            plain = plain + F.cross_entropy(logits, torch.full((len(logits),), label))
    torch.testing.assert_close(value, plain)
    for name, parameters in parts.items():
        result = torch.autograd.grad(value, parameters, retain_graph=True)
        along = torch.autograd.grad(plain, parameters, retain_graph=True)
        for ours, theirs in zip(result, along, strict=True):
            assert theirs.any()
            torch.testing.assert_close(ours, -theirs if name == "common" else theirs)


def test_losses_stay_in_float32_and_weights_are_options() -> None:
    backbone = small(adversarial_weight=2.0, orthogonality_weight=3.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = losses_of(backbone, make_batch())
    assert {name: weight for name, (_, weight) in losses.items()} == {"adversarial": 2.0, "orthogonality": 3.0}
    assert {value.dtype for value, _ in losses.values()} == {torch.float32}


@torch.no_grad()
def test_join_marks_both_groups_and_begins_positions_anew() -> None:
    torch.manual_seed(0)
    join = Join(8, 1, 2, 0.0).eval()
    one, two, three = (torch.randn(1, steps, 8) for steps in (2, 4, 3))
    key_masks = [torch.tensor([each]) for each in ([True, True], [True, True, True, False], [True, False, True])]
    joined = join([(one, key_masks[0])], [(two, key_masks[1]), (three, key_masks[2])])
    marked = [
        one + sinusoidal_positions(2, 8, one) + join.types[0],
        two + sinusoidal_positions(4, 8, one) + join.types[1],
        three + sinusoidal_positions(3, 8, one) + join.types[1],
    ]
    kept = torch.cat([part[mask] for part, mask in zip(marked, key_masks, strict=True)]).unsqueeze(0)
    expected = join.layers(join.norm(kept), torch.ones(kept.shape[:2], dtype=torch.bool))[0]
    result = torch.cat([steps[mask] for steps, mask in joined])
    assert [steps.shape[1] for steps, _ in joined] == [2, 4, 3]
    torch.testing.assert_close(result, expected)


@torch.no_grad()
def test_common_features_carry_no_mark_of_their_modality_and_private_ones_do() -> None:
    backbone, batch = small().double(), make_batch("aligned")
    encoded = backbone.encode(replace(batch, features={m: x.double() for m, x in batch.features.items()}))

    def exchanged(kind: int) -> Tensor:
        """The state with audio's and vision's private (0) or common (1) features exchanged."""
        parts = {m: list(steps.chunk(2, dim=2)) for m, steps in encoded.sequences.items()}
        parts["audio"][kind], parts["vision"][kind] = parts["vision"][kind], parts["audio"][kind]
        sequences = {m: torch.cat(both, dim=2) for m, both in parts.items()}
        return backbone.fuse(replace(encoded, sequences=sequences), batch.present)

    for join in (backbone.join_unspoken, backbone.join_text, backbone.join_common):
        join.types.mul_(10)  # marks begin small
    result = backbone.fuse(encoded, batch.present)
    torch.testing.assert_close(exchanged(1), result)
    assert (exchanged(0) - result).abs().amax(1).min() > 1e-4


@torch.no_grad()
def test_state_holds_one_reading_per_query() -> None:
    """Exchanging two queries exchanges their parts of the state."""
    backbone, batch = small(), make_batch()
    before = backbone.fuse(backbone.encode(batch), batch.present).unflatten(1, (3, 8))
    backbone.queries.copy_(backbone.queries[[1, 0, 2]])
    after = backbone.fuse(backbone.encode(batch), batch.present).unflatten(1, (3, 8))
    torch.testing.assert_close(after, before[:, [1, 0, 2]])
    assert (before[:, 0] - before[:, 1]).abs().max() > 1e-3


@torch.no_grad()
def test_a_vector_is_the_mean_of_valid_steps() -> None:
    backbone, batch = small(), make_batch()
    steps = backbone.encoders["vision"](batch.features["vision"], batch.key_mask("vision"))
    expected = torch.stack([each[:n].mean(0) for each, n in zip(steps, batch.lengths["vision"], strict=True)])
    torch.testing.assert_close(backbone.encode(batch).vectors["vision"], expected)

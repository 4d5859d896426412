"""MGR as a whole: whose gradients reach what, what each option switches off, and that nothing absent matters."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn, tensor

from mer_lightning.backbones.base import all_backbones
from mer_lightning.backbones.early import Early
from mer_lightning.batch import Batch
from mer_lightning.contract import DIMS, TASKS
from mer_lightning.contract import example_batch as make_batch
from mer_lightning.errors import Refusal
from mer_lightning.methods.mgr import losses as refinement
from mer_lightning.methods.mgr.codes import uniform_contribution
from mer_lightning.methods.mgr.method import MGR, WEIGHTS
from mer_lightning.modalities import COMBINATIONS, combination_present
from mer_lightning.tasks import Regression, Task


def narrow(dims: dict[str, int]) -> Early:
    return Early(dims, width=8)


def make(task: Task | None = None, backbone=narrow, dims: dict[str, int] = DIMS, **options) -> MGR:
    torch.manual_seed(0)
    return MGR(dims=dims, task_card=(task or Regression()).card(), backbone=backbone, **options)


def batch_of(task: Task | None = None, samples: int = 12) -> Batch:
    return make_batch("aligned", task=task or Regression(), samples=samples)


def during_a_fit(method: MGR, progress: float, monkeypatch: pytest.MonkeyPatch) -> MGR:
    """The method in evaluation mode, as if a Trainer had done this share of its steps."""
    monkeypatch.setattr(MGR, "progress", property(lambda self: progress))
    method._trainer = object()  # ramps count during a fit only
    return method.eval()


def masked(batch: Batch, absent: dict[int, int]) -> Batch:
    """The batch with the mask of training on, which takes modality ``absent[row]`` of some rows away."""
    present = batch.present.clone()
    for row, modality in absent.items():
        present[row, modality] = False
    return replace(batch, present=present, available=batch.available)


def gradients(method: nn.Module, loss: Tensor) -> set[str]:
    """First names of the parts that a loss reaches."""
    method.zero_grad()
    loss.backward()
    return {
        name.split(".")[0] for name, p in method.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0
    }


# --- whose gradients reach what


def test_guidance_moves_the_codes_and_not_the_referee() -> None:
    method, batch = make(), batch_of()
    before = {name: value.clone() for name, value in method.referee.layers.state_dict().items()}
    reached = gradients(method, method.training_losses(batch)["guidance"][0])
    assert {"share", "backbone"} <= reached
    assert not {"keep", "referee", "recognise"} & reached
    assert all(p.grad is None and not p.requires_grad for p in method.referee.parameters())
    # It learns by itself, all the same.
    assert any(not torch.equal(before[name], now) for name, now in method.referee.layers.state_dict().items())


def test_the_referee_learns_in_training_only_and_only_where_it_is_asked() -> None:
    for method in (make().eval(), make(weights={"guidance": 0})):
        method.training_losses(batch_of())
        assert method.referee.steps == 0
    method = make()
    method.training_losses(batch_of())
    assert method.referee.steps == 4


def test_the_decoupling_margin_moves_private_codes_and_not_their_classifier() -> None:
    method = make()
    reached = gradients(method, method.training_losses(batch_of())["decoupling_margin"][0])
    assert {"keep", "backbone"} <= reached
    assert not {"recognise", "share", "alone"} & reached
    reached = gradients(method, method.training_losses(batch_of())["private_recognition"][0])
    assert {"keep", "recognise"} <= reached


def test_the_margin_does_not_move_what_the_weights_are_made_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """delta_m grows with w_m, which is made from the unimodal losses: their heads must not learn to be bad."""
    method = during_a_fit(make(), 0.5, monkeypatch)
    losses = method.training_losses(batch_of())
    assert losses["decoupling_margin"][0] > 0
    assert "alone" not in gradients(method, losses["decoupling_margin"][0])
    losses = method.training_losses(batch_of())
    assert "alone" not in gradients(method, losses["multimodal_margin"][0])


def test_the_reconstruction_does_not_move_its_target() -> None:
    method = make().eval()
    codes = method.codes(method.backbone.encode(batch_of()), batch_of().available)
    value = method._reconstruction(replace(codes, shared=codes.shared.detach(), private=codes.private.detach()), HERE)
    assert gradients(method, value) == {"decode"}


HERE = torch.ones(12, 3, dtype=torch.bool)


def test_contributions_are_remembered_in_training_only() -> None:
    method, batch = make().eval(), batch_of()
    before = method.contribution.running.clone()
    method.training_losses(batch)
    assert torch.equal(method.contribution.running, before)
    method.train().training_losses(batch)
    assert not torch.equal(method.contribution.running, before)
    assert method.contribution.running.sum().item() == pytest.approx(1)


# --- the task's two halves


def test_half_of_the_task_is_under_masks() -> None:
    method, batch = make().eval(), batch_of()
    whole = method.training_losses(batch)["task"][0]
    under = masked(batch, dict.fromkeys(range(12), 1))
    states = method.states(method.backbone.encode(batch), torch.stack([under.available, under.present]))
    complete, without = (method.task_losses(state, batch).mean() for state in states)
    assert whole.item() == pytest.approx(complete.item(), rel=1e-5)
    assert abs(complete - without) > 1e-3
    found = method.training_losses(under)["task"][0]
    assert found.item() == pytest.approx((complete + without).item() / 2, rel=1e-5)


def test_masks_change_the_task_alone() -> None:
    """What a sample has and a mask hides still teaches: codes, guidance and heads are of everything available."""
    method, batch = make().eval(), batch_of()
    plain, under = (method.training_losses(each) for each in (batch, masked(batch, {0: 0, 1: 2, 5: 1})))
    assert {name for name in plain if plain[name][0] != under[name][0]} == {"task"}


@pytest.mark.parametrize("impute", [True, False])
def test_an_absent_code_is_made_from_those_that_are_there(impute: bool) -> None:
    method, batch = make(impute=impute).eval(), batch_of()
    with torch.no_grad():
        method.absent.offset.normal_()
        method.absent.token.normal_()
    method.contribution.running.copy_(tensor([0.5, 0.3, 0.2]))
    codes = method.codes(method.backbone.encode(batch), batch.available)
    without_audio, nothing = tensor(combination_present("tv")), tensor([False, False, False])
    filled = method._filled(codes, torch.stack([without_audio.expand(12, 3), nothing.expand(12, 3)]))
    shared, private = filled.split((3 * 8, 3 * 32), dim=2)
    shared, private = shared.unflatten(2, (3, 8)), private.unflatten(2, (3, 32))
    mean = (0.5 * codes.shared[:, 0] + 0.2 * codes.shared[:, 2]) / 0.7
    expected = mean * impute + method.absent.offset[1]
    torch.testing.assert_close(shared[0], torch.stack([codes.shared[:, 0], expected, codes.shared[:, 2]], 1))
    torch.testing.assert_close(private[0, :, 1], method.absent.token[1].expand(12, 32))
    assert torch.equal(private[0, :, [0, 2]], codes.private[:, [0, 2]])
    assert torch.equal(shared[1], method.absent.offset.expand(12, 3, 8))


def test_labels_do_not_reach_the_codes_of_absent_modalities() -> None:
    """In training each sample has weights of its own, from its label; what is imputed must not know them."""
    method, batch = make().eval(), masked(batch_of(), dict.fromkeys(range(12), 0))
    encoded = method.backbone.encode(batch)
    states = method.states(encoded, batch.present.unsqueeze(0))
    method.training_losses(replace(batch, target=-batch.target))
    assert torch.equal(states, method.states(encoded, batch.present.unsqueeze(0)))


# --- the whole


def test_reconstruction_falls() -> None:
    method, batch = make(), batch_of()
    optimizer = torch.optim.Adam((p for p in method.parameters() if p.requires_grad), lr=1e-2)
    values = []
    for _ in range(60):
        losses = method.training_losses(batch)
        values.append(losses["reconstruction"][0].item())
        optimizer.zero_grad()
        sum(value * weight for value, weight in losses.values()).backward()
        optimizer.step()
    assert sum(values[-5:]) < 0.6 * sum(values[:5])


@pytest.mark.parametrize("name", WEIGHTS)
def test_each_loss_can_be_left_out(name: str) -> None:
    """And nothing remains that claims to learn and does not: DDP would wait for it."""
    method = make(weights={name: 0})
    losses = method.training_losses(batch_of())
    assert losses.keys() == {"task", *WEIGHTS} - {name}
    sum(value * weight for value, weight in losses.values()).backward()
    assert [n for n, p in method.named_parameters() if p.requires_grad and p.grad is None] == []


def test_each_loss_has_its_weight() -> None:
    weights = {name: weight for name, (_, weight) in make().training_losses(batch_of()).items()}
    assert weights == {"task": 1.0, **WEIGHTS}


def test_weights_can_be_set() -> None:
    assert make(weights={"energy": 2.0}).training_losses(batch_of())["energy"][1] == 2.0
    with pytest.raises(Refusal, match="moments"):
        make(weights={"moments": 1.0})


def test_one_modality_has_nothing_to_share() -> None:
    with pytest.raises(Refusal, match="two modalities or more"):
        make(dims={"text": 5})


@pytest.mark.parametrize(("progress", "counts"), [(0.0, False), (0.099, False), (0.1, True)])
def test_contributions_count_from_a_tenth_of_training_on(
    progress: float, counts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before, all present modalities weigh the same in margins."""
    given: dict[str, Tensor] = {}
    for name, position in (("decoupling_margin", 1), ("multimodal_margin", 2)):
        original = getattr(refinement, name)

        def watched(*values: Tensor, name: str = name, position: int = position, original=original) -> Tensor:
            given[name] = values[position]
            return original(*values)

        monkeypatch.setattr(refinement, name, watched)
    method = during_a_fit(make(), progress, monkeypatch)
    method.contribution.running.copy_(tensor([0.8, 0.1, 0.1]))
    batch = batch_of()
    batch.available[0, 1] = False
    method.training_losses(batch)
    even = uniform_contribution(batch.available)
    for weights in given.values():
        torch.testing.assert_close(weights.sum(1), torch.ones(12))
        assert weights[0, 1] == 0
        assert bool((weights - even).abs().max() > 0.1) == counts


@pytest.mark.parametrize(("progress", "share"), [(0.0, 0.0), (0.025, 0.25), (0.05, 0.5), (0.1, 1.0), (0.7, 1.0)])
def test_guidance_energy_and_margins_come_in_over_a_tenth_of_training(
    progress: float, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    method, batch = make().eval(), batch_of()
    outside = {name: weight for name, (_, weight) in method.training_losses(batch).items()}
    assert outside == {"task": 1.0, **WEIGHTS}
    found = during_a_fit(method, progress, monkeypatch).training_losses(batch)
    slow = ("guidance", "energy", "decoupling_margin", "multimodal_margin")
    expected = {name: weight * (share if name in slow else 1.0) for name, weight in outside.items()}
    assert {name: weight for name, (_, weight) in found.items()} == pytest.approx(expected)


@pytest.mark.parametrize("combination", COMBINATIONS[:-1])
def test_what_an_absent_modality_holds_changes_nothing(combination: str) -> None:
    method = make(backbone=all_backbones()["late_transformer"]).eval()
    present = tensor(combination_present(combination))
    batch = batch_of().limited_to(present)
    strange = {
        m: f if present[n] else torch.full_like(f, float("nan")) for n, (m, f) in enumerate(batch.features.items())
    }
    states = []
    for each in (batch, replace(batch, features=strange)):
        states.append(method.states(method.backbone.encode(each), each.present.unsqueeze(0)))
    assert torch.equal(*states)
    assert states[0].isfinite().all()


@pytest.mark.parametrize("name", all_backbones())
@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_learns_on_every_backbone(name: str, task: Task) -> None:
    cls = all_backbones()[name]
    if getattr(cls, "needs_tokens", False):
        pytest.skip("needs token ids")
    method, batch = make(task, cls).train(), batch_of(task)
    batch.available[3, 0] = batch.available[4] = False
    assert_learns(method, masked(batch, {0: 1, 1: 0}))


def assert_learns(method: MGR, batch: Batch) -> None:
    losses = method.training_losses(batch)
    assert all(value.isfinite() for value, _ in losses.values())
    sum(value * weight for value, weight in losses.values()).backward()
    missing = [n for n, p in method.named_parameters() if p.requires_grad and p.grad is None]
    assert missing == []  # DDP waits for every parameter that claims to learn
    assert all(p.grad.isfinite().all() for p in method.parameters() if p.grad is not None)


@pytest.mark.parametrize("left", [0, 1, 2])
@pytest.mark.parametrize("modality", [0, 1, 2])
def test_a_batch_in_which_a_modality_is_nearly_or_wholly_absent(modality: int, left: int) -> None:
    """Statistics of no sample, of one and of two are finite, and so are all gradients."""
    method, batch = make().train(), batch_of()
    batch.available[left:, modality] = False
    assert_learns(method, batch)
    assert all(value.isfinite().all() for value in method.buffers())


def test_two_modalities_are_enough() -> None:
    dims = {m: DIMS[m] for m in ("text", "vision")}
    method, batch = make(dims=dims).train(), batch_of()
    assert_learns(method, method.inputs(batch))
    assert method.referee(torch.zeros(1, 8)).shape == (1, 2)
    masks = torch.stack([tensor(combination_present(name)).expand(12, 3) for name in ("t", "v", "tv")])
    states = method.eval().states(method.backbone.encode(batch), masks)
    assert states.shape == (3, 12, 8)
    assert (states[0] - states[1]).abs().max() > 1e-3


def test_losses_under_bf16_are_float32_and_finite() -> None:
    method, batch = make().train(), batch_of()
    with torch.autocast("cpu", torch.bfloat16):
        losses = method.training_losses(batch)
    assert all(value.dtype == torch.float32 and value.isfinite() for value, _ in losses.values())


def test_representations_are_what_the_state_is_made_from() -> None:
    method, batch = make().eval(), batch_of()
    encoded = method.backbone.encode(batch)
    found = method.representations(encoded, batch.available)
    assert {name: {m: code.shape[1] for m, code in codes.items()} for name, codes in found.items()} == {
        "shared": dict.fromkeys(DIMS, 8),
        "private": dict.fromkeys(DIMS, 32),
    }
    codes = method.codes(encoded, batch.available)
    assert torch.equal(found["private"]["audio"], codes.private[:, 1])
    assert torch.equal(found["shared"]["vision"], codes.shared[:, 2])


@pytest.mark.parametrize(("name", "projected"), [("early", False), ("lmf", True)])
def test_vectors_are_projected_where_their_widths_differ(name: str, projected: bool) -> None:
    method, batch = make(backbone=all_backbones()[name]).eval(), batch_of()
    widths, encoded = method.backbone.vector_widths, method.backbone.encode(batch)
    vectors = method.codes(encoded, batch.available).vectors
    widest = max(widths.values())
    assert vectors.shape == (12, 3, widest)
    if not projected:
        assert torch.equal(vectors, torch.stack(list(encoded.vectors.values()), 1))
    else:
        parameters = sum(p.numel() for p in method.project.parameters())
        assert parameters == sum(width * widest + widest + 2 * widest for width in widths.values())
        torch.testing.assert_close(vectors.mean(2), torch.zeros(12, 3), atol=1e-5, rtol=0)  # layer-normed


def test_parameter_count() -> None:
    """8 wide: three modalities, codes of 8 and of 32."""
    method = make()
    parts = {name: sum(p.numel() for p in part.parameters()) for name, part in method.named_children()}
    hidden = 8 * 8 + 8
    assert parts["project"] == 0
    assert parts["share"] == hidden + 8 * 8 + 8
    assert parts["keep"] == 3 * (hidden + 8 * 32 + 32)
    assert parts["absent"] == 3 * (8 + 32)
    assert parts["fusion"] == 3 * 40 * 8 + 8
    assert parts["head"] == 8 + 1
    assert parts["alone"] == 3 * (40 + 1)
    assert parts["from_all_shared"] == 24 + 1
    assert parts["from_each_shared"] == 8 + 1
    assert parts["decode"] == 3 * (40 * 8 + 8 + hidden)
    assert parts["recognise"] == 32 * 8 + 8 + 8 * 3 + 3
    assert parts["referee"] == 8 * 64 + 64 + 64 * 3 + 3

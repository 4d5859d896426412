"""MGR: whose gradients reach what, what each option switches off, and that nothing absent matters."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn, tensor

from mer_lightning.backbones.base import all_backbones
from mer_lightning.backbones.early import Early
from mer_lightning.batch import Batch
from mer_lightning.errors import Refusal
from mer_lightning.losses.decoupling import cmd, wasserstein
from mer_lightning.methods.mgr import losses as refinement
from mer_lightning.methods.mgr.codes import Contribution
from mer_lightning.methods.mgr.method import MGR, WEIGHTS
from mer_lightning.modalities import COMBINATIONS, combination_present
from mer_lightning.tasks import Regression, Task
from tests.conftest import DIMS, TASKS, make_batch


def make(task: Task | None = None, backbone=Early, **options) -> MGR:
    torch.manual_seed(0)
    return MGR(dims=DIMS, task_card=(task or Regression()).card(), backbone=backbone, width=8, **options)


def batch_of(task: Task | None = None, samples: int = 12) -> Batch:
    return make_batch("aligned", task=task or Regression(), samples=samples)


def during_a_fit(method: MGR, progress: float, monkeypatch: pytest.MonkeyPatch) -> MGR:
    """The method as if a Trainer had done this share of its steps."""
    monkeypatch.setattr(MGR, "progress", property(lambda self: progress))
    method._trainer = object()  # ramps count during a fit only
    return method


def gradients(method: nn.Module, loss: torch.Tensor) -> set[str]:
    """First names of the parts that a loss reaches."""
    method.zero_grad()
    loss.backward()
    return {
        name.split(".")[0] for name, p in method.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0
    }


# --- the modality classifier


def test_each_guidance_loss_reaches_its_own_part() -> None:
    method, batch = make(), batch_of()
    losses = method.training_losses(batch)
    assert "share" not in gradients(method, losses["private_recognition"][0])
    losses = method.training_losses(batch)
    assert gradients(method, losses["shared_recognition"][0]) == {"classifier"}
    losses = method.training_losses(batch)
    reached = gradients(method, losses["guidance"][0])
    assert "classifier" not in reached
    assert {"share", "project", "backbone"} <= reached
    assert "keep" not in reached


def test_confusion_is_nothing_where_the_classifier_is_uniform() -> None:
    classifier = nn.Linear(4, 3)
    nn.init.zeros_(classifier.weight)
    nn.init.zeros_(classifier.bias)
    codes, present = torch.randn(5, 3, 4), torch.ones(5, 3, dtype=torch.bool)
    assert refinement.confusion(classifier, codes, present).item() == pytest.approx(0, abs=1e-6)
    nn.init.normal_(classifier.weight)
    assert refinement.confusion(classifier, codes, present) > 0.01


def test_reversal_turns_the_gradient_of_the_codes_only() -> None:
    classifier, present = nn.Linear(4, 3), torch.ones(5, 3, dtype=torch.bool)
    codes = [torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0)).requires_grad_() for _ in range(2)]
    plain = torch.autograd.grad(refinement.recognition(classifier, codes[0], present), [codes[0], classifier.weight])
    turned = torch.autograd.grad(
        refinement.reversal(classifier, codes[1], present, 50.0), [codes[1], classifier.weight]
    )
    torch.testing.assert_close(turned[0], -plain[0])
    torch.testing.assert_close(turned[1], plain[1])


def test_four_way_gives_shared_codes_a_class_of_their_own() -> None:
    method = make(guidance="four_way")
    assert method.classifier[-1].out_features == 4
    assert method.training_losses(batch_of())["guidance"][0] > 0


# --- distributions


def test_only_the_weak_side_moves() -> None:
    mean = torch.randn(6, 2, 4, requires_grad=True)
    std, present = torch.rand(6, 2, 4), torch.ones(6, 2, dtype=torch.bool)
    weights = tensor([[0.8, 0.2]]).expand(6, 2)  # the first is strong
    refinement.weak_to_strong(mean, std, weights, present, wasserstein).backward()
    assert mean.grad[:, 0].eq(0).all()
    assert mean.grad[:, 1].abs().sum() > 0
    mean.grad = None
    refinement.weak_to_strong(mean, std, weights, present, wasserstein, stop=False).backward()
    assert mean.grad[:, 0].abs().sum() > 0


def test_alignment_by_hand() -> None:
    """Equal Gaussians are aligned; else the distance of the weak one, per dimension."""
    mean, std = tensor([[[0.0, 0.0], [1.0, 2.0]]]), torch.ones(1, 2, 2)
    present, weights = torch.ones(1, 2, dtype=torch.bool), tensor([[0.7, 0.3]])
    assert refinement.weak_to_strong(mean * 0, std, weights, present, wasserstein) == 0
    assert refinement.weak_to_strong(mean, std, weights, present, wasserstein).item() == pytest.approx(5 / 2)
    both = refinement.weak_to_strong(mean, std, None, present, wasserstein)
    assert both.item() == pytest.approx(5 / 2)


@pytest.mark.parametrize(("samples", "compared"), [(7, False), (8, True)])
def test_moments_are_compared_from_eight_samples_on(samples: int, compared: bool) -> None:
    assert bool(make().training_losses(batch_of(samples=samples))["moments"][0] > 0.01) == compared


def test_moments_of_a_pair_need_samples_that_have_both() -> None:
    """Seven of twelve samples have audio: of three pairs only text and vision are compared."""
    method, batch = make().eval(), batch_of()
    batch.present[:5, 1] = False
    mean = method.codes(method.backbone.encode(batch)).shared.mean
    expected = cmd(mean[:, 0], mean[:, 2], 3) / 3
    assert method.training_losses(batch)["moments"][0].item() == pytest.approx(expected.item(), rel=1e-5)


# --- contributions and margins


def test_contribution_follows_who_predicts_well() -> None:
    contribution = Contribution(3).train()
    errors = tensor([[0.1, 1.0, 2.0]]).expand(16, 3)
    present = torch.ones(16, 3, dtype=torch.bool)
    for _ in range(50):
        weights = contribution(errors, present)
    assert weights.sum(1).tolist() == pytest.approx([1.0] * 16)
    assert weights[0, 0] > weights[0, 1] > weights[0, 2]
    assert not weights.requires_grad
    present[:, 0] = False
    assert contribution(errors, present)[:, 0].eq(0).all()
    assert contribution(errors, present).sum(1).tolist() == pytest.approx([1.0] * 16)
    assert contribution(errors, present & False).eq(0).all()


def test_contribution_by_hand() -> None:
    contribution = Contribution(2).eval()
    r = torch.softmax(tensor([-0.2, -0.6]) / 0.5, 0)
    found = contribution(tensor([[0.2, 0.6]]), torch.ones(1, 2, dtype=torch.bool))
    torch.testing.assert_close(found[0], (r + 0.5) / 2)


def test_a_twentieth_of_a_batch_goes_into_the_running_contribution() -> None:
    """The second modality is there in one of two samples: its mean is over that one; the third never is, and stays."""
    contribution = Contribution(3).train()
    present = tensor([[True, True, False], [True, False, False]])
    weights = contribution(tensor([[0.1, 0.6, 0.0], [0.3, 0.0, 0.0]]), present)
    first, second = torch.softmax(tensor([-0.1, -0.6]) / 0.5, 0).tolist()
    mean = tensor([(first + 1) / 2, second, 1 / 3])
    running = 0.95 / 3 + 0.05 * mean / mean.sum()
    torch.testing.assert_close(contribution.running, running)
    both = tensor([first + running[0], second + running[1], 0.0])
    torch.testing.assert_close(weights, torch.stack([both / both.sum(), tensor([1.0, 0.0, 0.0])]))
    before = contribution.running.clone()
    contribution.eval()(tensor([[5.0, 0.0, 0.0]]), present[:1])
    assert torch.equal(contribution.running, before)


def test_margins_grow_with_contribution_within_bounds() -> None:
    weights = torch.linspace(0, 1, 11).unsqueeze(1).expand(11, 3)
    margins = refinement.adaptive_margin(weights)[:, 0]
    assert (margins.diff() >= 0).all()
    assert margins[0].item() == pytest.approx(0.4 * 0.5)
    assert margins[-1].item() == pytest.approx(0.4 * 2.0)
    assert refinement.adaptive_margin(torch.full((1, 3), 1 / 3))[0, 0].item() == pytest.approx(0.4)


def test_decoupling_margin_by_hand() -> None:
    """Two samples, two modalities: cos(s_0, s_1) is 1 and 0; cos(s_0, p_0) is 0; cos(s_1, p_1) is 0 and 1."""
    shared = tensor([[[1.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]])
    private = tensor([[[0.0, 1.0], [0.0, 1.0]], [[0.0, 1.0], [0.0, 1.0]]])
    weights, present = torch.full((2, 2), 0.5), torch.ones(2, 2, dtype=torch.bool)
    # Sample 0: relu(.4 - 1 + 0) twice. Sample 1: relu(.4 - 0 + 0) and relu(.4 - 0 + 1).
    found = refinement.decoupling_margin(shared, private, weights, present)
    assert found.item() == pytest.approx((0 + 0 + 0.4 + 1.4) / 4)
    present[1, 1] = False
    assert refinement.decoupling_margin(shared, private, weights, present) == 0


@pytest.mark.parametrize(("stop", "weights"), [(True, (0.8, 0.2)), (True, (0.5, 0.5)), (False, (0.8, 0.2))])
def test_decoupling_margin_does_not_move_the_stronger_partner(stop: bool, weights: tuple[float, float]) -> None:
    """s_0 feels relu(d_0 - cos(s_0, s_1) + cos(s_0, p_0)), and as the partner of s_1 unless it is the stronger one."""
    draws = torch.Generator().manual_seed(0)
    shared = torch.randn(5, 2, 4, generator=draws).requires_grad_()
    private, each = torch.randn(5, 2, 4, generator=draws), tensor([weights]).expand(5, 2)
    found = refinement.decoupling_margin(shared, private, each, torch.ones(5, 2, dtype=torch.bool), stop)
    gradient = torch.autograd.grad(found, shared)[0]
    expected = torch.zeros(5, 2, 4)
    for student, partner in ((0, 1), (1, 0)):
        fixed = stop and weights[partner] > weights[student]
        other = shared[:, partner].detach() if fixed else shared[:, partner]
        agree = torch.cosine_similarity(shared[:, student], other)
        own = torch.cosine_similarity(shared[:, student], private[:, student])
        term = (refinement.adaptive_margin(each)[:, student] - agree + own).relu().sum() / 10
        expected += torch.autograd.grad(term, shared)[0]
    torch.testing.assert_close(gradient, expected)


def test_multimodal_margin_asks_nothing_of_what_is_satisfied_or_does_not_matter() -> None:
    fused, alone = tensor([0.2]), tensor([[1.0, 1.0]])
    weights, present = tensor([[0.9, 0.1]]), torch.ones(1, 2, dtype=torch.bool)
    assert refinement.multimodal_margin(fused, alone, weights, present) == 0
    worse = refinement.multimodal_margin(tensor([1.5]), alone, weights, present)
    expected = ((1.5 - 1 + 0.1 * 0.1) * 2 * 0.9 + (1.5 - 1 + 0.1 * 0.9) * 2 * 0.1) / 2
    assert worse.item() == pytest.approx(expected)
    assert refinement.multimodal_margin(tensor([1.5]), alone, weights * 0, present) == 0


def test_variance_floor_sees_a_collapse() -> None:
    present = torch.ones(64, 3, dtype=torch.bool)
    assert refinement.variance_floor(torch.ones(64, 3, 4), present).item() == pytest.approx(0.5, abs=1e-3)
    assert refinement.variance_floor(torch.randn(64, 3, 4) * 3, present) == 0


def test_noise_does_not_hide_a_collapse() -> None:
    """Means that are the same for all samples, with a wide spread: draws differ, and say nothing."""
    method = make().train()
    with torch.no_grad():
        method.share.mean.weight.zero_()
        method.share.mean.bias.copy_(torch.randn(8))
        method.share.log_variance.weight.zero_()
        method.share.log_variance.bias.fill_(2.0)
    assert method.training_losses(batch_of())["variance"][0].item() == pytest.approx(0.5, abs=1e-3)


# --- the whole


def test_reconstruction_falls() -> None:
    method, batch = make(), batch_of()
    optimizer = torch.optim.Adam(method.parameters(), lr=1e-2)
    values = []
    for _ in range(60):
        losses = method.training_losses(batch)
        values.append(losses["reconstruction"][0].item())
        optimizer.zero_grad()
        sum(value * weight for value, weight in losses.values()).backward()
        optimizer.step()
    assert sum(values[-5:]) < 0.6 * sum(values[:5])


ABLATIONS = {
    "guidance": ({"guidance": "none"}, {"guidance", "private_recognition", "shared_recognition"}),
    "private": ({"private": False}, {"private_recognition", "overlap", "decoupling_margin"}),
    "distributions": ({"distributions": False}, {"moments", "alignment", "overlap"}),
    "margins": ({"margins": False}, {"decoupling_margin", "multimodal_margin"}),
    "reconstruct": ({"reconstruct": False}, {"reconstruction"}),
    "probabilistic": ({"probabilistic": False}, {"prior"}),
}


@pytest.mark.parametrize("part", ABLATIONS)
def test_each_part_can_be_switched_off(part: str) -> None:
    options, gone = ABLATIONS[part]
    whole, without = make().training_losses(batch_of()), make(**options).training_losses(batch_of())
    assert whole.keys() - without.keys() == gone
    assert without.keys() <= whole.keys()


def test_weights_can_be_set_and_zero_leaves_a_loss_out() -> None:
    losses = make(weights={"moments": 2.0, "variance": 0.0}).training_losses(batch_of())
    assert losses["moments"][1] == 2.0
    assert "variance" not in losses
    with pytest.raises(Refusal, match="moment"):
        make(weights={"moment": 1.0})


@pytest.mark.parametrize(
    ("progress", "adaptive", "counts"),
    [(0.0, True, False), (0.099, True, False), (0.1, True, True), (0.5, False, False)],
)
def test_contributions_count_from_a_tenth_of_training_on(
    progress: float, adaptive: bool, counts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before, all present modalities weigh the same in margins, and every pair does in the alignment."""
    given: dict[str, Any] = {}

    def watch(name: str, position: int) -> None:
        original = getattr(refinement, name)

        def watched(*values: Any) -> torch.Tensor:
            given[name] = values[position], values[-1]
            return original(*values)

        monkeypatch.setattr(refinement, name, watched)

    for name, position in (("weak_to_strong", 2), ("decoupling_margin", 2), ("multimodal_margin", 2)):
        watch(name, position)
    method = during_a_fit(make(adaptive=adaptive).eval(), progress, monkeypatch)
    method.contribution.running.copy_(tensor([0.8, 0.1, 0.1]))
    batch = batch_of()
    batch.present[0, 1] = False
    measured: list[torch.Tensor] = []
    method.contribution.register_forward_hook(lambda module, inputs, output: measured.append(output))
    method.training_losses(batch)
    even = torch.full((12, 3), 1 / 3)
    even[0] = tensor([0.5, 0.0, 0.5])
    expected = measured[0] if counts else even
    torch.testing.assert_close(given["multimodal_margin"][0], expected)
    torch.testing.assert_close(given["decoupling_margin"][0], expected)
    assert (given["weak_to_strong"][0] is not None) == counts
    if counts:
        assert torch.equal(given["weak_to_strong"][0], expected)
        assert (expected - even).abs().max() > 0.1
    assert given["weak_to_strong"][1] is given["decoupling_margin"][1] is True  # what is strong is not moved


@pytest.mark.parametrize(("progress", "share"), [(0.0, 0.0), (0.025, 0.25), (0.05, 0.5), (0.1, 1.0), (0.7, 1.0)])
def test_guidance_alignment_and_margins_come_in_over_a_tenth_of_training(
    progress: float, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    method, batch = make(label_margin=True), batch_of()
    outside = {name: weight for name, (_, weight) in method.training_losses(batch).items()}
    assert outside == {"task": 1.0, **WEIGHTS}
    found = during_a_fit(method, progress, monkeypatch).training_losses(batch)
    slow = ("guidance", "alignment", "decoupling_margin", "multimodal_margin", "label_margin")
    expected = {name: weight * (share if name in slow else 1.0) for name, weight in outside.items()}
    assert {name: weight for name, (_, weight) in found.items()} == pytest.approx(expected)


def test_points_are_codes_without_spread() -> None:
    method, batch = make(probabilistic=False).train(), batch_of()
    codes = method.codes(method.backbone.eval().encode(batch))
    assert torch.equal(codes.shared.drawn, codes.shared.mean)
    assert codes.shared.std.eq(0).all()
    gaussian = make().train()
    codes = gaussian.codes(gaussian.backbone.eval().encode(batch))
    assert not torch.equal(codes.shared.drawn, codes.shared.mean)
    assert torch.equal((drawn := gaussian.eval().codes(gaussian.backbone.encode(batch)).shared).drawn, drawn.mean)


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
    method, batch = make(task, cls, label_margin=True).train(), batch_of(task)
    absent = batch.present.clone()
    absent[0, 1] = absent[1, 0] = absent[2] = False
    losses = method.training_losses(replace(batch, present=absent))
    sum(value * weight for value, weight in losses.values()).backward()
    assert all(value.isfinite() for value, _ in losses.values())
    missing = [n for n, p in method.named_parameters() if p.requires_grad and p.grad is None]
    assert missing == []  # DDP waits for every parameter that claims to learn
    assert all(p.grad.isfinite().all() for p in method.parameters() if p.grad is not None)


def test_under_bf16() -> None:
    method, batch = make().train(), batch_of()
    with torch.autocast("cpu", torch.bfloat16):
        losses = method.training_losses(batch)
    assert all(value.dtype == torch.float32 and value.isfinite() for value, _ in losses.values())

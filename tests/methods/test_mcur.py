"""MCUR: with everything off it is supervised learning; each part changes what it says and nothing else."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import Trainer
from torch import Tensor

from mer_lightning.backbones.base import all_backbones
from mer_lightning.backbones.early import Early
from mer_lightning.backbones.late_transformer import LateTransformer
from mer_lightning.batch import Batch
from mer_lightning.contract import DIMS, TASKS
from mer_lightning.contract import example_batch as make_batch
from mer_lightning.data.datamodule import MERData
from mer_lightning.errors import Refusal
from mer_lightning.losses.contrast import Keys, contrastive_loss
from mer_lightning.masks.training import UniformCombinations, draw_combinations
from mer_lightning.methods.every_combination import EveryCombination
from mer_lightning.methods.mcur.method import MCUR
from mer_lightning.methods.supervised import Supervised
from mer_lightning.modalities import MODALITIES, combination_name
from mer_lightning.tasks import Regression, Task

SINGLE = TASKS["single_label"]
OFF = {"views": 1, "contrast_weight": 0.0, "estimator": "none"}


def make(task: Task = SINGLE, backbone=Early, dims: dict[str, int] = DIMS, **options) -> MCUR:
    torch.manual_seed(0)
    return MCUR(dims=dims, task_card=task.card(), backbone=backbone, **options)


def masked_batch(task: Task = SINGLE, samples: int = 40, alignment: str = "aligned", absent: int = 3) -> Batch:
    """Random combinations; the last samples have nothing at all, or lack audio for good."""
    batch = make_batch(alignment, task=task, samples=samples)
    available = torch.ones(samples, 3, dtype=torch.bool)
    available[-absent:, 1] = False
    available[-1] = False
    present = draw_combinations([1.0] * 7, samples, 5) & available
    return replace(batch, present=present, available=available)


def total(losses) -> Tensor:
    return torch.stack([value * weight for value, weight in losses.values()]).sum()


def ready(method: MCUR, monkeypatch) -> MCUR:
    monkeypatch.setattr(type(method), "progress", 0.9)
    return method


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
@pytest.mark.parametrize("estimator", ["hetero", "predictive", "bank"])
def test_without_contrast_and_in_warm_up_it_is_supervised_learning(task: Task, estimator: str) -> None:
    batch = masked_batch(task)
    method = make(task, views=2, contrast_weight=0.0, estimator=estimator, warm_up=0.2).eval()
    if method.bank is not None:
        method.bank.resize(len(batch))
    plain = Supervised(DIMS, task.card(), lambda dims: method.backbone)
    plain.head = method.head
    complete = replace(batch, present=batch.available)
    views = [total(plain.training_losses(each)) for each in (batch, complete)]
    losses = method.training_losses(batch)
    assert set(losses) - {"scale"} == {"task"}
    assert losses["task"][0].item() == pytest.approx(torch.stack(views).mean().item(), abs=1e-6)
    assert "scale" not in losses or losses["scale"][0].item() == pytest.approx(losses["task"][0].item(), abs=1e-6)


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_with_a_scale_of_zero_it_is_supervised_learning(task: Task, monkeypatch) -> None:
    method, batch = ready(make(task, views=1, contrast_weight=0.0), monkeypatch).eval(), masked_batch(task)
    plain = Supervised(DIMS, task.card(), lambda dims: method.backbone)
    plain.head = method.head
    assert method.training_losses(batch)["task"][0].item() == pytest.approx(
        total(plain.training_losses(batch)).item(), abs=1e-6
    )


def test_learnt_weights_have_the_mean_one_and_the_scale_a_loss_of_its_own(monkeypatch) -> None:
    method, batch = ready(make(views=1, contrast_weight=0.0), monkeypatch).eval(), masked_batch()
    method.log_scale.weight.data.normal_(std=2.0)
    state = method.backbone.fuse(method.backbone.encode(batch), batch.present)
    scale = math.log(5) * torch.tanh(method.log_scale(state).squeeze(1) / math.log(5))
    losses = method.task_losses(state, batch)
    weights = torch.exp(-scale) / torch.exp(-scale).mean()
    assert weights.std() > 0.1
    found = method.training_losses(batch)
    assert found["task"][0].item() == pytest.approx((weights * losses).mean().item(), abs=1e-6)
    assert (found["task"][1], found["scale"][1]) == (1.0, 1.0)
    assert found["scale"][0].item() == pytest.approx((torch.exp(-scale) * losses + scale / 2).mean().item(), abs=1e-5)


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_consistency_is_the_distance_to_the_complete_view_which_stands_still(task: Task) -> None:
    options = {"views": 2, "contrast_weight": 0.0, "estimator": "none", "consistency_weight": 0.5}
    method, batch = make(task, **options).eval(), masked_batch(task)
    encoded = method.backbone.encode(batch)
    masked, complete = (method.head(method.backbone.fuse(encoded, each)) for each in (batch.present, batch.available))
    differ = (batch.present != batch.available).any(1)
    if task.kind == "regression":
        distances = (masked - complete).abs().squeeze(1)
    elif task.kind == "ratings":
        distances = (masked - complete).abs().mean(1)
    elif task.kind == "single_label":
        distances = F.kl_div(masked.log_softmax(1), complete.softmax(1), reduction="none").sum(1)
    else:
        both = [torch.stack([p, 1 - p]) for p in (masked.sigmoid(), complete.sigmoid())]
        distances = F.kl_div(both[0].log(), both[1], reduction="none").sum(0).mean(1)
    value, weight = method.training_losses(batch)["consistency"]
    assert weight == 0.5
    assert value.item() == pytest.approx(distances[differ].mean().item(), abs=1e-5)
    assert task.distances(complete, complete).abs().max() < 1e-6
    gradient = torch.autograd.grad(task.distances(masked, complete.detach()).sum(), method.head.weight)[0]
    assert gradient.isfinite().all()


def test_seven_views_are_all_combinations_of_what_a_sample_has() -> None:
    batch = masked_batch()
    masks = make(views=7).view_masks(batch)
    assert masks.shape == (7, len(batch), 3)
    assert torch.equal(masks[-1], batch.available)
    names = [combination_name(row) for row in masks[:, 0].tolist()]
    assert names == ["t", "a", "v", "ta", "tv", "av", "tav"]
    without_audio = [combination_name(row) for row in masks[:, -2].tolist()]
    assert without_audio == ["t", "tv", "v", "t", "tv", "v", "tv"]  # what audio alone would leave is nothing
    two = make(views=7, dims={m: DIMS[m] for m in ("text", "audio")}).view_masks(batch)
    assert [combination_name(row) for row in two[:, 0].tolist()] == ["t", "a", "ta"]


def test_every_combination_is_the_mean_over_seven_fusions() -> None:
    torch.manual_seed(0)
    method, batch = EveryCombination(DIMS, SINGLE.card(), Early).eval(), masked_batch()
    losses = method.training_losses(batch)
    assert set(losses) == {"task"}
    encoded = method.backbone.encode(batch)
    slow = [
        method.task_losses(method.backbone.fuse(encoded, mask), batch).mean()
        for mask in make(views=7).view_masks(batch)
    ]
    assert losses["task"][0].item() == pytest.approx(torch.stack(slow).mean().item(), abs=1e-6)


def test_views_are_what_is_left_and_what_is_there(monkeypatch) -> None:
    seen = []
    method, batch = make(), masked_batch()
    states = method.states
    monkeypatch.setattr(method, "states", lambda encoded, present: seen.append(present) or states(encoded, present))
    method.training_losses(batch)
    assert torch.equal(seen[0], torch.stack([batch.present, batch.available]))
    method.views = 1
    method.training_losses(batch)
    assert torch.equal(seen[1], batch.present.unsqueeze(0))


def test_contrast_is_between_categories_and_combinations() -> None:
    """The loss of projected states, put together by hand."""
    method, batch = make(temperature=0.2, mode="graded", same_emotion_weight=0.3).eval(), masked_batch()
    with torch.no_grad():
        losses = method.training_losses(batch)
        rows = []
        for present in (batch.present, batch.available):
            state = method.backbone.fuse(method.backbone.encode(batch), present)
            z = method.projection(state)
            z = z / z.norm(dim=1, keepdim=True)
            for i in range(len(batch)):
                t, a, v = present[i].int().tolist()
                rows.append((z[i], int(batch.target[i]), t + 2 * a + 4 * v, i))
        anchors = Keys(torch.stack([r[0] for r in rows]), *(torch.tensor([r[n] for r in rows]) for n in (1, 2, 3)))
    value, weight = losses["contrast"]
    assert weight == 0.1
    assert value.item() == pytest.approx(contrastive_loss(anchors, 0.2, "graded", 0.3).item(), abs=1e-5)


def test_categories() -> None:
    target = torch.tensor([-3.0, -2.6, -0.4, 0.0, 0.4, 1.6, 3.0])
    assert make(Regression()).category(target).tolist() == [0, 0, 0, 1, 2, 2, 2]
    assert make(Regression(), bins=7).category(target).tolist() == [0, 0, 3, 3, 3, 5, 6]
    assert make(Regression(limit=1.0), bins=7).category(target / 3).tolist() == [0, 0, 3, 3, 3, 5, 6]
    beyond = torch.tensor([-4.0, 4.0])
    assert make(Regression(), bins=7).category(beyond).tolist() == [0, 6]
    assert make().category(torch.tensor([2, 0])).tolist() == [2, 0]
    labels = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    assert make(TASKS["multi_label"]).category(labels).tolist() == [5, 0]


def test_gradients_go_where_they_should() -> None:
    method, batch = make(unimodal_weight=0.5), masked_batch()
    losses = method.training_losses(batch)

    def reached(name: str) -> set[str]:
        method.zero_grad()
        losses[name][0].backward(retain_graph=True)
        return {n.split(".")[0] for n, p in method.named_parameters() if p.grad is not None and p.grad.any()}

    assert reached("contrast") == {"backbone", "projection"}
    assert reached("task") == {"backbone", "head"}
    assert reached("scale") == set()  # from the end of the warm-up on
    assert reached("unimodal") == {"backbone", "unimodal"}


def test_the_scale_learns_after_the_warm_up_only(monkeypatch) -> None:
    batch = masked_batch()
    for progress, learns in ((0.1, False), (0.2, True)):
        method = make(warm_up=0.2)
        monkeypatch.setattr(type(method), "progress", progress)
        method.training_losses(batch)["scale"][0].backward()
        assert method.log_scale.weight.grad is not None  # a part of every step, for DDP
        assert bool(method.log_scale.weight.grad.any()) == learns


def test_every_parameter_has_a_gradient() -> None:
    """DDP stops at one that has none."""
    for options in ({}, {"contrast_weight": 0.0}, {"estimator": "none"}, {"unimodal_weight": 0.1}, {"views": 1}):
        method = make(**options)
        total(method.training_losses(masked_batch())).backward()
        plain = Supervised(DIMS, SINGLE.card(), Early)
        total(plain.training_losses(masked_batch())).backward()
        without = {name for name, p in plain.named_parameters() if p.grad is None}
        assert {name for name, p in method.named_parameters() if p.grad is None} == without


@pytest.mark.parametrize(
    "changed",
    [
        {"mode": "joint"},
        {"mode": "graded"},
        {"mode": "dual"},
        {"temperature": 0.02},
        {"contrast_weight": 0.3},
        {"contrast_weight": 0.0},
        {"views": 1},
        {"views": 7},
        {"consistency_weight": 0.2},
        {"estimator": "predictive"},
        {"estimator": "none"},
        {"unimodal_weight": 0.4},
    ],
    ids=str,
)
def test_each_option_changes_the_loss(changed: dict, monkeypatch) -> None:
    batch, values = masked_batch(), []
    for options in ({}, changed):
        method = ready(make(**options), monkeypatch).eval()
        if method.log_scale is not None:
            torch.nn.init.constant_(method.log_scale.bias, 0.3)
        values.append(total(method.training_losses(batch)).item())
    assert abs(values[0] - values[1]) > 1e-4


@pytest.mark.parametrize("combination", [(True, False, False), (False, True, True)])
def test_what_is_masked_cannot_change_the_losses(combination: tuple[bool, ...], monkeypatch) -> None:
    """With one view; with two, the second looks at all that is there."""
    method = ready(make(views=1, unimodal_weight=0.5), monkeypatch).eval()
    batch = masked_batch().limited_to(torch.tensor(combination))
    before = {name: value.item() for name, (value, _) in method.training_losses(batch).items()}
    for surprise in (1e4, float("nan")):
        changed = {
            m: f if here else torch.full_like(f, surprise)
            for (m, f), here in zip(batch.features.items(), combination, strict=True)
        }
        losses = method.training_losses(replace(batch, features=changed))
        assert {name: value.item() for name, (value, _) in losses.items()} == before


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_the_unimodal_loss_is_a_mean_over_what_each_sample_has(task: Task) -> None:
    """Over one, two or three modalities, sample by sample; nothing for the last one, which has none."""
    method, batch = make(task, views=1, unimodal_weight=0.5).eval(), masked_batch(task)
    encoded = method.backbone.encode(batch)
    per_sample = []
    for i, present in enumerate(batch.present.tolist()):
        target = batch.target[i : i + 1]
        own = [
            task.losses(method.unimodal[m](encoded.vectors[m][i : i + 1]), target).item()
            for m, here in zip(MODALITIES, present, strict=True)
            if here
        ]
        per_sample.append(sum(own) / len(own) if own else 0.0)
    assert {int(row.sum()) for row in batch.present} == {0, 1, 2, 3}
    value, weight = method.training_losses(batch)["unimodal"]
    assert weight == 0.5
    assert value.item() == pytest.approx(sum(per_sample) / len(batch), abs=1e-5)


@pytest.mark.parametrize("name", all_backbones())
@pytest.mark.parametrize("options", [{}, {"estimator": "predictive", "memory": 16, "unimodal_weight": 0.1}], ids=str)
def test_trains_every_backbone(name: str, options: dict, monkeypatch) -> None:
    cls = all_backbones()[name]
    if cls.needs_tokens:
        pytest.skip("needs token ids")
    method, batch = ready(make(backbone=cls, **options), monkeypatch).train(), masked_batch()
    losses = method.training_losses(batch)
    total(losses).backward()
    assert losses["contrast"][0] > 0
    assert all(p.grad.isfinite().all() for p in method.parameters() if p.grad is not None)
    assert any(p.grad.any() for p in method.backbone.parameters() if p.grad is not None)


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_half_precision_one_sample_and_two_modalities(task: Task, monkeypatch) -> None:
    dims = {m: DIMS[m] for m in ("text", "vision")}
    for estimator in ("hetero", "predictive", "bank"):
        method = ready(make(task, LateTransformer, dims, estimator=estimator, unimodal_weight=0.1), monkeypatch)
        if method.bank is not None:
            method.bank.resize(40)
        for batch in (masked_batch(task), make_batch("aligned", task=task, samples=1)):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                losses = method.training_losses(method.inputs(batch))
            assert losses["contrast"][0].dtype == torch.float32
            total(losses).backward()
            assert all(p.grad.isfinite().all() for p in method.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bins": 7}, "classes of its own"),
        ({"task": Regression(), "estimator": "predictive", "views": 1}, "two views"),
        ({"contrast_weight": 0.0, "memory": 64}, "without a contrast"),
    ],
)
def test_contradictions_are_refused(options: dict, message: str) -> None:
    with pytest.raises(Refusal, match=message):
        make(**options)


def test_the_scale_is_kept_beside_the_predictions() -> None:
    method = make()
    torch.nn.init.constant_(method.log_scale.bias, 0.1)
    scale = method.extras(torch.randn(7, 5, method.head.in_features))["scale"]
    assert scale.shape == (7, 5)
    assert method.extras(torch.randn(7, 1, method.head.in_features))["scale"].shape == (7, 1)
    assert scale.flatten().tolist() == pytest.approx([1.1046] * 35, abs=1e-3)
    assert make(estimator="none").extras(torch.randn(7, 5, method.head.in_features)) == {}


def test_results_call_it_a_reconstruction() -> None:
    assert make().label == "MCUR (reconstruction)"
    assert Supervised(DIMS, SINGLE.card(), Early).label == "Supervised"


@pytest.mark.parametrize("estimator", ["bank", "hetero"])
def test_a_fit_logs_what_contrast_and_weights_do_and_keeps_its_bank(tiny_corpus, estimator: str) -> None:
    data = MERData(str(tiny_corpus(task=SINGLE)), masks=UniformCombinations(), batch_size=8, balanced=True)
    torch.manual_seed(0)
    method = MCUR(
        dims=data.dims,
        task_card=data.task_card,
        backbone=lambda dims: LateTransformer(dims, width=8, depth=1),
        estimator=estimator,
        memory=32,
        select_under="fixed-7",
    )
    trainer = Trainer(
        max_epochs=4, logger=False, enable_checkpointing=False, accelerator="cpu", enable_progress_bar=False
    )
    trainer.fit(method, datamodule=data)
    measured = trainer.callback_metrics
    assert 0.5 < measured["diagnostics/with_positive"] <= 1
    assert measured["train/contrast"].isfinite()
    assert measured["diagnostics/weight_deviation"] > 0
    if method.bank is not None:
        samples = len(data.split("train"))
        assert method.bank.table.shape == (samples, 7)
        assert method.bank.table[:, 6].isfinite().all()  # everything was seen complete
        assert method.bank.table[:, :6].isfinite().any()
        reloaded = MCUR(
            dims=data.dims,
            task_card=data.task_card,
            backbone=lambda dims: LateTransformer(dims, width=8, depth=1),
            estimator=estimator,
            memory=32,
        )
        reloaded.load_state_dict(method.state_dict())
        torch.testing.assert_close(reloaded.bank.table, method.bank.table, equal_nan=True)

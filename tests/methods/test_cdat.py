"""CDaT: what its phases train, where its weights come from, and what an absent or empty thing does to it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor

from mer_lightning.backbones.base import all_backbones
from mer_lightning.backbones.early import Early
from mer_lightning.backbones.ef_lstm import EFLSTM
from mer_lightning.backbones.late_transformer import LateTransformer
from mer_lightning.batch import Batch
from mer_lightning.contract import DIMS, TASKS
from mer_lightning.contract import example_batch as make_batch
from mer_lightning.data.datamodule import MERData
from mer_lightning.errors import Refusal
from mer_lightning.methods.cdat.losses import static_weights, transfer_loss
from mer_lightning.methods.cdat.method import CDaT
from mer_lightning.methods.supervised import Supervised
from mer_lightning.tasks import Regression, SingleLabel, Task
from tests.methods.cdat_examples import SINGLE, make, phase, small_transformer


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, ["fusion", "confidence", "transfer"]),
        ({"preset": "cdat_r1"}, ["fusion", "confidence", "transfer"]),
        ({"preset": "static"}, ["fusion", "transfer"]),
        ({"preset": "ce"}, ["fusion", "transfer"]),
        ({"preset": "baseline"}, ["fusion", "transfer"]),
        ({"confidence_from": "label"}, ["fusion", "transfer"]),
    ],
)
def test_phases(options: dict, names: list[str]) -> None:
    assert [phase.name for phase in make(**options).phases()] == names


def test_options_override_the_preset() -> None:
    assert make(preset="cdat_r1").reduction == "released"
    assert make(preset="cdat_r1", reduction="row").reduction == "row"
    assert make(preset="cdat_r1").confidence.output == "linear"
    assert make(preset="static", weighting="ratio").weighting == "ratio"


def test_a_phase_trains_its_part_and_the_rest_stands_still() -> None:
    method = phase(make(), "confidence")
    assert all(p.requires_grad for p in method.confidence.parameters())
    assert not any(p.requires_grad for part in (method.backbone, method.head) for p in part.parameters())
    assert method.confidence.training
    assert not any(module.training for part in (method.backbone, method.head) for module in part.modules())
    phase(method, "transfer")
    assert not any(p.requires_grad for p in method.confidence.parameters())
    assert not method.confidence.training
    assert method.backbone.training


def by_separate_passes(method: CDaT, batch: Batch) -> list[Tensor]:
    """The state with nothing masked, then without each modality: four whole passes."""
    masks = [torch.tensor(row) for row in ([1, 1, 1], [0, 1, 1], [1, 0, 1], [1, 1, 0])]
    method.eval()
    cut = [batch.limited_to(mask.bool()) for mask in masks]
    return [method.backbone.fuse(method.backbone.encode(each), each.present) for each in cut]


def weights_of(method: CDaT, batch: Batch) -> torch.Tensor:
    return method.transfer_weights(batch, method.backbone.encode(batch))


@torch.no_grad()
def test_weights_come_from_four_views() -> None:
    method, batch = phase(make(backbone=small_transformer), "transfer"), make_batch(task=SINGLE)
    c = [method.confidence.eval()(state) for state in by_separate_passes(method, batch)]
    method.train()
    weights = weights_of(method, batch)
    for i in range(len(batch)):
        for m in range(3):
            for n in range(3):
                expected = float(c[1 + m][i]) if c[1 + m][i] > c[1 + n][i] else 0.0
                assert weights[i, m, n].item() == pytest.approx(expected, abs=1e-6)


def test_weights_use_no_dropout_and_leave_modes_as_they_were() -> None:
    method, batch = phase(make(), "transfer"), make_batch(task=SINGLE)
    assert torch.equal(weights_of(method, batch), weights_of(method, batch))
    assert method.backbone.training
    assert not method.confidence.training
    assert not weights_of(method, batch).requires_grad


def test_oracle_takes_the_true_class_probability() -> None:
    method, batch = (
        phase(make(confidence_from="label", backbone=small_transformer), "transfer"),
        make_batch(task=SINGLE),
    )
    without = []
    for state in by_separate_passes(method, batch)[1:]:
        without.append(method.head(state).softmax(1)[torch.arange(len(batch)), batch.target])
    weights = weights_of(method, batch)
    expected = torch.where(without[2] > without[0], without[2], torch.zeros(len(batch)))
    torch.testing.assert_close(weights[:, 2, 0], expected)


def test_a_frozen_reference_is_the_model_as_the_transfer_found_it() -> None:
    method, batch = phase(make(confidence_from="frozen"), "transfer"), make_batch(task=SINGLE)
    weights = weights_of(method, batch)
    with torch.no_grad():
        for parameter in method.backbone.parameters():
            parameter.mul_(0.5)
    assert torch.equal(weights, weights_of(method, batch))
    online = phase(make(), "transfer")
    before = weights_of(online, batch)
    with torch.no_grad():
        for parameter in online.backbone.parameters():
            parameter.mul_(0.5)
    assert not torch.equal(before, weights_of(online, batch))


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
@pytest.mark.parametrize(
    "weighting", ["ratio", "difference", "threshold", "noise_level", "static", "ce", "ce_repaired"]
)
def test_every_rule_on_every_task(task: Task, weighting) -> None:
    method = phase(make(task, weighting=weighting), "transfer")
    weights = weights_of(method, make_batch(task=task))
    assert weights.isfinite().all()
    assert weights.diagonal(dim1=1, dim2=2).eq(0).all()
    assert weights.sum() > 0


def test_default_weight_is_the_released_one_per_pair() -> None:
    batch = make_batch(task=SINGLE)
    assert phase(make(), "transfer").transfer_losses(batch)["transfer"][1] == pytest.approx(1e4 / len(batch))
    assert phase(make(preset="cdat_r1"), "transfer").transfer_losses(batch)["transfer"][1] == 1e4
    assert phase(make(weight=7.0), "transfer").transfer_losses(batch)["transfer"][1] == 7.0


def test_static_transfer_is_the_loss_with_weights_of_one() -> None:
    method, batch = phase(make(preset="static"), "transfer").eval(), make_batch(task=SINGLE)
    vectors = list(method.backbone.encode(batch).vectors.values())
    expected = transfer_loss(vectors, static_weights(len(batch), 3, torch.device("cpu")), batch.present)
    torch.testing.assert_close(method.transfer_losses(batch)["transfer"][0], expected)


def test_the_baseline_goes_on_without_transfer() -> None:
    for weight in (None, 0.0):
        losses = phase(make(preset="baseline", weight=weight), "transfer").transfer_losses(make_batch(task=SINGLE))
        assert set(losses) == {"task"}
    with pytest.raises(Refusal, match="does not transfer"):
        make(preset="baseline", weight=1.0)


def test_without_dropout_the_first_phase_is_supervised_learning() -> None:
    batch = make_batch(task=SINGLE)
    method = make(logit_dropout=0.0)
    torch.manual_seed(0)
    supervised = Supervised(DIMS, SINGLE.card(), Early)
    supervised.backbone.load_state_dict(method.backbone.state_dict())
    supervised.head.load_state_dict(method.head.state_dict())
    found = [each.eval().training_losses(batch)["task"][0] for each in (method, supervised)]
    torch.testing.assert_close(*found)


def test_a_regression_has_no_dropout_on_its_output() -> None:
    assert make(Regression()).logit_dropout.rate == 0
    assert make(SingleLabel(("a", "b"))).logit_dropout.rate == 0.1


def test_vectors_that_cannot_learn_are_refused_before_training(tiny_corpus) -> None:
    """The LSTM of EF-LSTM reads concatenated features: its vectors are raw means, which no transfer could change."""
    data = MERData(str(tiny_corpus(alignment="aligned")))
    method = CDaT(dims=data.dims, task_card=data.task_card, backbone=EFLSTM)
    phase(method, "fusion")
    trainer = Trainer(max_epochs=1, logger=False, enable_checkpointing=False, accelerator="cpu")
    with pytest.raises(Refusal, match="vectors without parameters"):
        trainer.fit(method, datamodule=data)


@pytest.mark.parametrize("name", all_backbones())
def test_transfer_on_every_backbone(name: str) -> None:
    cls = all_backbones()[name]
    if cls is EFLSTM:
        pytest.skip("refused: its vectors are raw means")
    if getattr(cls, "needs_tokens", False):
        pytest.skip("needs token ids; tests/backbones has its own test")
    batch = make_batch("aligned", task=SINGLE)
    absent = batch.present.clone()
    absent[0, 1] = absent[1, 0] = absent[2] = False
    method = phase(make(backbone=cls), "transfer")
    losses = method.transfer_losses(replace(batch, present=absent))
    sum(value * weight for value, weight in losses.values()).backward()
    assert losses["transfer"][0] > 0
    assert all(p.grad.isfinite().all() for p in method.parameters() if p.grad is not None)


def test_an_absent_modality_neither_learns_nor_teaches() -> None:
    method, batch = phase(make(), "transfer").eval(), make_batch(task=SINGLE)
    absent = batch.present.clone()
    absent[:, 1] = False
    batch = replace(batch, present=absent)
    method.transfer_losses(batch)["transfer"][0].backward()
    assert all(p.grad is None or p.grad.eq(0).all() for p in method.backbone.encoders["audio"].parameters())
    assert any(p.grad.abs().sum() > 0 for p in method.backbone.encoders["text"].parameters() if p.grad is not None)


def test_impact_on_a_regression_is_how_far_a_mask_moves_the_prediction() -> None:
    method, batch = phase(make(Regression(), weighting="ce"), "transfer").eval(), make_batch(task=Regression())
    encoded = method.backbone.encode(batch)

    def predicted(present: Tensor) -> Tensor:
        return method.head(method.backbone.fuse(encoded, present)).squeeze(1)

    moved = []
    for modality in range(3):
        masked = batch.present.clone()
        masked[:, modality] = False
        moved.append((predicted(masked) - predicted(batch.present)).abs())
    weights = method.transfer_weights(batch, encoded)
    for student in range(3):
        for teacher in range(3):
            expected = moved[teacher] * (moved[teacher] > moved[student])
            torch.testing.assert_close(weights[:, student, teacher], expected)


def test_what_no_method_can_train_on_is_refused(tiny_corpus) -> None:
    class Aligned(LateTransformer):
        aligned_only = True

    method = CDaT(dims=DIMS, task_card=Regression().card(), backbone=lambda dims: Aligned(dims, width=8, depth=1))
    trainer = Trainer(max_epochs=1, logger=False, enable_checkpointing=False, accelerator="cpu")
    with pytest.raises(Refusal, match="as Aligned needs them"):
        trainer.fit(method, datamodule=MERData(corpus=str(tiny_corpus())))


def test_what_was_frozen_stays_in_evaluation_mode() -> None:
    method, batch = make(backbone=small_transformer).train(), make_batch(task=SINGLE)
    frozen = next(part for part in method.backbone.modules() if isinstance(part, torch.nn.LayerNorm))
    frozen.eval()
    method.transfer_weights(batch, method.backbone.encode(batch))
    assert method.backbone.training
    assert not frozen.training


def test_the_default_weight_is_the_released_one() -> None:
    method, batch = make(weighting="static"), make_batch(task=SINGLE)
    assert method.transfer_losses(batch)["transfer"][1] == 1e4 / len(batch)


def test_phases_are_as_long_as_in_the_paper() -> None:
    """20 epochs of fusion, 50 of confidence and 20 of transfer."""
    assert [phase.epochs for phase in make().phases()] == [1.0, 2.5, 1.0]


def test_samples_of_all_processes_are_compared_unless_it_is_switched_off(monkeypatch) -> None:
    gathered: list[int] = []
    monkeypatch.setattr(CDaT, "from_all_processes", lambda self, tensor: gathered.append(len(tensor)) or tensor)
    batch = make_batch(task=SINGLE)
    make(preset="static").transfer_losses(batch)
    assert gathered == [6] * 5  # three vectors, what is present, weights
    make(preset="static", gather=False).transfer_losses(batch)
    assert len(gathered) == 5


def test_a_step_logs_its_weights_and_its_confidence() -> None:
    method, batch = phase(make(), "transfer").eval(), make_batch(task=SINGLE)
    weights_of(method, batch)
    found = method.transfer_log.read()
    assert {"weight_t_from_a", "confidence_correlation"} <= set(found)
    masks = method._without_each(batch)
    confidence = method.confidence(method.backbone.fuse_many(method.backbone.encode(batch), masks))
    assert found["confidence_mean"] == pytest.approx(confidence.mean().item(), abs=1e-5)

"""CDaT: what its phases train, where its weights come from, and what an absent or empty thing does to it."""

from __future__ import annotations

import json
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
from mer_lightning.cli import main
from mer_lightning.contract import DIMS, TASKS
from mer_lightning.contract import example_batch as make_batch
from mer_lightning.data.datamodule import MERData
from mer_lightning.errors import Refusal
from mer_lightning.evaluation.predictions import Predictions
from mer_lightning.methods.cdat.confidence import ConfidenceNetwork
from mer_lightning.methods.cdat.losses import static_weights, transfer_loss
from mer_lightning.methods.cdat.method import CDaT, in_second_half
from mer_lightning.methods.supervised import Supervised
from mer_lightning.tasks import MultiLabel, Regression, SingleLabel, Task

SINGLE = TASKS["single_label"]


def make(task: Task = SINGLE, backbone=Early, **options) -> CDaT:
    torch.manual_seed(0)
    return CDaT(dims=DIMS, task_card=task.card(), backbone=backbone, **options)


def small_transformer(dims: dict[str, int]) -> LateTransformer:
    return LateTransformer(dims, width=8, depth=1)


def phase(method: CDaT, name: str) -> CDaT:
    method.enter(next(phase for phase in method.phases() if phase.name == name))
    return method.train()


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


def test_confidence_is_learnt_from_what_the_model_says_and_changes_nothing_else() -> None:
    method, batch = phase(make(), "confidence"), make_batch(task=SINGLE)
    before = {name: value.clone() for name, value in method.backbone.state_dict().items()}
    optimizer = torch.optim.Adam([p for p in method.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        value, weight = method.confidence_losses(batch)["confidence"]
        (weight * value).backward()
        optimizer.step()
    assert all(torch.equal(before[name], value) for name, value in method.backbone.state_dict().items())
    assert all(p.grad is None for p in method.backbone.parameters())


def test_confidence_errors_are_those_of_the_true_class_probability() -> None:
    method, batch = phase(make(), "confidence").eval(), make_batch(task=SINGLE)
    state = method.backbone.fuse(method.backbone.encode(batch), batch.present)
    probability = method.head(state).softmax(1)[torch.arange(len(batch)), batch.target]
    expected = (method.confidence(state) - probability) ** 2
    torch.testing.assert_close(method.confidence_errors(batch), expected)


def test_samples_without_a_label_do_not_teach_confidence() -> None:
    task = MultiLabel(("happy", "sad", "anger"))
    batch = make_batch(task=task)
    batch = replace(batch, target=torch.tensor([[1.0, 0, 0]] * 3 + [[0.0, 0, 0]] * 3))
    method = phase(make(task), "confidence").eval()
    assert method.confidence_errors(batch)[3:].eq(0).all()
    assert method.confidence_errors(batch)[:3].gt(0).all()
    assert phase(make(task, keep_unlabelled=True), "confidence").eval().confidence_errors(batch)[3:].gt(0).all()


def test_a_confidence_network_learns_a_learnable_target() -> None:
    """Broadcasting (B, 1) against (B,) gives a correlation near zero here."""
    torch.manual_seed(0)
    states = torch.randn(512, 8)
    target = torch.sigmoid(states[:, 0] * 2)
    network = ConfidenceNetwork(8, 4, 64, 0.5, "sigmoid")
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(150):
        optimizer.zero_grad()
        (network(states) - target).square().mean().backward()
        optimizer.step()
    said = network.eval()(states).detach()
    assert torch.corrcoef(torch.stack([said, target]))[0, 1] > 0.9


@pytest.mark.parametrize(("output", "low"), [("sigmoid", 0.0), ("clamp", 0.0), ("linear", -1e9)])
def test_only_a_linear_confidence_can_be_negative(output, low: float) -> None:
    torch.manual_seed(0)
    said = ConfidenceNetwork(8, 2, 16, 0.0, output).eval()(torch.randn(3, 50, 8) * 30)
    assert said.shape == (3, 50)
    assert said.min() >= low
    assert (said.min() < 0) == (output == "linear")


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


def test_confidence_is_kept_beside_the_predictions() -> None:
    states = torch.randn(2, 5, make().head.in_features)
    extras = make().eval().extras(states)
    assert extras["confidence"].shape == (2, 5)
    assert make(preset="static").extras(states) == {}


def test_the_log_of_an_epoch() -> None:
    """Two batches by hand: the deviation and the correlation are those of all samples, not means over batches."""
    log = make().transfer_log
    said = torch.tensor([0.2, 0.4, 0.6, 0.9])
    true = torch.tensor([0.1, 0.5, 0.5, 1.0])
    weights = torch.zeros(2, 3, 3)
    weights[0, 0, 1] = 0.5
    for half in (slice(0, 2), slice(2, 4)):
        log.add_confidence(said[half], true[half])
        log.add_weights(weights)
    found = log.read()
    assert found["confidence_std"] == pytest.approx(said.std(unbiased=False).item(), abs=1e-6)
    assert found["confidence_correlation"] == pytest.approx(
        torch.corrcoef(torch.stack([said, true]))[0, 1].item(), abs=1e-5
    )
    assert found["weight_t_from_a"] == 0.25
    assert found["learning_t_from_a"] == 0.5
    assert log.read() == {}


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


@pytest.mark.parametrize(("targets", "halves"), [("valid_half", []), ("out_of_fold", ["half-0", "half-1"])])
def test_a_fit_whose_confidence_learns_from_unseen_samples(tiny_corpus, tmp_path, targets, halves) -> None:
    run = tmp_path / "run"
    given = ["fit", "--model", "cdat", "--model.backbone", "early", "--model.confidence_targets", targets]
    given += ["--data.corpus", str(tiny_corpus()), "--trainer.max_epochs", "1", "--run_dir", str(run)]
    assert main([*given, "--trainer.enable_progress_bar", "false"]) == 0
    assert list(json.loads((run / "phases.json").read_text())) == ["fusion", *halves, "confidence", "transfer"]


def test_out_of_fold_targets_come_from_the_model_that_has_not_seen_the_sample() -> None:
    method, batch = make(confidence_targets="out_of_fold"), make_batch(task=SINGLE)
    method.enter(next(phase for phase in method.phases() if phase.name == "confidence"))
    masks = batch.present.unsqueeze(0)
    states = method.states(method.backbone.encode(batch), masks)
    judged = method._judged_logits(states, batch, masks)[0]
    of_halves = [method._half_logits(half, batch, masks)[0] for half in (0, 1)]
    for row, second in enumerate(in_second_half(batch.index).tolist()):
        torch.testing.assert_close(judged[row], of_halves[0 if second else 1][row])
    method.eval()  # no model has seen a validation sample
    torch.testing.assert_close(method._judged_logits(states, batch, masks), method.head(states))


def test_a_half_learns_from_its_own_samples_only() -> None:
    method, batch = make(confidence_targets="out_of_fold").eval(), make_batch(task=SINGLE)
    mine = in_second_half(batch.index)
    assert 0 < mine.sum() < len(mine)
    changed = replace(batch, target=torch.where(mine, batch.target, (batch.target + 1) % 4))
    assert method._half_losses(1, changed)["task"][0] == method._half_losses(1, batch)["task"][0]
    assert method._half_losses(0, changed)["task"][0] != method._half_losses(0, batch)["task"][0]


def test_confidence_from_probability_is_how_clear_the_decision_is() -> None:
    method, batch = make(Regression(), confidence_from="probability").eval(), make_batch(task=Regression())
    assert [phase.name for phase in method.phases()] == ["fusion", "transfer"]
    states = method.states(method.backbone.encode(batch), batch.present.unsqueeze(0))
    expected = (method.head(states)[0].squeeze(1).abs() / 3).clamp(max=1)
    torch.testing.assert_close(method.extras(states)["confidence"][0], expected)


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


def test_validation_says_how_well_confidence_tells_right_from_wrong(monkeypatch) -> None:
    method = make(Regression())
    logits = torch.tensor([[[1.0]], [[-2.0]], [[0.5]], [[3.0]], [[1.0]]])
    target = torch.tensor([1.0, -1.0, -1.0, -2.0, 0.0])  # right, right, wrong, wrong; the last has no sign
    confidence = torch.tensor([[0.9], [0.8], [0.7], [0.1], [0.5]])
    logged: dict[str, float] = {}
    monkeypatch.setattr(method, "log", lambda name, value: logged.update({name: value}))
    method.log_validation(Predictions(logits, target, torch.arange(5), {"confidence": confidence}), ["tav"])
    assert logged == {"valid/confidence_auroc": 1.0, "valid/trivial_auroc": 0.5}

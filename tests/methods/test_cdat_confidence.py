"""The confidence of CDaT: what it learns, from which samples, and what is logged and kept of it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from mer_lightning.cli import main
from mer_lightning.contract import example_batch as make_batch
from mer_lightning.evaluation.predictions import Predictions
from mer_lightning.methods.cdat.confidence import ConfidenceNetwork
from mer_lightning.methods.cdat.method import in_second_half
from mer_lightning.tasks import MultiLabel, Regression
from tests.methods.cdat_examples import SINGLE, make, phase


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


def test_validation_says_how_well_confidence_tells_right_from_wrong(monkeypatch) -> None:
    method = make(Regression())
    logits = torch.tensor([[[1.0]], [[-2.0]], [[0.5]], [[3.0]], [[1.0]]])
    target = torch.tensor([1.0, -1.0, -1.0, -2.0, 0.0])  # right, right, wrong, wrong; the last has no sign
    confidence = torch.tensor([[0.9], [0.8], [0.7], [0.1], [0.5]])
    logged: dict[str, float] = {}
    monkeypatch.setattr(method, "log", lambda name, value: logged.update({name: value}))
    method.log_validation(Predictions(logits, target, torch.arange(5), {"confidence": confidence}), ["tav"])
    assert logged == {"valid/confidence_auroc": 1.0, "valid/trivial_auroc": 0.5}

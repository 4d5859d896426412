"""MGR's losses by hand: each value, and each that has nothing to compare."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn, tensor

from mer_lightning.data.corpus import open_corpus
from mer_lightning.data.datamodule import MERData
from mer_lightning.evaluation.probes import label_r2, modality_accuracy, spread
from mer_lightning.losses.decoupling import cross_correlation, gaussian_kl, hsic, wasserstein
from mer_lightning.masks.training import ModalityDropout
from mer_lightning.methods.mgr import losses as refinement
from mer_lightning.methods.mgr.codes import CodeFusion, GaussianEncoder, uniform_contribution
from mer_lightning.methods.mgr.method import MGR, WEIGHTS
from mer_lightning.methods.mgr.probe import ModalityProbe
from mer_lightning.tasks import Regression, Task
from tests.conftest import TASKS
from tests.methods.test_mgr import batch_of, during_a_fit, make

HERE = torch.ones(6, 3, dtype=torch.bool)


def draws(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- what results depend on: change it here only together with the results that name it


def test_weights_of_losses() -> None:
    assert WEIGHTS == {
        "unimodal": 0.3,
        "shared": 0.3,
        "private_recognition": 0.1,
        "shared_recognition": 1.0,
        "guidance": 0.3,
        "moments": 0.3,
        "alignment": 0.1,
        "overlap": 0.1,
        "reconstruction": 0.3,
        "prior": 0.001,
        "decoupling_margin": 0.1,
        "multimodal_margin": 0.1,
        "label_margin": 0.1,
        "variance": 0.3,
    }


def test_defaults() -> None:
    options = inspect.signature(MGR.__init__).parameters
    found = {name: option.default for name, option in options.items() if option.default is not option.empty}
    assert found == {
        "width": 64,
        "dropout": 0.1,
        "guidance": "confusion",
        "distance": "wasserstein",
        "overlap": "correlation",
        "weights": None,
        "private": True,
        "probabilistic": True,
        "distributions": True,
        "margins": True,
        "label_margin": False,
        "reconstruct": True,
        "adaptive": True,
        "stop_gradient": True,
    }
    assert MGR.reconstruction


def test_parameter_count() -> None:
    """8 wide: fusion 6 tokens; see CodeFusion, GaussianEncoder and the heads."""
    linear = 8 * 8 + 8
    encoder = 4 * linear
    layer = 4 * linear + 2 * 16 + (8 * 16 + 16) + (16 * 8 + 8)  # attention, two norms, a feed-forward twice as wide
    assert sum(p.numel() for p in GaussianEncoder(8, True, 0.0).parameters()) == encoder
    assert sum(p.numel() for p in GaussianEncoder(8, False, 0.0).parameters()) == encoder - linear
    fusion = 2 * 6 * 8 + layer + (6 * 8 * 8 + 8)
    assert sum(p.numel() for p in CodeFusion(8, 6).parameters()) == fusion
    method = make()
    parts = {name: sum(p.numel() for p in part.parameters()) for name, part in method.named_children()}
    widths = method.backbone.vector_widths
    assert parts["project"] == sum(width * 8 + 8 + 16 for width in widths.values())
    assert parts["share"] == encoder
    assert parts["keep"] == 3 * encoder
    assert parts["decode"] == 3 * ((16 * 8 + 8) + linear)
    assert parts["alone"] == 3 * (16 + 1)
    assert parts["from_shared"] == 3 * 8 + 1
    assert parts["fusion"] == fusion
    assert parts["head"] == 8 + 1
    assert parts["classifier"] == linear + 8 * 3 + 3


# --- pure losses


def test_a_mean_over_no_row_is_zero() -> None:
    values, rows = tensor([1.0, 3.0, math.nan]), tensor([True, True, False])
    assert refinement.mean_over(values, rows) == 2.0
    assert refinement.mean_over(values, rows & False) == 0.0


def test_recognition_by_hand() -> None:
    """Each code against the number of its modality, or all against one class; absent ones are left out."""
    classifier, codes = nn.Linear(4, 4), draws(6, 3, 4)
    present = HERE.clone()
    present[0, 1] = present[3] = False
    for label in (None, 3):
        terms = [
            -classifier(codes[b, m]).log_softmax(0)[m if label is None else label].item()
            for b in range(6)
            for m in range(3)
            if present[b, m]
        ]
        found = refinement.recognition(classifier, codes, present, label).item()
        assert found == pytest.approx(sum(terms) / 14, rel=1e-5)


def test_confusion_by_hand() -> None:
    """KL(uniform || p) = -ln 3 - (1/3) sum ln p."""
    classifier, codes = nn.Linear(4, 3), draws(6, 3, 4)
    expected = (-classifier(codes).softmax(2).log().mean(2) - math.log(3)).mean()
    assert refinement.confusion(classifier, codes, HERE).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize(("progress", "coefficient"), [(0.0, 0.0), (0.1, 0.4621172), (1.0, 0.9999092)])
def test_the_reversal_grows(progress: float, coefficient: float) -> None:
    classifier, codes = nn.Linear(4, 3), draws(6, 3, 4).requires_grad_()
    plain = torch.autograd.grad(refinement.recognition(classifier, codes, HERE), codes)[0]
    turned = torch.autograd.grad(refinement.reversal(classifier, codes, HERE, progress), codes)[0]
    torch.testing.assert_close(turned, -coefficient * plain)


def test_alignment_weighs_pairs_by_how_much_stronger_the_partner_is() -> None:
    """Weights .5, .3, .2: a = .2 / .6 (1 to 0), .3 / .6 (2 to 0), .1 / .6 (2 to 1)."""
    mean, std = draws(6, 3, 4), draws(6, 3, 4, seed=1).abs()
    weights = tensor([[0.5, 0.3, 0.2]]).expand(6, 3)

    def distance(i: int, j: int) -> Tensor:
        return wasserstein(mean[:, i], std[:, i], mean[:, j], std[:, j])

    whole = (0.2 * distance(1, 0) + 0.3 * distance(2, 0) + 0.1 * distance(2, 1)) / 0.6 / 4
    found = refinement.weak_to_strong(mean, std, weights, HERE, wasserstein)
    assert found.item() == pytest.approx(whole.mean().item(), rel=1e-5)
    present = HERE.clone()
    present[:, 0] = False  # the strongest is not there: the pair (2, 1) remains
    present[:2, 1] = False  # nothing remains for the first two samples
    found = refinement.weak_to_strong(mean, std, weights, present, wasserstein)
    assert found.item() == pytest.approx(distance(2, 1)[2:].mean().item() / 4, rel=1e-5)


def test_alignment_of_equals_is_zero() -> None:
    mean, std = draws(6, 3, 4).requires_grad_(), torch.ones(6, 3, 4)
    found = refinement.weak_to_strong(mean, std, torch.full((6, 3), 1 / 3), HERE, wasserstein)
    assert found == 0
    assert torch.autograd.grad(found, mean)[0].eq(0).all()
    assert refinement.weak_to_strong(mean, std, None, HERE & False, wasserstein) == 0


def test_variance_floor_by_hand() -> None:
    """The second modality deviates by .3, and lacks .2; the third has one sample, whose deviation means nothing."""
    shared = torch.zeros(4, 3, 2)
    shared[:, 0] = tensor([1.0, -1.0, 1.0, -1.0]).unsqueeze(1)
    shared[:, 1] = tensor([5.3, 4.7, 5.3, 99.0]).unsqueeze(1)
    present = tensor([[1, 1, 1], [1, 1, 0], [1, 0, 0], [1, 0, 0]]).bool()
    found = refinement.variance_floor(shared, present)
    assert found.item() == pytest.approx((0 + 0.2) / 2, abs=1e-5)
    assert refinement.variance_floor(shared, present & False) == 0


def test_margins_are_bounded_below() -> None:
    assert refinement.adaptive_margin(torch.zeros(1, 1))[0, 0].item() == pytest.approx(0.4 * 0.5)
    assert refinement.adaptive_margin(tensor([[-9.0, 9.0]]))[0].tolist() == pytest.approx([0.1, 0.8])


def test_uniform_contributions_of_what_is_there() -> None:
    present = tensor([[1, 1, 0], [0, 0, 1], [0, 0, 0]]).bool()
    assert uniform_contribution(present).tolist() == [[0.5, 0.5, 0], [0, 0, 1], [0, 0, 0]]


# --- the losses of the whole method


def test_codes_are_drawn_around_their_means() -> None:
    encoder = GaussianEncoder(4, True, 0.0)
    nn.init.zeros_(encoder.log_variance.weight)
    for raw, log_variance in ((0.5, 0.5), (9.0, 2.0), (-9.0, -6.0)):  # from exp(-6) to exp(2)
        nn.init.constant_(encoder.log_variance.bias, raw)
        code = encoder(draws(2000, 4))
        assert code.std.unique().item() == pytest.approx(math.exp(log_variance / 2), rel=1e-6)
        assert (code.drawn - code.mean).std().item() == pytest.approx(math.exp(log_variance / 2), rel=0.05)
        torch.testing.assert_close(code.mean.mean(1), torch.zeros(2000), atol=1e-4, rtol=0)
        torch.testing.assert_close(code.mean.std(1, unbiased=False), torch.ones(2000), atol=5e-2, rtol=0)


@pytest.mark.parametrize("private", [True, False])
def test_every_loss_of_a_batch_by_hand(private: bool) -> None:
    method, batch = make(private=private, label_margin=True).eval(), batch_of()
    batch.present[0, 1] = batch.present[1] = False
    present, target = batch.present, batch.target
    losses = {name: value for name, (value, _) in method.training_losses(batch).items()}
    codes = method.codes(method.backbone.encode(batch))
    shared, own = codes.shared.mean, codes.private.mean
    assert torch.equal(codes.shared.drawn, shared)

    def both(m: int) -> Tensor:
        return torch.cat([shared[:, m], own[:, m]], 1) if private else shared[:, m]

    def mean(values: list[Tensor]) -> float:
        return torch.stack(values, 1)[present].mean().item()

    alone = [(method.alone[m](both(n)).squeeze(1) - target).abs() for n, m in enumerate(method.dims)]
    assert losses["unimodal"].item() == pytest.approx(mean(alone), rel=1e-5)
    decoded = [(method.decode[m](both(n)) - codes.vectors[:, n]).square().mean(1) for n, m in enumerate(method.dims)]
    assert losses["reconstruction"].item() == pytest.approx(mean(decoded), rel=1e-5)
    together = method.from_shared((shared * present.unsqueeze(2)).flatten(1)).squeeze(1)
    assert losses["shared"].item() == pytest.approx((together - target).abs().mean().item(), rel=1e-5)

    def recognised(what: Tensor) -> float:
        terms = method.classifier(what).log_softmax(2).diagonal(dim1=1, dim2=2)
        return -terms[present].mean().item()

    assert losses["shared_recognition"].item() == pytest.approx(recognised(shared) / 2, rel=1e-5)
    kinds = (codes.shared, codes.private) if private else (codes.shared,)
    divergences = [
        gaussian_kl(each.mean, each.std, torch.zeros(12, 3, 8), torch.ones(12, 3, 8))[present].mean() / 8
        for each in kinds
    ]
    assert losses["prior"].item() == pytest.approx(torch.stack(divergences).mean().item(), rel=1e-5)
    if private:
        assert losses["private_recognition"].item() == pytest.approx(recognised(own), rel=1e-5)
        pairs = [(own[:, i], own[:, j], present[:, i] & present[:, j]) for i, j in ((0, 1), (0, 2), (1, 2))]
        pairs += [(shared[:, i], own[:, i], present[:, i]) for i in range(3)]
        overlap = torch.stack([cross_correlation(*pair) for pair in pairs]).mean()
        assert losses["overlap"].item() == pytest.approx(overlap.item(), rel=1e-5)


def test_overlap_may_be_measured_by_hsic() -> None:
    method, batch = make(overlap="hsic").eval(), batch_of()
    codes = method.codes(method.backbone.encode(batch))
    shared, own, rows = codes.shared.mean, codes.private.mean, batch.present[:, 0]
    pairs = [(own[:, 0], own[:, 1]), (own[:, 0], own[:, 2]), (own[:, 1], own[:, 2])]
    pairs += [(shared[:, i], own[:, i]) for i in range(3)]
    expected = torch.stack([hsic(*pair, rows) for pair in pairs]).mean()
    assert method.training_losses(batch)["overlap"][0].item() == pytest.approx(expected.item(), rel=1e-5)


def test_distance_may_be_symmetric_kl(monkeypatch: pytest.MonkeyPatch) -> None:
    method, batch = during_a_fit(make(distance="sym_kl").eval(), 0.0, monkeypatch), batch_of()
    code = method.codes(method.backbone.encode(batch)).shared
    terms = []
    for i in range(3):
        for j in range(3):
            if i != j:  # at the beginning all pairs count the same
                one, other = (code.mean[:, i], code.std[:, i]), (code.mean[:, j], code.std[:, j])
                terms.append(gaussian_kl(*one, *other) + gaussian_kl(*other, *one))
    expected = torch.stack(terms).mean() / 8
    assert method.training_losses(batch)["alignment"][0].item() == pytest.approx(expected.item(), rel=1e-4)


def test_guidance_by_reversal(monkeypatch: pytest.MonkeyPatch) -> None:
    method, batch = during_a_fit(make(guidance="grl").eval(), 0.1, monkeypatch), batch_of()
    codes = method.codes(method.backbone.encode(batch)).shared.drawn
    plain = refinement.recognition(method.classifier, codes, batch.present)
    wanted = torch.autograd.grad(plain, method.share.mean.weight)[0]
    value, weight = method.training_losses(batch)["guidance"]
    assert weight == 0.3
    assert value.item() == pytest.approx(plain.item(), rel=1e-5)
    found = torch.autograd.grad(value, method.share.mean.weight)[0]
    torch.testing.assert_close(found, -0.4621172 * wanted, rtol=1e-4, atol=1e-6)


def test_label_margin_takes_near_labels_for_the_same() -> None:
    """Of a regression within a quarter; of classes the same class. Other modalities of a sample are positives, too."""
    for task, target in (
        (Regression(), tensor([0.0, 0.25, 2.0])),
        (TASKS["single_label"], tensor([1, 1, 3])),
    ):
        method = make(task)
        codes, values = draws(3, 3, 4), target.float()
        unit = torch.nn.functional.normalize(codes.flatten(0, 1), dim=1)
        cosine, labels = unit @ unit.T, values.repeat_interleave(3)
        means = []
        for i in range(9):
            terms = [
                max(0.15 * abs(labels[i] - labels[k]) - cosine[i, p] + cosine[i, k], tensor(0.0))
                for p in range(9)
                if p != i and abs(labels[i] - labels[p]) <= 0.25
                for k in range(9)
                if abs(labels[i] - labels[k]) > 0.25
            ]
            means.append(sum(terms) / len(terms))
        found = method._label_margin(codes, torch.ones(3, 3, dtype=torch.bool), target)
        assert found.item() == pytest.approx(float(sum(means)) / 9, rel=1e-5)


def test_the_mean_contribution_of_what_is_there_is_logged(tiny_corpus) -> None:
    """One batch is the whole epoch, and its masks are known."""
    data = MERData(str(tiny_corpus()), masks=ModalityDropout(0.5), batch_size=100)
    trainer = Trainer(
        max_epochs=1, logger=False, enable_checkpointing=False, accelerator="cpu", enable_progress_bar=False
    )
    trainer.fit(make(adaptive=False), datamodule=data)
    present = data.masks.present(len(data.split("train")), 0, data.seed)
    weights = present / present.sum(1, keepdim=True)
    expected = weights.sum(0) / present.sum(0)
    found = [trainer.callback_metrics[f"contribution/{m}"].item() for m in ("text", "audio", "vision")]
    assert found == pytest.approx(expected.tolist(), rel=1e-5)
    assert trainer.callback_metrics["contribution/shared_std"] > 0


# --- the probe


@pytest.fixture
def probed(tiny_corpus) -> Callable[..., tuple[Any, list[tuple[dict[str, float], int]]]]:
    """A function that gives a stand-in for a Trainer at its last epoch, and the list of what it logs."""

    def make_trainer(task: Task) -> tuple[Any, list[tuple[dict[str, float], int]]]:
        corpus = open_corpus(tiny_corpus(task=task, samples=90))
        logged: list[tuple[dict[str, float], int]] = []
        trainer = SimpleNamespace(
            max_epochs=7,
            current_epoch=6,
            sanity_checking=False,
            is_global_zero=True,
            datamodule=SimpleNamespace(split=lambda name: corpus.split("official", name)),
            loggers=[SimpleNamespace(log_metrics=lambda values, step: logged.append((values, step)))],
            global_step=31,
        )
        return trainer, logged

    return make_trainer


@pytest.mark.parametrize("kind", ["regression", "single_label"])
def test_the_probe_reads_the_codes(kind: str, probed) -> None:
    task = TASKS[kind]
    trainer, logged = probed(task)
    method = make(task).train()
    ModalityProbe().on_validation_end(trainer, method)
    assert method.training
    seen = {}
    for name in ("train", "valid"):
        split = trainer.datamodule.split(name)
        batch = split.batch(torch.arange(len(split)))
        with torch.no_grad():
            codes = method.eval().codes(method.backbone.encode(batch))
        seen[name] = (codes.shared.mean.numpy(), codes.private.mean.numpy(), batch.target.numpy())
    (train, own, target), (valid, valid_own, valid_target) = seen["train"], seen["valid"]
    if kind == "single_label":
        target, valid_target = np.eye(4)[target], np.eye(4)[valid_target]
    expected = {
        "probe/shared_modality": modality_accuracy(train, valid),
        "probe/private_modality": modality_accuracy(own, valid_own),
        "probe/shared_r2": label_r2(train, target, valid, valid_target),
        "probe/shared_std": spread(valid),
    }
    ((found, step),) = logged
    assert step == 31
    assert found == pytest.approx(expected, abs=0.02)
    ModalityProbe().on_validation_end(trainer, make(task, private=False))
    assert "probe/private_modality" not in logged[1][0]


def test_the_probe_looks_every_fifth_epoch_and_at_the_end(probed) -> None:
    trainer, logged = probed(Regression())
    method, callback, epochs = make(), ModalityProbe(), []
    for epoch in range(7):
        trainer.current_epoch, before = epoch, len(logged)
        callback.on_validation_end(trainer, method)
        if len(logged) > before:
            epochs.append(epoch)
    assert epochs == [4, 6]
    for change in ({"sanity_checking": True}, {"is_global_zero": False}):
        callback.on_validation_end(SimpleNamespace(**(vars(trainer) | change)), method)
    callback.on_validation_end(trainer, nn.Linear(1, 1))
    assert len(logged) == 2


def test_the_probe_warns_of_a_collapse(probed) -> None:
    trainer, logged = probed(Regression())
    method = make()
    nn.init.zeros_(method.share.mean.weight)
    with pytest.warns(UserWarning, match="collapsed"):
        ModalityProbe().on_validation_end(trainer, method)
    assert logged[0][0]["probe/shared_std"] < 0.05

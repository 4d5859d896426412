"""MGR's numbers by hand: its constants, its losses, its codes and its referee."""

from __future__ import annotations

import inspect
import math

import pytest
import torch
from torch import Tensor, nn, tensor

from mer_lightning.losses.decoupling import cross_correlation
from mer_lightning.methods.mgr import losses as refinement
from mer_lightning.methods.mgr.codes import Absent, Codes, Contribution, Standardised, uniform_contribution
from mer_lightning.methods.mgr.method import MGR, WEIGHTS
from mer_lightning.methods.mgr.referee import Referee
from tests.methods.test_mgr import batch_of, make

HERE = torch.ones(6, 3, dtype=torch.bool)


def draws(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- what results depend on: change it here only together with the results that name it


def test_weights_of_losses() -> None:
    assert WEIGHTS == {
        "unimodal": 0.3,
        "joint_shared": 0.5,
        "single_shared": 0.3,
        "private_recognition": 0.1,
        "guidance": 5.0,
        "energy": 0.5,
        "disparity": 0.1,
        "reconstruction": 0.3,
        "decoupling_margin": 0.1,
        "multimodal_margin": 0.1,
    }


def test_defaults() -> None:
    options = inspect.signature(MGR.__init__).parameters
    found = {name: option.default for name, option in options.items() if option.default is not option.empty}
    assert found == {"dropout": 0.3, "weights": None, "impute": True}
    assert MGR.reconstruction


# --- pure losses


def test_a_mean_over_no_row_is_zero() -> None:
    values, rows = tensor([1.0, 3.0, math.nan]), tensor([True, True, False])
    assert refinement.mean_over(values, rows) == 2.0
    assert refinement.mean_over(values, rows & False) == 0.0


def test_recognition_by_hand() -> None:
    logits, present = draws(6, 3, 3), HERE.clone()
    present[0, 1] = present[5, 2] = present[5, 0] = False
    terms = [-logits[b, m].log_softmax(0)[m] for b in range(6) for m in range(3) if present[b, m]]
    found = refinement.recognition(logits, present)
    assert found.item() == pytest.approx(torch.stack(terms).mean().item(), rel=1e-5)


def test_confusion_by_hand() -> None:
    """KL(uniform || p) = -ln 3 - (1/3) sum ln p; 0 for a classifier that cannot tell."""
    logits = draws(6, 3, 3)
    expected = (-logits.softmax(2).log().mean(2) - math.log(3)).mean()
    assert refinement.confusion(logits, HERE).item() == pytest.approx(expected.item(), rel=1e-5)
    assert refinement.confusion(torch.full((6, 3, 3), 7.0), HERE).item() == pytest.approx(0, abs=1e-6)


def test_energy_distance_by_hand() -> None:
    """Points on a line: x at 0 and 1, y at 3 and 5, and one z. E|x-y| = 3.5, E|x-x'| = 1, E|y-y'| = 2."""
    codes = torch.zeros(2, 3, 1)
    codes[:, 0, 0], codes[:, 1, 0] = tensor([0.0, 1.0]), tensor([3.0, 5.0])
    present = tensor([[True, True, True], [True, True, False]])
    # (4 distances: 3, 5, 2, 4; a sample's own codes are at a distance like any other)
    assert refinement.energy_distance(codes, present).item() == pytest.approx(2 * 3.5 - 1 - 2, rel=1e-5)


def test_energy_distance_is_that_of_all_pairs() -> None:
    codes, present = draws(6, 3, 4), HERE.clone()
    present[0, 1] = present[3, 2] = present[4, 2] = False
    of = [codes[present[:, m], m] for m in range(3)]

    def mean(x: Tensor, y: Tensor) -> Tensor:
        distances = torch.cdist(x, y)
        return distances.sum() / (len(x) * (len(x) - 1)) if x is y else distances.mean()

    pairs = [(0, 1), (0, 2), (1, 2)]
    terms = [2 * mean(of[i], of[j]) - mean(of[i], of[i]) - mean(of[j], of[j]) for i, j in pairs]
    assert refinement.energy_distance(codes, present).item() == pytest.approx(
        torch.stack(terms).mean().item(), rel=1e-4
    )
    codes[0, 1] = codes[3, 2] = math.nan  # what is absent plays no part
    assert refinement.energy_distance(codes, present).item() == pytest.approx(
        torch.stack(terms).mean().item(), rel=1e-4
    )


def test_energy_distance_without_a_pair_is_zero() -> None:
    codes = draws(4, 3, 2).requires_grad_()
    present = tensor([[1, 1, 0], [1, 0, 0], [1, 0, 0], [1, 0, 0]]).bool()
    found = refinement.energy_distance(codes, present)
    assert found == 0
    assert torch.autograd.grad(found, codes)[0].eq(0).all()


def test_energy_distance_draws_distributions_together() -> None:
    codes = (draws(64, 2, 3) + tensor([[[0.0], [2.0]]])).requires_grad_()
    present = torch.ones(64, 2, dtype=torch.bool)
    gradient = torch.autograd.grad(refinement.energy_distance(codes, present), codes)[0].mean((0, 2))
    assert gradient[0] < 0 < gradient[1]
    codes = draws(1, 2, 3).expand(64, 2, 3).clone().requires_grad_()  # all distances within are zero
    assert torch.autograd.grad(refinement.energy_distance(codes, present), codes)[0].isfinite().all()


def test_margins_grow_with_contribution_within_bounds() -> None:
    weights = torch.linspace(0, 1, 11).unsqueeze(1).expand(11, 3)
    margins = refinement.adaptive_margin(weights)[:, 0]
    assert (margins.diff() >= 0).all()
    assert margins[0].item() == pytest.approx(0.4 * 0.5)
    assert margins[-1].item() == pytest.approx(0.4 * 2.0)
    assert refinement.adaptive_margin(torch.full((1, 3), 1 / 3))[0, 0].item() == pytest.approx(0.4)
    assert refinement.adaptive_margin(tensor([[-9.0, 9.0]]))[0].tolist() == pytest.approx([0.1, 0.8])


def test_decoupling_margin_by_hand() -> None:
    """Gaps to the best other modality: 2 - 1.5 and -1 - 0; equal weights ask for 2 times .4."""
    logits = tensor([[[2.0, 1.5], [0.0, -1.0]]])
    weights, present = torch.full((1, 2), 0.5), torch.ones(1, 2, dtype=torch.bool)
    found = refinement.decoupling_margin(logits, weights, present)
    assert found.item() == pytest.approx((0.3 + 1.8) / 2)
    assert refinement.decoupling_margin(logits * tensor([9.0, 0.0]), weights, present)[None].item() == pytest.approx(
        (0 + 0.8) / 2
    )
    # Who contributes everything must be 2 * .4 * 1.5 apart, who contributes nothing 2 * .4 * .5.
    found = refinement.decoupling_margin(logits, tensor([[1.0, 0.0]]), present)
    assert found.item() == pytest.approx((0.7 + 1.4) / 2)
    present[0, 1] = False
    assert refinement.decoupling_margin(logits, weights, present).item() == pytest.approx(0.3)


def test_decoupling_margin_looks_at_the_best_of_the_others() -> None:
    logits = tensor([[[1.0, 0.9, -5.0], [9.0, 0.0, 0.0], [0.0, 0.0, 9.0]]])
    found = refinement.decoupling_margin(logits, torch.full((1, 3), 1 / 3), torch.ones(1, 3, dtype=torch.bool))
    assert found.item() == pytest.approx((0.7 + 9.8 + 0) / 3)


def test_multimodal_margin_is_zero_where_it_is_kept_or_weighs_nothing() -> None:
    fused, alone = tensor([0.2]), tensor([[1.0, 1.0]])
    weights, present = tensor([[0.9, 0.1]]), torch.ones(1, 2, dtype=torch.bool)
    assert refinement.multimodal_margin(fused, alone, weights, present) == 0
    worse = refinement.multimodal_margin(tensor([1.5]), alone, weights, present)
    expected = ((1.5 - 1 + 0.1 * 0.1) * 2 * 0.9 + (1.5 - 1 + 0.1 * 0.9) * 2 * 0.1) / 2
    assert worse.item() == pytest.approx(expected)
    assert refinement.multimodal_margin(tensor([1.5]), alone, weights * 0, present) == 0


# --- codes


def test_each_modality_is_standardised_by_itself() -> None:
    raw = draws(50, 3, 4) * tensor([1.0, 2.0, 5.0])[:, None] + tensor([0.0, 3.0, -1.0])[:, None]
    present = torch.ones(50, 3, dtype=torch.bool)
    present[10:, 1] = False
    code = Standardised(3, 4).train()(raw, present)
    for m, rows in enumerate((50, 10, 50)):
        mean, variance = raw[:rows, m].mean(0), raw[:rows, m].var(0, unbiased=False)
        torch.testing.assert_close(code[:, m], (raw[:, m] - mean) / (variance + 1e-3).sqrt(), rtol=1e-4, atol=1e-4)


def test_all_modalities_are_standardised_together() -> None:
    raw = draws(50, 3, 4) * tensor([1.0, 2.0, 5.0])[:, None] + tensor([0.0, 3.0, -1.0])[:, None]
    present = torch.ones(50, 3, dtype=torch.bool)
    present[10:, 1] = False
    rows = raw[present]
    expected = (raw - rows.mean(0)) / (rows.var(0, unbiased=False) + 1e-3).sqrt()
    torch.testing.assert_close(Standardised(None, 4).train()(raw, present), expected, rtol=1e-4, atol=1e-4)


def test_evaluation_standardises_by_what_is_remembered() -> None:
    part, train, other = Standardised(3, 4), draws(50, 3, 4) * 3 + 1, draws(6, 3, 4, seed=1)
    assert torch.equal(part.eval()(other, HERE), other / math.sqrt(1.001))  # before anything was
    part.train()(train, torch.ones(50, 3, dtype=torch.bool))
    assert torch.equal(part.eval()(other, HERE), other / math.sqrt(1.001))  # training leaves no trace
    part.remember(train, torch.ones(50, 3, dtype=torch.bool))
    expected = (other - train.mean(0)) / (train.var(0, unbiased=False) + 1e-3).sqrt()
    torch.testing.assert_close(part(other, HERE), expected)
    torch.testing.assert_close(part(other[:1], HERE[:1] & False), expected[:1])  # whoever else is in the batch


def test_statistics_of_no_code_and_of_one() -> None:
    raw, present = draws(6, 3, 4).requires_grad_(), HERE.clone()
    present[:, 0] = present[1:, 1] = False
    code = Standardised(3, 4).train()(raw, present)
    assert code.isfinite().all()
    assert code[0, 1].eq(0).all()  # the one sample is its own mean
    assert torch.autograd.grad(code[present].square().sum(), raw)[0].isfinite().all()


def test_imputed_codes_are_weighted_means_of_present_ones() -> None:
    """Weights .5, .3, .2; audio alone, text and vision, and nothing at all."""
    part = Absent(3, 2, 1, impute=True)
    nn.init.normal_(part.offset)
    nn.init.normal_(part.token)
    codes = Codes(draws(4, 3, 5), draws(4, 3, 2), draws(4, 3, 1))
    masks = tensor([[False, True, False], [True, False, True], [False, False, False]])
    found = part(codes, masks.unsqueeze(1).expand(3, 4, 3), tensor([0.5, 0.3, 0.2]))
    shared, private = found[..., :6].unflatten(2, (3, 2)), found[..., 6:].unflatten(2, (3, 1))
    s = codes.shared
    torch.testing.assert_close(shared[0], torch.stack([s[:, 1] + part.offset[0], s[:, 1], s[:, 1] + part.offset[2]], 1))
    torch.testing.assert_close(shared[1, :, 1], (0.5 * s[:, 0] + 0.2 * s[:, 2]) / 0.7 + part.offset[1])
    torch.testing.assert_close(shared[2], part.offset.expand(4, 3, 2))
    assert torch.equal(private[1, :, 1], part.token[1].expand(4, 1))
    assert torch.equal(private[1, :, 2], codes.private[:, 2])


def test_contribution_follows_who_predicts_well() -> None:
    contribution = Contribution(3)
    errors, present = tensor([[0.1, 1.0, 2.0]]).expand(16, 3), torch.ones(16, 3, dtype=torch.bool)
    for _ in range(50):
        contribution.remember(errors, present)
    weights = contribution(errors.clone().requires_grad_(), present)
    assert weights.sum(1).tolist() == pytest.approx([1.0] * 16)
    assert weights[0, 0] > weights[0, 1] > weights[0, 2]
    assert not weights.requires_grad
    present[:, 0] = False
    assert contribution(errors, present)[:, 0].eq(0).all()
    assert contribution(errors, present).sum(1).tolist() == pytest.approx([1.0] * 16)
    assert contribution(errors, present & False).eq(0).all()


def test_contribution_by_hand() -> None:
    r = torch.softmax(tensor([-0.2, -0.6]) / 0.5, 0)
    found = Contribution(2)(tensor([[0.2, 0.6]]), torch.ones(1, 2, dtype=torch.bool))
    torch.testing.assert_close(found[0], (r + 0.5) / 2)


def test_a_twentieth_of_a_batch_goes_into_the_running_contribution() -> None:
    """The second modality is there in one of two samples: its mean is over that one; the third never is, and stays."""
    contribution = Contribution(3)
    present, errors = tensor([[True, True, False], [True, False, False]]), tensor([[0.1, 0.6, 0.0], [0.3, 0.0, 0.0]])
    contribution.remember(errors, present)
    first, second = torch.softmax(tensor([-0.1, -0.6]) / 0.5, 0).tolist()
    mean = tensor([(first + 1) / 2, second, 1 / 3])
    running = 0.95 / 3 + 0.05 * mean / mean.sum()
    torch.testing.assert_close(contribution.running, running)
    both = tensor([first + running[0], second + running[1], 0.0])
    weights = contribution(errors, present)
    torch.testing.assert_close(weights, torch.stack([both / both.sum(), tensor([1.0, 0.0, 0.0])]))
    torch.testing.assert_close(contribution.running, running)  # asking changes nothing


def test_uniform_contributions_of_what_is_there() -> None:
    present = tensor([[1, 1, 0], [0, 0, 1], [0, 0, 0]]).bool()
    assert uniform_contribution(present).tolist() == [[0.5, 0.5, 0], [0, 0, 1], [0, 0, 0]]


# --- the referee


def test_the_bank_keeps_the_last_sixteen_batches_in_their_order() -> None:
    """Of different sizes: rows beyond a batch are not there."""
    referee = Referee(3, 2)
    for number in range(20):
        samples = {17: 4, 18: 5}.get(number, 3)
        present = torch.ones(samples, 3, dtype=torch.bool)
        present[0, 1] = False
        referee.learn(torch.full((samples, 3, 2), float(number)), present)
    assert referee.bank[:, 0, 0, 0].tolist() == list(range(4, 20))
    assert referee.filled[:, :, 0].sum(1).tolist() == [3] * 13 + [4, 5, 3]
    assert not referee.filled[:, 0, 1].any()
    assert referee.steps == 80


def test_the_referee_learns_as_adam_does() -> None:
    torch.manual_seed(0)
    referee, twin = Referee(3, 4), Referee(3, 4)
    twin.load_state_dict(referee.state_dict())
    learning = twin.layers.requires_grad_()
    adam = torch.optim.Adam(learning.parameters(), lr=3e-3)
    batches = [(draws(6, 3, 4, seed=n), draws(6, 3, seed=50 + n) > -1) for n in range(18)]
    for number, batch in enumerate(batches):
        referee.learn(*batch)
        remembered = batches[max(number - 15, 0) : number + 1]
        for _ in range(4):
            losses = torch.cat(
                [-learning(codes).log_softmax(2).diagonal(dim1=1, dim2=2)[there] for codes, there in remembered]
            )
            adam.zero_grad()
            losses.mean().backward()
            adam.step()
    for found, expected in zip(referee.layers.parameters(), learning.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
        assert not found.requires_grad


def test_the_referee_tells_modalities_that_can_be_told() -> None:
    torch.manual_seed(0)
    referee, present = Referee(3, 4), torch.ones(32, 3, dtype=torch.bool)
    for number in range(100):
        referee.learn(draws(32, 3, 4, seed=number) * tensor([0.2, 1.0, 5.0])[:, None], present)
    said = referee(draws(200, 3, 4, seed=-1) * tensor([0.2, 1.0, 5.0])[:, None]).argmax(2)
    assert (said == torch.arange(3)).float().mean() > 0.8


def test_what_the_referee_knows_is_in_a_checkpoint() -> None:
    """A fit that goes on goes on with the same bank and the same moments: one more step is the same."""
    torch.manual_seed(0)
    referee, present = Referee(3, 4), torch.ones(6, 3, dtype=torch.bool)
    for number in range(3):
        referee.learn(draws(6, 3, 4, seed=number), present)
    loaded = Referee(3, 4)
    loaded.load_state_dict(referee.state_dict())
    for each in (referee, loaded):
        each.learn(draws(5, 3, 4, seed=9), present[:5])
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in referee.state_dict().items())


# --- the losses of the whole method


def test_every_loss_of_a_batch_by_hand() -> None:
    method, batch = make().eval(), batch_of()
    batch.available[0, 1] = batch.available[1] = False
    here, target = batch.available, batch.target
    losses = {name: value.item() for name, (value, _) in method.training_losses(batch).items()}
    codes = method.codes(method.backbone.encode(batch), here)
    shared, own = codes.shared, codes.private
    method.contribution.running.copy_(torch.full((3,), 1 / 3))

    def both(m: int) -> Tensor:
        return torch.cat([shared[:, m], own[:, m]], 1)

    def mean(values: list[Tensor]) -> float:
        return torch.stack(values, 1)[here].mean().item()

    alone = [(method.alone[m](both(n)).squeeze(1) - target).abs() for n, m in enumerate(method.dims)]
    assert losses["unimodal"] == pytest.approx(mean(alone), rel=1e-5)
    single = [(method.from_each_shared(shared[:, n]).squeeze(1) - target).abs() for n in range(3)]
    assert losses["single_shared"] == pytest.approx(mean(single), rel=1e-5)
    filled = method._filled(codes, here.unsqueeze(0))[0, :, :24]
    together = method.from_all_shared(filled).squeeze(1)
    assert losses["joint_shared"] == pytest.approx((together - target).abs().mean().item(), rel=1e-5)
    decoded = [(method.decode[m](both(n)) - codes.vectors[:, n]).square().mean(1) for n, m in enumerate(method.dims)]
    assert losses["reconstruction"] == pytest.approx(mean(decoded), rel=1e-5)
    terms = method.recognise(own).log_softmax(2).diagonal(dim1=1, dim2=2)
    assert losses["private_recognition"] == pytest.approx(-terms[here].mean().item(), rel=1e-5)
    confused = refinement.confusion(method.referee(shared), here)
    assert losses["guidance"] == pytest.approx(confused.item(), rel=1e-5)
    overlap = [cross_correlation(shared[:, n], own[:, n], here[:, n]) for n in range(3)]
    assert losses["disparity"] == pytest.approx(torch.stack(overlap).mean().item(), rel=1e-5)
    assert losses["energy"] == pytest.approx(refinement.energy_distance(shared, here).item(), rel=1e-5)

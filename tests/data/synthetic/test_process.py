"""The process behind synthetic corpora is as stated, and its posterior and best decisions are right."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from mer_lightning.data.catalogue import lookup
from mer_lightning.data.synthetic import bayes as synthetic_bayes
from mer_lightning.data.synthetic.bayes import bayes_scores, label_posterior
from mer_lightning.data.synthetic.labels import Exclusive, Independent
from mer_lightning.data.synthetic.process import (
    Evidence,
    Process,
    draw_carrying,
    draw_evidence,
    draw_frames,
    draw_lengths,
)
from mer_lightning.data.synthetic.twins import SHAPES
from mer_lightning.evaluation.metrics import evaluate
from mer_lightning.modalities import COMBINATIONS, combination_present

MANY = 20_000
PROCESS = Process()


def drawn(rule, samples=MANY, seed=0):
    """(labels, evidence, who contradicts) of the process, without frames."""
    latent, evidence, contradicting = draw_evidence(PROCESS, samples, rule.latent_dims, np.random.default_rng(seed))
    return rule.labels(latent), evidence, contradicting


@pytest.fixture(scope="module")
def sentiment():
    """(labels, evidence, contradicting) of many MOSI-shaped samples."""
    return drawn(SHAPES["mosi"].rule())


# The posterior


@pytest.mark.parametrize("combination", ["t", "av", "tav"])
def test_posterior_is_what_weighted_draws_from_the_process_say(combination):
    """Draw latents from the prior, weight them by how well they explain the evidence: slow, and obviously right."""
    process = Process(shared_noise=(1.0, 1.5, 2.0), private_noise=(1.0, 1.3, 1.6), noise_levels=(0.8, 1.0, 1.5))
    rule, random = SHAPES["mosi"].rule(), np.random.default_rng(5)
    _, evidence, contradicting = draw_evidence(process, 60, 1, random)
    exact = label_posterior(process, rule, evidence, combination)

    draws = 400_000
    common, own = random.standard_normal(draws), random.standard_normal((draws, 3))
    latent = np.sqrt(process.shared) * common + own @ np.sqrt(process.private)
    latent += np.sqrt(process.unexplained) * random.standard_normal(draws)
    labels = np.searchsorted(rule.values, rule.labels(latent[:, None]))
    who = random.choice(4, draws, p=[0.85, *(0.15 * np.array(process.contradicting_odds))]) - 1
    for i in np.flatnonzero((contradicting >= 0) | (np.arange(60) < 4))[:8]:
        log_weight = np.zeros(draws)
        for m in np.flatnonzero(combination_present(combination)):
            sign, level = np.where(who == m, -1, 1), evidence.level[i, m]
            shared_noise, private_noise = level * process.shared_noise[m], level * process.private_noise[m]
            log_weight -= ((evidence.shared[i, m, 0] - sign * common) / shared_noise) ** 2 / 2
            log_weight -= ((evidence.private[i, m, 0] - sign * own[:, m]) / private_noise) ** 2 / 2
            log_weight -= (evidence.cue[i, m] - process.cue * (who == m)) ** 2 / 2
        weight = np.exp(log_weight - log_weight.max())
        estimate = np.bincount(labels, weight) / weight.sum()
        effective = weight.sum() ** 2 / (weight**2).sum()
        assert effective > 500
        assert np.abs(estimate.cumsum() - exact[i].cumsum()).max() < 2 / np.sqrt(effective)


@pytest.mark.parametrize("combination", COMBINATIONS)
def test_posterior_is_calibrated(sentiment, combination):
    """What it expects of itself is what comes true: probability of the truth, and error of the median."""
    labels, evidence, _ = sentiment
    rule = SHAPES["mosi"].rule()
    posterior = label_posterior(PROCESS, rule, evidence, combination)
    assert posterior.sum(1) == pytest.approx(1)
    truth = posterior[np.arange(MANY), np.searchsorted(rule.values, labels - 1e-9)]
    assert truth.mean() == pytest.approx((posterior**2).sum(1).mean(), abs=0.002)
    median = rule.values[(posterior.cumsum(1) < 0.5).sum(1)]
    expected = (posterior * np.abs(rule.values - median[:, None])).sum(1).mean()
    assert np.abs(labels - median).mean() == pytest.approx(expected, abs=0.015)
    for sure in (0.2, 0.5, 0.8):
        positive = posterior[:, rule.values > 0].sum(1)
        near = np.abs(positive - sure) < 0.05
        assert (labels[near] > 0).mean() == pytest.approx(positive[near].mean(), abs=0.06)


def test_probabilities_of_classes_against_draws():
    random = np.random.default_rng(0)
    mean, deviation = np.array([0.3, -0.5, 0.9]), np.array(0.7)
    latent = mean + deviation * random.standard_normal((400_000, 3))
    rule = Exclusive(np.array([0.2, 0.5, 0.3]))
    shares = np.bincount(rule.labels(latent)) / len(latent)
    assert rule.probabilities(mean, deviation) == pytest.approx(shares, abs=0.003)
    rule = Independent(np.array([0.2, 0.5, 0.3]))
    assert rule.probabilities(mean, deviation) == pytest.approx(rule.labels(latent).mean(0), abs=0.003)


def test_class_posterior_is_calibrated():
    rule = SHAPES["iemocap4"].rule()
    labels, evidence, _ = drawn(rule, 4000)
    for combination in ("v", "ta", "tav"):
        posterior = label_posterior(PROCESS, rule, evidence, combination)
        truth = posterior[np.arange(4000), labels]
        assert truth.mean() == pytest.approx((posterior**2).sum(1).mean(), abs=0.012)
        assert (posterior.argmax(1) == labels).mean() == pytest.approx(posterior.max(1).mean(), abs=0.02)


# The best decisions


def test_each_regression_metric_has_its_own_best_decision():
    rule = SHAPES["mosi"].rule()
    rule.values = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    posterior = np.array([[0.40, 0.05, 0.06, 0.45, 0.04], [0.31, 0.15, 0.14, 0.10, 0.30]])
    found = synthetic_bayes._regression(posterior, np.array([1.0, -1.0]), rule)
    # Both medians are 0 and both samples are likelier >= 0 than not, yet the first is likelier positive than negative
    # and the second negative; the likeliest bins are 1 and -2; the means are -.32 and -.07.
    assert found == {"mae": 1.0, "corr": pytest.approx(-1.0), "non0_acc2": 1.0, "has0_acc2": 0.5, "acc7": 0.5}


def test_no_other_threshold_reaches_a_better_micro_f1():
    rule = SHAPES["mosei_emotions"].rule()
    target, evidence, _ = drawn(rule)
    posterior = label_posterior(PROCESS, rule, evidence, "ta")
    found = synthetic_bayes._multi_label(posterior, target, rule)["micro_f1"]
    by_threshold = [f1_score(target, posterior > t, average="micro") for t in np.arange(0.1, 0.7, 0.05)]
    assert max(by_threshold) - 0.001 < found < max(by_threshold) + 0.003
    assert found > f1_score(target, posterior > 0.5, average="micro") + 0.01


def test_decisions_for_class_metrics_beat_the_likeliest_class_where_it_is_not_the_best():
    rule = Exclusive(np.array([0.7, 0.2, 0.1]))
    target, evidence, _ = drawn(rule)
    posterior = label_posterior(PROCESS, rule, evidence, "v")
    found = synthetic_bayes._single_label(posterior, target, rule)
    likeliest = posterior.argmax(1)
    recalls = np.mean([(likeliest == c)[target == c].mean() for c in range(3)])
    assert found["wa"] == (likeliest == target).mean()
    assert found["ua"] > recalls + 0.1
    assert found["wf1"] > f1_score(target, likeliest, average="weighted") + 0.005


def test_scores_are_those_that_the_evaluation_gives_to_the_same_decisions():
    def evaluated(name, decisions, target):
        return evaluate(lookup(name).task, torch.from_numpy(decisions), torch.from_numpy(target))

    rule = SHAPES["mosi"].rule()
    target, evidence, _ = drawn(rule, 500)
    posterior = label_posterior(PROCESS, rule, evidence, "ta")
    found = bayes_scores(PROCESS, lookup("mosi").task, rule, evidence, target)["ta"]
    positive, negative = posterior[:, rule.values > 0].sum(1), posterior[:, rule.values < 0].sum(1)
    bins = np.arange(-3, 4)
    likeliest = bins[(posterior @ (np.rint(rule.values)[:, None] == bins)).argmax(1)]
    for metric, decisions in {
        "mae": rule.values[(posterior.cumsum(1) < 0.5).sum(1)],
        "corr": posterior @ rule.values,
        "non0_acc2": positive - negative,
        "has0_acc2": 0.5 - negative,
        "acc7": likeliest.astype(float),
    }.items():
        assert found[metric] == pytest.approx(evaluated("mosi", decisions[:, None], target)[metric], abs=1e-6)

    rule = SHAPES["iemocap4"].rule()
    target, evidence, _ = drawn(rule, 500)
    posterior = label_posterior(PROCESS, rule, evidence, "ta")
    found = bayes_scores(PROCESS, lookup("iemocap4").task, rule, evidence, target)["ta"]
    assert found["wa"] == pytest.approx(evaluated("iemocap4", np.log(posterior), target)["wa"])
    usual = np.array([1636, 1084, 1708, 1103]) / 5531
    assert found["ua"] == pytest.approx(evaluated("iemocap4", np.log(posterior / usual), target)["ua"])
    best = synthetic_bayes._best_for_weighted_f1(posterior)
    assert found["wf1"] == pytest.approx(evaluated("iemocap4", best, target)["wf1"])


# The process


def test_more_modalities_are_better_and_text_is_best(sentiment):
    labels, evidence, _ = sentiment
    scores = bayes_scores(PROCESS, lookup("mosi").task, SHAPES["mosi"].rule(), evidence, labels)
    mae = {combination: score["mae"] for combination, score in scores.items()}
    for one, more in (("t", "ta"), ("t", "tv"), ("a", "ta"), ("a", "av"), ("v", "tv"), ("v", "av"), ("ta", "tav")):
        assert mae[more] < mae[one] - 0.05, (one, more)
    assert mae["tav"] < min(mae["tv"], mae["av"]) - 0.05
    assert mae["t"] < mae["a"] - 0.1 < mae["v"] - 0.15
    constant = np.abs(labels - np.median(labels)).mean()
    assert mae["v"] < constant - 0.2
    assert mae["tav"] < 0.72 * mae["t"]  # fusion matters
    assert scores["tav"]["non0_acc2"] > scores["t"]["non0_acc2"] + 0.06


def test_emotion_scores_are_ordered_too():
    rule = SHAPES["iemocap4"].rule()
    labels, evidence, _ = drawn(rule, 3000)
    wa = {k: v["wa"] for k, v in bayes_scores(PROCESS, lookup("iemocap4").task, rule, evidence, labels).items()}
    assert wa["tav"] - 0.02 > wa["ta"] > wa["tv"] > wa["t"] > wa["a"] + 0.03 > wa["v"] + 0.05 > 0.45


def test_contradiction_is_as_stated(sentiment):
    labels, evidence, contradicting = sentiment
    assert (contradicting >= 0).mean() == pytest.approx(PROCESS.contradicting, abs=0.008)
    odds = np.bincount(contradicting[contradicting >= 0]) / (contradicting >= 0).sum()
    assert odds == pytest.approx(PROCESS.contradicting_odds, abs=0.03)
    for m in range(3):
        against = contradicting == m
        toward = np.corrcoef(evidence.shared[~against, m, 0], labels[~against])[0, 1]
        assert np.corrcoef(evidence.shared[against, m, 0], labels[against])[0, 1] == pytest.approx(-toward, abs=0.06)
        assert np.corrcoef(evidence.private[against, m, 0], labels[against])[0, 1] < -0.1
        shift = evidence.cue[against, m].mean() - evidence.cue[~against, m].mean()
        assert shift == pytest.approx(PROCESS.cue, abs=0.12)


def test_private_views_know_nothing_of_each_other(sentiment):
    """Private information is in one modality only; the shared views agree with each other."""
    _, evidence, contradicting = sentiment
    agree = contradicting < 0
    private = np.corrcoef(evidence.private[agree, :, 0].T)
    shared = np.corrcoef(evidence.shared[agree, :, 0].T)
    off = ~np.eye(3, dtype=bool)
    assert np.abs(private[off]).max() < 0.03
    assert shared[off].min() > 0.5
    across = np.corrcoef(evidence.private[agree, :, 0].T, evidence.shared[agree, :, 0].T)[:3, 3:]
    assert np.abs(across).max() < 0.03


@pytest.mark.parametrize("aligned", [True, False])
def test_the_frames_hold_the_evidence(aligned):
    """Who knows which frames carry it reads it off them linearly, and then is nearly as good as the bound."""
    shape, half = SHAPES["mosi"], 2000
    random, rule = np.random.default_rng(3), shape.rule()
    latent, evidence, _ = draw_evidence(PROCESS, 2 * half, 1, random)
    labels = rule.labels(latent)
    lengths = draw_lengths(2 * half, shape.words, (50, 50, 50) if aligned else shape.unaligned, aligned, random)
    read = []
    for m in range(3):
        carries = draw_carrying(PROCESS, lengths[m], random)
        coordinates, groups = evidence.coordinates(PROCESS, m), np.arange(2 * half) // 24
        frames = draw_frames(PROCESS, coordinates, lengths[m], groups, carries, shape.dims[m], random)
        sample = np.repeat(np.arange(2 * half), lengths[m])[carries]
        firsts = np.searchsorted(sample, np.arange(2 * half))
        mean = np.add.reduceat(frames[carries], firsts) / np.bincount(sample)[:, None]
        inputs = np.column_stack([mean, np.ones(2 * half)])
        estimate = inputs @ np.linalg.lstsq(inputs[:half], coordinates[:half], rcond=None)[0]
        error = ((estimate - coordinates)[half:] ** 2).mean(0) / coordinates[half:].var(0)
        assert error.max() < 0.1
        levels = np.log(PROCESS.noise_levels)
        loudness = estimate[:, 3:] * levels.std()
        nearest = np.array(PROCESS.noise_levels)[np.abs(loudness - levels).argmin(1)]
        shared = estimate[:, :1] * np.hypot(1, PROCESS.shared_noise[m])
        private = estimate[:, 1:2] * np.hypot(1, PROCESS.private_noise[m])
        read.append((shared, private, estimate[:, 2], nearest))
    readout = Evidence(*(np.stack(part, axis=1) for part in zip(*read, strict=True)))

    test = np.arange(2 * half) >= half
    for combination in COMBINATIONS:
        bound, reached = (
            np.abs(
                rule.values[(label_posterior(PROCESS, rule, e.rows(test), combination).cumsum(1) < 0.5).sum(1)] - y
            ).mean()
            for e, y in ((evidence, labels[test]), (readout, labels[test]))
        )
        assert bound - 0.01 < reached < 1.1 * bound, combination

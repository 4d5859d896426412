"""The best possible scores on synthetic data: the posterior of the label given the evidence, and the best decisions.

Shapes: N samples, M modalities of a combination, F = M + 1 hypotheses on which modality contradicts the others (none or
one of the M), C latent dimensions, K labels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mer_lightning.data.synthetic.labels import Floats, Graded, LabelRule
from mer_lightning.data.synthetic.process import Evidence, Process
from mer_lightning.modalities import COMBINATIONS, COMPLETE, LETTERS, combination_present
from mer_lightning.tasks import Task


def label_posterior(process: Process, rule: LabelRule, evidence: Evidence, combination: str) -> Floats:
    """(N, K): probabilities of the labels given the evidence of the modalities in ``combination``.

    Under each hypothesis f everything is Gaussian. With lambda_m = (tau_m shared_noise_m)^-2, mu_m the same for the
    private views, and the signs k of the hypothesis f:

        g   | f ~ N(sum_m k_m lambda_m s_m / P, 1 / P),   P = 1 + sum_m lambda_m
        r_m | f ~ N(k_m mu_m p_m / (1 + mu_m), 1 / (1 + mu_m)),   r_m ~ N(0, 1) where m is absent
        log P(f | evidence) = log prior(f) + sum_c (sum_m k_m lambda_m s_mc)^2 / (2 P) + cue q_f - cue^2 / 2 + const

    (the last two terms only if f is a modality). z is a weighted sum of these, so it is a mixture of F Gaussians.
    """
    chosen = np.flatnonzero(combination_present(combination))
    hypotheses = np.vstack([np.ones(len(chosen)), 1 - 2 * np.eye(len(chosen))])  # (F, M) signs

    precision = (evidence.level * process.shared_noise)[:, chosen] ** -2.0
    total = 1 + precision.sum(1)
    summed = np.einsum("fm,nm,nmc->nfc", hypotheses, precision, evidence.shared[:, chosen])
    own_precision = (evidence.level * process.private_noise)[:, chosen] ** -2.0
    own = (own_precision / (1 + own_precision))[:, :, None] * evidence.private[:, chosen]

    odds = process.contradicting * np.array(process.contradicting_odds)[chosen]
    with np.errstate(divide="ignore"):  # a hypothesis that never happens has the weight 0
        log_prior = np.log([1 - odds.sum(), *odds])
    log_weight = log_prior + (summed**2).sum(2) / (2 * total[:, None])
    log_weight[:, 1:] += process.cue * evidence.cue[:, chosen] - process.cue**2 / 2
    weight = np.exp(log_weight - log_weight.max(1, keepdims=True))
    weight /= weight.sum(1, keepdims=True)

    private = np.array(process.private)
    mean = np.sqrt(process.shared) * summed / total[:, None, None]
    mean += np.einsum("m,fm,nmc->nfc", np.sqrt(private[chosen]), hypotheses, own)
    variance = process.shared / total + (private[chosen] / (1 + own_precision)).sum(1)
    variance += process.unexplained + private.sum() - private[chosen].sum()

    deviation = np.repeat(np.sqrt(variance)[:, None], len(hypotheses), axis=1)
    return np.einsum("nf,nfk->nk", weight, rule.probabilities(mean, deviation))


def bayes_scores(
    process: Process, task: Task, rule: LabelRule, evidence: Evidence, target: NDArray[np.float64] | NDArray[np.int64]
) -> dict[str, dict[str, float]]:
    """{combination: {metric: score}} of the best decision for each metric, on these samples."""
    score = _SCORES[task.kind]
    return {
        combination: score(label_posterior(process, rule, evidence, combination), target, rule)
        for combination in COMBINATIONS
    }


def filtered_scores(
    process: Process,
    task: Task,
    rule: LabelRule,
    evidence: Evidence,
    target: NDArray[np.float64] | NDArray[np.int64],
    contradicting: NDArray[np.int64],
) -> dict[str, float]:
    """{metric: score} of the best decisions of who is told which modality contradicts, (N,), -1 for none, and masks it.

    The ceiling of every filter that masks what contradicts. (To turn what is mirrored around again would be better
    still, but that is no filter.)
    """
    nobody = replace(process, contradicting=0.0)
    posterior = label_posterior(nobody, rule, evidence, COMPLETE)
    for number, letter in enumerate(LETTERS):
        here = contradicting == number
        posterior[here] = label_posterior(nobody, rule, evidence.rows(here), COMPLETE.replace(letter, ""))
    return _SCORES[task.kind](posterior, target, rule)


def _regression(posterior: Floats, target: Floats, rule: LabelRule) -> dict[str, float]:
    """Best decisions: the median for mae, the mean for corr, the likelier sign for acc2, the likeliest bin for acc7."""
    assert isinstance(rule, Graded)
    values = rule.values
    median = values[(posterior.cumsum(1) < 0.5).sum(1)]
    negative, positive = posterior[:, values < 0].sum(1), posterior[:, values > 0].sum(1)
    nonzero = target != 0
    bin_of_value = np.rint(values).astype(np.int64)
    bins = np.unique(bin_of_value)
    by_bin = posterior @ (bin_of_value[:, None] == bins)
    return {
        "mae": float(np.abs(median - target).mean()),
        "corr": float(np.corrcoef((posterior * values).sum(1), target)[0, 1]),
        "non0_acc2": float(((positive > negative) == (target > 0))[nonzero].mean()),
        "has0_acc2": float(((negative < 0.5) == (target >= 0)).mean()),
        "acc7": float((bins[by_bin.argmax(1)] == np.rint(target)).mean()),
    }


def _single_label(posterior: Floats, target: NDArray[np.int64], rule: LabelRule) -> dict[str, float]:
    """Best decisions: for wa the likeliest class; for ua the class with the largest ratio of probability to prior.

    For wf1 see `_best_for_weighted_f1`.
    """
    prior = rule.probabilities(np.zeros(rule.latent_dims), np.ones(()))
    balanced = (posterior / prior).argmax(1)
    recalls = [(balanced == c)[target == c].mean() for c in np.unique(target)]
    true = np.eye(rule.latent_dims)[target]
    return {
        "wa": float((posterior.argmax(1) == target).mean()),
        "ua": float(np.mean(recalls)),
        "wf1": float(true.mean(0) @ f1(true, _best_for_weighted_f1(posterior))),
    }


def _best_for_weighted_f1(posterior: Floats) -> Floats:
    """(N, K) decisions of 0 and 1 such that no change of one decision improves the expected weighted F1.

    Weighted F1 is sum_c n_c F_c / N with F_c = 2 TP_c / D_c, D_c = predicted_c + n_c. One more prediction of c changes
    it by 2 n_c / (N D_c) (p_c - F_c / 2). Each sample gets the class for which this is largest, again and again,
    beginning with the likeliest class.
    """
    classes = np.eye(posterior.shape[1])
    decided = classes[posterior.argmax(1)]
    for _ in range(20):
        gain = posterior.sum(0) / (decided.sum(0) + posterior.sum(0)) * (posterior - f1(posterior, decided) / 2)
        decided = classes[gain.argmax(1)]
    return decided


def f1(true: Floats, decided: Floats) -> Floats:
    """(K,) F1 of each class. If ``true`` holds probabilities, it is the F1 of the expected counts."""
    return 2 * (true * decided).sum(0) / (true.sum(0) + decided.sum(0))


def _multi_label(posterior: Floats, target: NDArray[np.int64], rule: LabelRule) -> dict[str, float]:
    """Best decisions: all classes whose probability exceeds half of the largest micro-F1 that can be reached.

    The threshold comes from the posterior alone: F(t) = 2 E[p; p > t] / (E[1; p > t] + E[p]), largest over t.
    """
    ranked = np.sort(posterior.ravel())[::-1]
    expected = 2 * ranked.cumsum() / (np.arange(1, len(ranked) + 1) + ranked.sum())
    decided = posterior > expected.max() / 2
    return {"micro_f1": float(2 * (decided & (target == 1)).sum() / (decided.sum() + target.sum()))}


_SCORES: dict[str, Callable[..., dict[str, float]]] = {
    "regression": _regression,
    "single_label": _single_label,
    "multi_label": _multi_label,
}

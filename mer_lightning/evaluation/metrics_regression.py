"""Metrics of sentiment intensity: t is the truth and p the prediction, (N,) float64 over the whole split.

Papers cut the same numbers into classes in different ways, and each way has its own column. The names without a
prefix follow MMSA, which most papers of this field use.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mer_lightning.evaluation.classification import accuracy, count_two, weighted_f1
from mer_lightning.evaluation.metric_info import MetricInfo, MetricInput
from mer_lightning.tasks import Regression

_SIMS_LIMIT, _MOSI_LIMIT = 1.0, 3.0


def columns(task: Regression) -> dict[str, MetricInfo]:
    """Those of SIMS for labels within 1, those of MOSI and MOSEI within 3.

    On any other scale, classes and signs of these corpora would mean something else: there are errors alone.
    """
    if task.limit == _SIMS_LIMIT:
        return _sims()
    mosi = _mosi()
    return mosi if task.limit == _MOSI_LIMIT else {name: mosi[name] for name in ("mae", "corr")}


def mean_absolute_error(t: Tensor, p: Tensor) -> Tensor:
    """(1/N) sum_i |p_i - t_i|"""
    return (p - t).abs().mean()


def pearson(t: Tensor, p: Tensor) -> Tensor:
    """<t - mean t, p - mean p> / (||t - mean t|| ||p - mean p||); NaN where t or p is constant.

    Constant vectors are recognised before the division: the mean of equal numbers can differ from them by a rounding
    error, and the quotient of two such errors looks like a correlation.
    """
    if len(t) == 0 or _constant(t) or _constant(p):
        return t.new_tensor(float("nan"))
    t, p = t - t.mean(), p - p.mean()
    return (t @ p / (t.norm() * p.norm())).clamp(-1, 1)


def concordance(t: Tensor, p: Tensor) -> Tensor:
    """2 cov(t, p) / (var t + var p + (mean t - mean p)^2), with 1/N in variances and covariance (Lin, 1989).

    0 where t or p is constant, and NaN where both are the same constant: 0 / 0. As for :func:`pearson`, constant
    vectors are recognised before the division.
    """
    if len(t) == 0 or ((t == t[0]).all() and (p == t[0]).all()):
        return t.new_tensor(float("nan"))
    if _constant(t) or _constant(p):
        return t.new_zeros(())
    centred_t, centred_p = t - t.mean(), p - p.mean()
    spread = centred_t @ centred_t + centred_p @ centred_p + len(t) * (t.mean() - p.mean()) ** 2
    return 2 * (centred_t @ centred_p) / spread


def _constant(x: Tensor) -> bool:
    return bool((x == x[0]).all())


def rounded_accuracy(t: Tensor, p: Tensor, limit: int) -> Tensor:
    """Share of round(clip(p)) = round(clip(t)), both clipped to [-limit, limit] and rounded half to even.

    2 limit + 1 classes. Clipping both sides lets a prediction beyond the scale match its end.
    """
    return accuracy(t.clamp(-limit, limit).round(), p.clamp(-limit, limit).round())


def classes_between(x: Tensor, cuts: tuple[float, ...]) -> Tensor:
    """(N,) class k of x with cuts[k-1] < x <= cuts[k]: a value on a cut falls below it.

    Labels are float32, so cuts are rounded to float32 too: float32(.1) lies above the float64 number .1.
    """
    return torch.bucketize(x, torch.tensor(cuts, dtype=torch.float32).to(x))


def _mosi() -> dict[str, MetricInfo]:
    def all_samples(x: MetricInput) -> tuple[Tensor, Tensor]:
        return x.truth, x.decision

    def nonzero(x: MetricInput) -> tuple[Tensor, Tensor]:
        kept = x.truth != 0
        return x.truth[kept], x.decision[kept]

    def has0(x: MetricInput) -> tuple[Tensor, Tensor]:
        return x.truth >= 0, x.decision >= 0

    def non0(x: MetricInput) -> tuple[Tensor, Tensor]:
        t, p = nonzero(x)
        return t > 0, p > 0

    def mag(x: MetricInput) -> tuple[Tensor, Tensor]:
        t, p = nonzero(x)
        return t >= 0, p >= 0

    def rounded(limit: int, headline: bool = False) -> MetricInfo:
        return MetricInfo(
            f"Acc-{2 * limit + 1}",
            f"share of round(clip(p)) = round(clip(t)), clip to {limit}, half to even",
            "MMSA",
            lambda x: rounded_accuracy(x.truth, x.decision, limit),
            headline=headline,
        )

    def f1(x: MetricInput) -> Tensor:
        return weighted_f1(count_two(*non0(x)))

    def f1_swapped(x: MetricInput) -> Tensor:
        truth, decision = non0(x)
        return weighted_f1(count_two(decision, truth))

    dropped = "samples with t = 0 dropped"
    return {
        "mae": MetricInfo(
            "MAE",
            "mean |p - t|",
            "MMSA",
            lambda x: mean_absolute_error(*all_samples(x)),
            direction="min",
            headline=True,
        ),
        "corr": MetricInfo(
            "Corr", "Pearson correlation of p and t", "MMSA", lambda x: pearson(*all_samples(x)), headline=True
        ),
        "acc7": rounded(3, headline=True),
        "non0_acc2": MetricInfo(
            "Non0 Acc-2",
            f"{dropped}; share of (p > 0) = (t > 0)",
            "MMSA",
            lambda x: accuracy(*non0(x)),
            headline=True,
        ),
        "non0_f1": MetricInfo(
            "Non0 F1", f"{dropped}; F1 of p > 0 against t > 0, weighted by the truth", "MMSA", f1, headline=True
        ),
        "has0_acc2": MetricInfo(
            "Has0 Acc-2", "share of (p >= 0) = (t >= 0)", "MMSA", lambda x: accuracy(*has0(x)), headline=True
        ),
        "has0_f1": MetricInfo(
            "Has0 F1",
            "F1 of p >= 0 against t >= 0, weighted by the truth",
            "MMSA",
            lambda x: weighted_f1(count_two(*has0(x))),
        ),
        "acc5": rounded(2),
        "acc3": rounded(1),
        "mult_acc2_all": MetricInfo(
            "MulT Acc-2",
            "share of (p > 0) = (t > 0): zeros are negative",
            "MulT",
            lambda x: accuracy(x.truth > 0, x.decision > 0),
        ),
        "mult_non0_f1_swapped": MetricInfo(
            "MulT Non0 F1", f"{dropped}; F1 of p > 0 against t > 0, weighted by the prediction", "MulT", f1_swapped
        ),
        "mag_acc2": MetricInfo(
            "MAG Acc-2", f"{dropped}; share of (p >= 0) = (t >= 0)", "MAG-BERT", lambda x: accuracy(*mag(x))
        ),
        "mag_f1": MetricInfo(
            "MAG F1",
            f"{dropped}; F1 of p >= 0 against t >= 0, weighted by the truth",
            "MAG-BERT",
            lambda x: weighted_f1(count_two(*mag(x))),
        ),
        "mag_mae": MetricInfo(
            "MAG MAE",
            f"{dropped}; mean |p - t|",
            "MAG-BERT",
            lambda x: mean_absolute_error(*nonzero(x)),
            direction="min",
        ),
        "mag_corr": MetricInfo(
            "MAG Corr", f"{dropped}; Pearson correlation of p and t", "MAG-BERT", lambda x: pearson(*nonzero(x))
        ),
    }


def _sims() -> dict[str, MetricInfo]:
    def clipped(x: MetricInput) -> tuple[Tensor, Tensor]:
        return x.truth.clamp(-_SIMS_LIMIT, _SIMS_LIMIT), x.decision.clamp(-_SIMS_LIMIT, _SIMS_LIMIT)

    def cut(title: str, cuts: tuple[float, ...]) -> MetricInfo:
        def measure(x: MetricInput) -> Tensor:
            t, p = clipped(x)
            return accuracy(classes_between(t, cuts), classes_between(p, cuts))

        where = ", ".join(f"{value:g}" for value in cuts)
        definition = f"share of equal classes, cut at {where}; a value on a cut falls below it"
        return MetricInfo(title, definition, "MMSA", measure, headline=True)

    def f1(x: MetricInput) -> Tensor:
        t, p = clipped(x)
        return weighted_f1(count_two(t > 0, p > 0))

    return {
        "mae": MetricInfo(
            "MAE",
            "mean |p - t|, both clipped to 1",
            "MMSA",
            lambda x: mean_absolute_error(*clipped(x)),
            direction="min",
            headline=True,
        ),
        "corr": MetricInfo(
            "Corr",
            "Pearson correlation of p and t, both clipped to 1",
            "MMSA",
            lambda x: pearson(*clipped(x)),
            headline=True,
        ),
        "acc2": cut("Acc-2", (0.0,)),
        "f1": MetricInfo("F1", "F1 of p > 0 against t > 0, weighted by the truth", "MMSA", f1, headline=True),
        "acc3": cut("Acc-3", (-0.1, 0.1)),
        "acc5": cut("Acc-5", (-0.7, -0.1, 0.1, 0.7)),
    }

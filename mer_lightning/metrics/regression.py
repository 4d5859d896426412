"""Metrics of sentiment intensity: t is the truth and p the prediction. ``docs/reference/metrics.md`` has more on each.

``update`` takes logits (B, 1) or (B,) and target (B,).
"""

from __future__ import annotations

import math

from mer_lightning.evaluation.metric_info import MetricInput
from mer_lightning.evaluation.metrics_regression import concordance
from mer_lightning.metrics.base import SplitMetric
from mer_lightning.tasks import Regression, Task


class RegressionMetric(SplitMetric):
    """Of labels within -3 and 3: MOSI and MOSEI."""

    def task(self, outputs: int) -> Task:
        return Regression()


class SIMSMetric(SplitMetric):
    """Of labels within -1 and 1: SIMS."""

    def task(self, outputs: int) -> Task:
        return Regression(limit=1.0)


class MAE(RegressionMetric):
    """MAE: mean |p - t|. Convention of MMSA."""

    column = "mae"
    higher_is_better = False


class Pearson(RegressionMetric):
    """Corr: Pearson correlation of p and t. Convention of MMSA."""

    column = "corr"


class Acc7(RegressionMetric):
    """Acc-7: share of round(clip(p)) = round(clip(t)), clip to 3, half to even. Convention of MMSA."""

    column = "acc7"


class Acc5(RegressionMetric):
    """Acc-5: share of round(clip(p)) = round(clip(t)), clip to 2, half to even. Convention of MMSA."""

    column = "acc5"


class Acc3(RegressionMetric):
    """Acc-3: share of round(clip(p)) = round(clip(t)), clip to 1, half to even. Convention of MMSA."""

    column = "acc3"


class Non0Accuracy(RegressionMetric):
    """Non0 Acc-2: samples with t = 0 dropped; share of (p > 0) = (t > 0). Convention of MMSA."""

    column = "non0_acc2"


class Non0F1(RegressionMetric):
    """Non0 F1: samples with t = 0 dropped; F1 of p > 0 against t > 0, weighted by the truth. Convention of MMSA."""

    column = "non0_f1"


class Has0Accuracy(RegressionMetric):
    """Has0 Acc-2: share of (p >= 0) = (t >= 0). Convention of MMSA."""

    column = "has0_acc2"


class Has0F1(RegressionMetric):
    """Has0 F1: F1 of p >= 0 against t >= 0, weighted by the truth. Convention of MMSA."""

    column = "has0_f1"


class MulTAccuracy(RegressionMetric):
    """MulT Acc-2: share of (p > 0) = (t > 0): zeros are negative. Convention of MulT."""

    column = "mult_acc2_all"


class MulTNon0F1Swapped(RegressionMetric):
    """MulT Non0 F1: samples with t = 0 dropped; F1 of p > 0 against t > 0, weighted by the prediction.

    Convention of MulT.
    """

    column = "mult_non0_f1_swapped"


class MAGAccuracy(RegressionMetric):
    """MAG Acc-2: samples with t = 0 dropped; share of (p >= 0) = (t >= 0). Convention of MAG-BERT."""

    column = "mag_acc2"


class MAGF1(RegressionMetric):
    """MAG F1: samples with t = 0 dropped; F1 of p >= 0 against t >= 0, weighted by the truth.

    Convention of MAG-BERT.
    """

    column = "mag_f1"


class MAGMAE(RegressionMetric):
    """MAG MAE: samples with t = 0 dropped; mean |p - t|. Convention of MAG-BERT."""

    column = "mag_mae"
    higher_is_better = False


class MAGPearson(RegressionMetric):
    """MAG Corr: samples with t = 0 dropped; Pearson correlation of p and t. Convention of MAG-BERT."""

    column = "mag_corr"


class CCC(RegressionMetric):
    """Concordance correlation coefficient: 2 cov(t, p) / (var t + var p + (mean t - mean p)^2) (Lin, 1989).

    The measure of AVEC's challenges, of arousal and valence on any scale. Not a column of the tables of results.
    """

    def measure(self, given: MetricInput, task: Task) -> float:
        return math.nan if given.has_nan else float(concordance(given.truth, given.decision))


class SIMSMAE(SIMSMetric):
    """MAE: mean |p - t|, both clipped to 1. Convention of MMSA."""

    column = "mae"
    higher_is_better = False


class SIMSPearson(SIMSMetric):
    """Corr: Pearson correlation of p and t, both clipped to 1. Convention of MMSA."""

    column = "corr"


class SIMSAccuracy(SIMSMetric):
    """Acc-2: share of equal classes, cut at 0; a value on a cut falls below it. Convention of MMSA."""

    column = "acc2"


class SIMSF1(SIMSMetric):
    """F1: F1 of p > 0 against t > 0, weighted by the truth. Convention of MMSA."""

    column = "f1"


class SIMSAcc3(SIMSMetric):
    """Acc-3: share of equal classes, cut at -0.1, 0.1; a value on a cut falls below it. Convention of MMSA."""

    column = "acc3"


class SIMSAcc5(SIMSMetric):
    """Acc-5: share of equal classes, cut at -0.7, -0.1, 0.1, 0.7; a value on a cut falls below it.

    Convention of MMSA.
    """

    column = "acc5"

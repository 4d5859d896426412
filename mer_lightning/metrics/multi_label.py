"""Metrics of any subset of C classes: Y is the set of labels of a sample and P the set predicted.

``update`` takes logits (B, C) and labels (B, C) of 0 and 1. ``docs/reference/metrics.md`` has more on each metric.
"""

from __future__ import annotations

from typing import Any

from mer_lightning.metrics.base import OneClassMetric, SplitMetric, numbered_classes
from mer_lightning.tasks import MultiLabel, Task


class MultiLabelMetric(SplitMetric):
    """Of any subset of as many classes as the model has outputs.

    Args:
        threshold: a class is predicted when its probability exceeds it.
        options: those of ``torchmetrics.Metric``.
    """

    def __init__(self, threshold: float = 0.5, **options: Any) -> None:
        super().__init__(**options)
        self.threshold = threshold

    def task(self, outputs: int) -> Task:
        return MultiLabel(numbered_classes(outputs), self.threshold)


class Jaccard(MultiLabelMetric):
    """Jaccard: mean |Y and P| / |Y or P|, an empty union counts 0. Convention of TAILOR, CDaT."""

    column = "jaccard"


class MicroF1(MultiLabelMetric):
    """Micro F1: F1 of all cells. Convention of TAILOR, CDaT."""

    column = "micro_f1"


class MultiLabelMacroF1(MultiLabelMetric):
    """Macro F1: mean F1 of the classes, 0 for one never true nor predicted. Convention of TAILOR, CDaT."""

    column = "macro_f1"


class GAP(MultiLabelMetric):
    """GAP: average precision of all cells in one ranking, whatever the threshold. Convention of CDaT."""

    column = "gap"


class MultiLabelBinaryAverageAccuracy(MultiLabelMetric):
    """Binary Acc: mean over classes of the share of right answers to 'has it this class?'. Convention of MulT, TBJE."""

    column = "binary_average_acc"


class MultiLabelBinaryAverageF1(MultiLabelMetric):
    """Binary F1: mean over classes of the F1 of yes and no, weighted by the truth. Convention of MulT, TBJE."""

    column = "binary_average_f1"


class MicroPrecision(MultiLabelMetric):
    """Micro P: share of true among predicted cells. Convention of TAILOR, CDaT."""

    column = "micro_p"


class MicroRecall(MultiLabelMetric):
    """Micro R: share of predicted among true cells. Convention of TAILOR, CDaT."""

    column = "micro_r"


class MultiLabelWeightedF1(MultiLabelMetric):
    """Weighted F1: mean F1 of the classes, weighted by how often each is true. Convention of scikit-learn."""

    column = "weighted_f1"


class MeanAveragePrecision(MultiLabelMetric):
    """mAP: mean average precision of the classes that have a positive. Convention of scikit-learn."""

    column = "map"


class BalancedAccuracy(MultiLabelMetric):
    """Balanced Acc: mean balanced accuracy of the classes for which it is defined. Convention of CMU-MultimodalSDK."""

    column = "balanced_acc"


class JaccardEmpty1(MultiLabelMetric):
    """Jaccard, empty 1: mean |Y and P| / |Y or P|, an empty union counts 1. Convention of scikit-learn."""

    column = "jaccard_empty1"


class ExactMatch(MultiLabelMetric):
    """Exact: subset accuracy: share of samples with P = Y. Convention of CDaT."""

    column = "exact"


class HammingLoss(MultiLabelMetric):
    """Hamming: Hamming loss: share of wrong cells. Convention of scikit-learn."""

    column = "hamming"
    higher_is_better = False


class MultiLabelClassAccuracy(OneClassMetric, MultiLabelMetric):
    """Share of right answers to 'is it this class?'. Convention of MulT, TBJE."""

    column = "acc"


class MultiLabelClassF1(OneClassMetric, MultiLabelMetric):
    """F1 of 'it is this class' and 'it is not', weighted by the truth. Convention of MulT, TBJE."""

    column = "f1"


class MultiLabelClassBalancedAccuracy(OneClassMetric, MultiLabelMetric):
    """Mean of the recalls of 'it is this class' and 'it is not'; undefined without either.

    Convention of CMU-MultimodalSDK.
    """

    column = "balanced_acc"

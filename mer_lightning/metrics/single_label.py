"""Metrics of exactly one class out of C. ``docs/reference/metrics.md`` has more on each.

``update`` takes logits (B, C) and class numbers (B,). Some papers exchange the names WA and UA: compare definitions.
"""

from __future__ import annotations

from mer_lightning.metrics.base import OneClassMetric, SplitMetric, numbered_classes
from mer_lightning.tasks import SingleLabel, Task


class SingleLabelMetric(SplitMetric):
    """Of one class out of as many as the model has outputs."""

    def task(self, outputs: int) -> Task:
        return SingleLabel(numbered_classes(outputs))


class WeightedAccuracy(SingleLabelMetric):
    """WA: weighted accuracy: share of right decisions. Convention of IEMOCAP."""

    column = "wa"


class UnweightedAccuracy(SingleLabelMetric):
    """UA: unweighted accuracy: mean recall of the classes. Convention of IEMOCAP."""

    column = "ua"


class WeightedF1(SingleLabelMetric):
    """WF1: mean F1 of the classes, weighted by how often each is true. Convention of IEMOCAP."""

    column = "wf1"


class MacroF1(SingleLabelMetric):
    """Macro F1: mean F1 of the classes that are true or predicted somewhere. Convention of scikit-learn."""

    column = "macro_f1"


class BinaryAverageAccuracy(SingleLabelMetric):
    """Binary Acc: mean over classes of the share of right answers to 'has it this class?'. Convention of MulT, TBJE."""

    column = "binary_average_acc"


class BinaryAverageF1(SingleLabelMetric):
    """Binary F1: mean over classes of the F1 of yes and no, weighted by the truth. Convention of MulT, TBJE."""

    column = "binary_average_f1"


class ClassAccuracy(OneClassMetric, SingleLabelMetric):
    """Share of right answers to 'is it this class?'. Convention of MulT, TBJE."""

    column = "acc"


class ClassF1(OneClassMetric, SingleLabelMetric):
    """F1 of 'it is this class' and 'it is not', weighted by the truth. Convention of MulT, TBJE."""

    column = "f1"


class ClassBalancedAccuracy(OneClassMetric, SingleLabelMetric):
    """Mean of the recalls of 'it is this class' and 'it is not'; undefined without either.

    Convention of CMU-MultimodalSDK.
    """

    column = "balanced_acc"

"""Metrics of exactly one class out of C: truth and decision are (N,) class numbers over the whole split.

Some papers exchange the names WA and UA. Here WA is the accuracy and UA the mean of the recalls, always.
"""

from __future__ import annotations

from torch import Tensor

from mer_lightning.evaluation.classification import Counts, accuracy, f1_scores, recalls, weighted_f1
from mer_lightning.evaluation.metric_info import MetricInfo
from mer_lightning.evaluation.metrics_binary import average_columns, class_columns
from mer_lightning.tasks import SingleLabel


def unweighted_accuracy(counts: Counts) -> Tensor:
    """Mean of the recalls hits_c / positives_c of the classes that occur in the truth: balanced accuracy."""
    return recalls(counts).nanmean()


def macro_f1_occurring(counts: Counts) -> Tensor:
    """Mean of F1_c over the classes that occur in truth or decision, which is scikit-learn's default."""
    return f1_scores(counts)[counts.positives + counts.predicted > 0].mean()


def columns(task: SingleLabel) -> dict[str, MetricInfo]:
    return {
        "wa": MetricInfo(
            "WA",
            "weighted accuracy: share of right decisions",
            "IEMOCAP",
            lambda x: accuracy(x.truth, x.decision),
            headline=True,
        ),
        "ua": MetricInfo(
            "UA",
            "unweighted accuracy: mean recall of the classes",
            "IEMOCAP",
            lambda x: unweighted_accuracy(x.counts),
            headline=True,
        ),
        "wf1": MetricInfo(
            "WF1",
            "mean F1 of the classes, weighted by how often each is true",
            "IEMOCAP",
            lambda x: weighted_f1(x.counts),
            headline=True,
        ),
        "macro_f1": MetricInfo(
            "Macro F1",
            "mean F1 of the classes that are true or predicted somewhere",
            "scikit-learn",
            lambda x: macro_f1_occurring(x.counts),
        ),
        **average_columns(headline=False),
        **class_columns(task.classes),
    }

"""Metrics of any subset of C classes: truth and decision are (N, C) bool over the whole split.

Y is the set of labels of a sample and P the set predicted. A sample without labels is common (15 % of MOSEI's test
split). If none is predicted for it, ``jaccard`` counts 0 and ``jaccard_empty1`` counts 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mer_lightning.evaluation.classification import (
    average_precision,
    balanced_accuracies,
    f1_scores,
    micro_f1,
    micro_precision,
    micro_recall,
    weighted_f1,
)
from mer_lightning.evaluation.metric_info import MetricInfo
from mer_lightning.evaluation.metrics_binary import average_columns, class_columns
from mer_lightning.tasks import MultiLabel

# MulT treats IEMOCAP as four questions of yes or no, and its tables have the averages over them.
_IEMOCAP = {"neutral", "happy", "sad", "angry"}


def jaccard(truth: Tensor, decision: Tensor) -> Tensor:
    """(1/N) sum_i |Y_i and P_i| / max(1, |Y_i or P_i|): an empty union counts 0."""
    union = (truth | decision).sum(1)
    return ((truth & decision).sum(1).double() / union.clamp(min=1)).mean()


def jaccard_empty1(truth: Tensor, decision: Tensor) -> Tensor:
    """(1/N) sum_i |Y_i and P_i| / |Y_i or P_i|, where an empty union counts 1."""
    return jaccard(truth, decision) + (~(truth | decision).any(1)).double().mean()


def subset_accuracy(truth: Tensor, decision: Tensor) -> Tensor:
    """(1/N) sum_i 1[P_i = Y_i]"""
    return (truth == decision).all(1).double().mean()


def hamming_loss(truth: Tensor, decision: Tensor) -> Tensor:
    """(1/NC) sum_ic 1[P_ic != Y_ic]"""
    return (truth != decision).double().mean()


def global_average_precision(truth: Tensor, logits: Tensor) -> Tensor:
    """Average precision of all N x C scores in one ranking. Logits rank as probabilities do, and do not saturate."""
    return average_precision(truth.flatten(), logits.flatten())


def mean_average_precision(truth: Tensor, logits: Tensor) -> Tensor:
    """Mean over the classes that have a positive of the average precision of their N scores."""
    each = [average_precision(y, z) for y, z in zip(truth.T, logits.T, strict=True)]
    return torch.stack(each).nanmean()


def columns(task: MultiLabel) -> dict[str, MetricInfo]:
    return {
        "jaccard": MetricInfo(
            "Jaccard",
            "mean |Y and P| / |Y or P|, an empty union counts 0",
            "TAILOR, CDaT",
            lambda x: jaccard(x.truth, x.decision),
            headline=True,
        ),
        "micro_f1": MetricInfo(
            "Micro F1", "F1 of all cells", "TAILOR, CDaT", lambda x: micro_f1(x.counts), headline=True
        ),
        "macro_f1": MetricInfo(
            "Macro F1",
            "mean F1 of the classes, 0 for one never true nor predicted",
            "TAILOR, CDaT",
            lambda x: f1_scores(x.counts).mean(),
            headline=True,
        ),
        "gap": MetricInfo(
            "GAP",
            "average precision of all cells in one ranking, whatever the threshold",
            "CDaT",
            lambda x: global_average_precision(x.truth, x.logits),
            headline=True,
        ),
        **average_columns(headline={name.lower() for name in task.classes} == _IEMOCAP),
        "micro_p": MetricInfo(
            "Micro P", "share of true among predicted cells", "TAILOR, CDaT", lambda x: micro_precision(x.counts)
        ),
        "micro_r": MetricInfo(
            "Micro R", "share of predicted among true cells", "TAILOR, CDaT", lambda x: micro_recall(x.counts)
        ),
        "weighted_f1": MetricInfo(
            "Weighted F1",
            "mean F1 of the classes, weighted by how often each is true",
            "scikit-learn",
            lambda x: weighted_f1(x.counts),
        ),
        "map": MetricInfo(
            "mAP",
            "mean average precision of the classes that have a positive",
            "scikit-learn",
            lambda x: mean_average_precision(x.truth, x.logits),
        ),
        "balanced_acc": MetricInfo(
            "Balanced Acc",
            "mean balanced accuracy of the classes for which it is defined",
            "CMU-MultimodalSDK",
            lambda x: balanced_accuracies(x.counts).nanmean(),
        ),
        "jaccard_empty1": MetricInfo(
            "Jaccard, empty 1",
            "mean |Y and P| / |Y or P|, an empty union counts 1",
            "scikit-learn",
            lambda x: jaccard_empty1(x.truth, x.decision),
        ),
        "exact": MetricInfo(
            "Exact",
            "subset accuracy: share of samples with P = Y",
            "CDaT",
            lambda x: subset_accuracy(x.truth, x.decision),
        ),
        "hamming": MetricInfo(
            "Hamming",
            "Hamming loss: share of wrong cells",
            "scikit-learn",
            lambda x: hamming_loss(x.truth, x.decision),
            direction="min",
        ),
        **class_columns(task.classes),
    }

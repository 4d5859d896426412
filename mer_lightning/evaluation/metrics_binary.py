"""Each class on its own, as a question of yes or no: the metrics of MulT's IEMOCAP tables.

Samples without a class that are not predicted to have it count as right, so these numbers are high. Compare them with
the constant-predictor floor, and never with WA, UA or WF1.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from mer_lightning.evaluation.classification import Counts, balanced_accuracies, binary_accuracies, binary_weighted_f1
from mer_lightning.evaluation.metric_info import MetricInfo, MetricInput

_VARIANT = "MulT, TBJE"


def average_columns(headline: bool) -> dict[str, MetricInfo]:
    """Means over the classes."""
    return {
        "binary_average_acc": MetricInfo(
            "Binary Acc",
            "mean over classes of the share of right answers to 'has it this class?'",
            _VARIANT,
            lambda x: binary_accuracies(x.counts).mean(),
            headline=headline,
        ),
        "binary_average_f1": MetricInfo(
            "Binary F1",
            "mean over classes of the F1 of yes and no, weighted by the truth",
            _VARIANT,
            lambda x: binary_weighted_f1(x.counts).mean(),
            headline=headline,
        ),
    }


def class_columns(classes: tuple[str, ...]) -> dict[str, MetricInfo]:
    """``<class>_acc``, ``<class>_f1`` and ``<class>_balanced_acc`` of each class."""
    columns: dict[str, MetricInfo] = {}
    for number, name in enumerate(classes):
        columns |= {
            f"{name}_acc": MetricInfo(
                f"{name} Acc",
                f"share of right answers to 'is it {name}?'",
                _VARIANT,
                _of_class(binary_accuracies, number),
            ),
            f"{name}_f1": MetricInfo(
                f"{name} F1",
                f"F1 of '{name}' and 'not {name}', weighted by the truth",
                _VARIANT,
                _of_class(binary_weighted_f1, number),
            ),
            f"{name}_balanced_acc": MetricInfo(
                f"{name} balanced Acc",
                f"mean of the recalls of '{name}' and 'not {name}'; undefined without either",
                "CMU-MultimodalSDK",
                _of_class(balanced_accuracies, number),
            ),
        }
    return columns


def _of_class(measure: Callable[[Counts], Tensor], number: int) -> Callable[[MetricInput], Tensor]:
    return lambda x: measure(x.counts)[number]

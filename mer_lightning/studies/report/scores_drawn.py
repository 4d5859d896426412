"""The scores of one metric as figures need them: turned so that up is better, with references and texts."""

from __future__ import annotations

import math
from collections.abc import Collection

from mer_lightning.numerals import number, spread
from mer_lightning.studies.report.charts import Drawing, short, span
from mer_lightning.studies.report.settings import Setting
from mer_lightning.studies.report.tables import REFERENCES, ShownMetric, scores

LEAST = 0.05  # the least span of an axis of scores
_REACH = 5
NAMES = {column: name for name, column in REFERENCES.items()}
METHOD, OTHER = "method", "other"


def key_of(labels: Collection[str]) -> dict[str, str]:
    """What the marks of methods stand for."""
    return {METHOD: "this method"} | ({OTHER: "the others"} if len(labels) > 1 else {})


class Scores:
    """One metric of a setting by method and condition, turned so that up is better."""

    def __init__(self, setting: Setting, metric: ShownMetric, reach: float = _REACH) -> None:
        """``reach``: spans of the methods, from which on a reference is not drawn to scale."""
        self._reach = reach
        table = scores(setting, metric.name)
        self.metric = metric
        self.sign = -1.0 if metric.lower_is_better else 1.0
        self._cells = {(row["label"], row["condition"]): row for row in table.to_dict("records")}
        first = table.groupby("condition", sort=False).first()
        columns = {name: first[column].astype(float).to_dict() for name, column in REFERENCES.items()}
        self.references = {
            column: columns[name]
            for name, column in REFERENCES.items()
            if not all(map(math.isnan, columns[name].values()))
        }

    def mean(self, label: str, condition: str) -> float:
        cell = self._cells.get((label, condition))
        return math.nan if cell is None else self.sign * cell["mean"]

    def deviation(self, label: str, condition: str) -> float:
        """0 where there is one run."""
        cell = self._cells.get((label, condition))
        return 0.0 if cell is None or math.isnan(cell["std"]) else cell["std"]

    def reference(self, column: str, condition: str) -> float:
        return self.sign * self.references[column].get(condition, math.nan)

    def text(self, label: str, condition: str) -> str:
        cell = self._cells.get((label, condition))
        return "" if cell is None else spread(cell["mean"], cell["std"])

    def span(self, labels: Collection[str], conditions: list[str]) -> tuple[float, float]:
        """Of everything that is drawn: methods with their deviations, and references that are not far from them."""
        values = self._of_methods(labels, conditions)
        near = [column for column in self.references if column not in self.far(labels, conditions)]
        values += [self.reference(column, condition) for column in near for condition in conditions]
        return span(values, LEAST)

    def far(self, labels: Collection[str], conditions: list[str]) -> list[str]:
        """References that would press the methods together: further from them than so many of their own spans.

        They stand in the key with their values instead.
        """
        low, high = span(self._of_methods(labels, conditions), LEAST)
        reach = self._reach * (high - low)
        return [
            column
            for column in self.references
            if any(
                value < low - reach or value > high + reach
                for value in (self.reference(column, condition) for condition in conditions)
            )
        ]

    def _of_methods(self, labels: Collection[str], conditions: list[str]) -> list[float]:
        return [
            self.mean(label, condition) + side * self.deviation(label, condition)
            for label in labels
            for condition in conditions
            for side in (-1, 1)
        ]

    def axis(self, drawing: Drawing) -> None:
        drawing.y_axis({value: short(self.sign * value) for value in drawing.y.ticks()})

    def key(self, labels: Collection[str], conditions: list[str]) -> dict[str, str]:
        """What the lines of a figure stand for; of references that are off its scale also their values."""
        far = self.far(labels, conditions)
        known = [column for column in self.references if any(map(math.isfinite, self._values(column, conditions)))]
        return key_of(labels) | {
            column: self._off_scale(column, conditions) if column in far else NAMES[column] for column in known
        }

    def _values(self, column: str, conditions: list[str]) -> list[float]:
        return [self.sign * self.reference(column, condition) for condition in conditions]

    def _off_scale(self, column: str, conditions: list[str]) -> str:
        values = self._values(column, conditions)
        ends = dict.fromkeys(number(end) for end in (min(values), max(values)))
        return f"{NAMES[column]} {' to '.join(ends)}, off the scale"

"""The figure of a sweep: the validation score of every trial by each option that was varied."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from mer_lightning.numerals import number
from mer_lightning.studies.report.charts import Drawing, Panel, SmallMultiples, fitting, short, span
from mer_lightning.studies.report.of_studies import Trials
from mer_lightning.studies.report.options import option_text
from mer_lightning.studies.report.scores_drawn import LEAST

_MOST_TRIALS, _MOST_OPTIONS = 300, 12
_SIDE_BY_SIDE = 6  # numbers at most
_LOGARITHMIC = 30  # the largest value over the smallest, from which on an axis is logarithmic


def trial_figure(sweep: Trials) -> SmallMultiples | None:
    """None where nothing was varied, or no trial has a score."""
    labels = [label for label in sweep.trials if math.isfinite(sweep.mean(label))][:_MOST_TRIALS]
    options = list(next(iter(sweep.options.values()), {}))[:_MOST_OPTIONS]
    if len(labels) < 2 or not options:
        return None
    sign = 1.0 if sweep.study.maximize else -1.0
    values = {label: sign * sweep.mean(label) for label in labels}
    y = span(list(values.values()), LEAST)

    def panel(option: str) -> Panel:
        place, x, ticks = _axis([sweep.options[label][option] for label in labels])
        drawing = Drawing(x, y)
        drawing.y_axis({value: short(sign * value) for value in drawing.y.ticks()})
        for label in reversed(labels):  # the winner lies above the others
            kind = "method" if label == sweep.label else "other"
            tip = f"{label}: {number(sweep.mean(label))}"
            drawing.dot(place(sweep.options[label][option]), values[label], kind, tip, 4 if kind == "method" else 3)
        drawing.x_axis(labels=ticks)
        return drawing.panel(option, f"the best has {option} {sweep.options[sweep.label][option]}")

    how = f"{sweep.study.metric} on validation by each option that was varied; one dot per trial. Up is better."
    key = {"method": "the trial that validation chose", "other": "the others"}
    return SmallMultiples("Where the best trials are", how, [panel(option) for option in options], key)


def _axis(values: list[Any]) -> tuple[Callable[[Any], float], tuple[float, float], dict[float, str] | None]:
    """(from an option's value to its place, the ends of the axis, its labels where they are not round numbers)

    Few numbers, and what is no number, stand side by side; many numbers on an axis.
    """
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    distinct = sorted(set(numbers))
    if len(numbers) == len(values) and len(distinct) > _SIDE_BY_SIDE:
        if distinct[0] > 0 and distinct[-1] / distinct[0] >= _LOGARITHMIC:
            low, high = span([math.log10(value) for value in distinct], 0.1)
            powers = range(math.ceil(low), math.floor(high) + 1)
            return math.log10, (low, high), {float(power): f"{10.0**power:g}" for power in powers}
        return float, span(distinct, 1e-9), None
    named = distinct if len(numbers) == len(values) else list({str(value): value for value in values}.values())
    places = {str(name): float(place) for place, name in enumerate(named)}
    labels = {float(place): fitting(option_text(name), 220 / len(named)) for place, name in enumerate(named)}
    return lambda value: places[str(value)], (-0.5, len(named) - 0.5), labels

"""The figures of a report: small multiples with one panel for each method, in which all others stand behind it.

A figure that the runs of a setting cannot show is left out.
"""

from __future__ import annotations

import itertools
import math
import re

import numpy as np

from mer_lightning.modalities import COMBINATIONS, complete_among
from mer_lightning.numerals import number
from mer_lightning.studies.report.charts import LETTER, Drawing, Panel, SmallMultiples, fitting, short, span
from mer_lightning.studies.report.predictions_drawn import figures_of_predictions
from mer_lightning.studies.report.scores_drawn import LEAST, METHOD, NAMES, OTHER, Scores, key_of
from mer_lightning.studies.report.settings import Setting
from mer_lightning.studies.report.tables import ShownMetric, costs, metrics_shown

_RATE = re.compile(r"(.+)-(0\.\d+|1\.0)$")


def figures(setting: Setting) -> list[SmallMultiples]:
    """Of all methods that are shown, in the order in which a reader asks."""
    metric = metrics_shown(setting)[0]
    drawn = [
        _combinations(setting, metric),
        *_rates(setting, metric),
        _classes(setting),
        *figures_of_predictions(setting),
        _learning_curves(setting),
        _cost(setting, metric),
    ]
    return [figure for figure in drawn if figure is not None]


def _combinations(setting: Setting, metric: ShownMetric) -> SmallMultiples | None:
    there = set(setting.conditions)
    combinations = [name for name in COMBINATIONS if name in there]
    if len(combinations) < 2:
        return None
    found = Scores(setting, metric)
    y, far = found.span(setting.shown, combinations), found.far(setting.shown, combinations)

    def panel(label: str) -> Panel:
        drawing = Drawing((-0.5, len(combinations) - 0.5), y)
        found.axis(drawing)
        for column in [each for each in found.references if each not in far]:
            for place, name in enumerate(combinations):
                level = found.reference(column, name)
                drawing.stroke((place - 0.38, place + 0.38), (level, level), column)
        for place, name in enumerate(combinations):
            for other in setting.shown:
                if other != label:
                    level = found.mean(other, name)
                    drawing.stroke((place - 0.2, place + 0.2), (level, level), OTHER)
            mean, deviation = found.mean(label, name), found.deviation(label, name)
            drawing.stroke((place, place), (mean - deviation, mean + deviation), METHOD)
            drawing.dot(place, mean, METHOD, f"{label}, {name}: {found.text(label, name)}")
        drawing.x_axis(labels={float(place): name for place, name in enumerate(combinations)})
        return drawing.panel(label, ", ".join(f"{name} {found.text(label, name)}" for name in combinations))

    how = f"{metric.title} where only these modalities are there: mean and deviation over seeds. Up is better."
    return SmallMultiples(
        "Combinations of modalities",
        how,
        [panel(label) for label in setting.shown],
        found.key(setting.shown, combinations),
    )


def _rates(setting: Setting, metric: ShownMetric) -> list[SmallMultiples]:
    """One figure for each family of conditions that differ in a missing rate."""
    families: dict[str, dict[str, float]] = {}  # {family: {condition: rate}}
    for condition in setting.conditions:
        if match := _RATE.match(condition):
            families.setdefault(match[1], {})[condition] = float(match[2])
    found = Scores(setting, metric)
    return [
        _rate_curves(setting, found, family, dict(sorted(rates.items(), key=lambda item: item[1])))
        for family, rates in families.items()
        if len(rates) > 1
    ]


def _rate_curves(setting: Setting, found: Scores, family: str, rates: dict[str, float]) -> SmallMultiples:
    names, xs = list(rates), list(rates.values())
    y, far = found.span(setting.shown, names), found.far(setting.shown, names)

    def panel(label: str) -> Panel:
        drawing = Drawing((min(xs), max(xs)), y)
        found.axis(drawing)
        for column in [each for each in found.references if each not in far]:
            drawing.line(xs, [found.reference(column, name) for name in names], column)
        for other in setting.shown:
            if other != label:
                drawing.line(xs, [found.mean(other, name) for name in names], OTHER)
        means = [found.mean(label, name) for name in names]
        deviations = [found.deviation(label, name) for name in names]
        low = [mean - deviation for mean, deviation in zip(means, deviations, strict=True)]
        high = [mean + deviation for mean, deviation in zip(means, deviations, strict=True)]
        drawing.band(xs, low, high)
        drawing.line(xs, means, METHOD)
        for x, mean, name in zip(xs, means, names, strict=True):
            drawing.dot(x, mean, METHOD, f"{label}, {name}: {found.text(label, name)}", radius=2)
        drawing.x_axis("missing rate")
        return drawing.panel(label, ", ".join(f"{rate:g}: {found.text(label, name)}" for name, rate in rates.items()))

    how = f"{found.metric.title} by missing rate ({family}): mean and deviation over seeds. Up is better."
    panels = [panel(label) for label in setting.shown]
    return SmallMultiples(f"Missing rates: {family}", how, panels, found.key(setting.shown, names))


def _classes(setting: Setting) -> SmallMultiples | None:
    """F1 of each class on the complete input; None where there are no classes."""
    classes: tuple[str, ...] = getattr(setting.task, "classes", ())
    complete = complete_among(setting.conditions)
    known = set(setting.rows["metric"])
    metrics = {name: f"{name}_f1" for name in classes if f"{name}_f1" in known}
    if complete is None or not metrics:
        return None
    found = {name: Scores(setting, ShownMetric(metric, "F1", False)) for name, metric in metrics.items()}
    columns = {column: None for each in found.values() for column in each.references}
    spans = [each.span(setting.shown, [complete]) for each in found.values()]
    x = span([end for each in spans for end in each], LEAST)
    rows = {name: len(found) - 1 - place for place, name in enumerate(found)}  # the first one is above

    def panel(label: str) -> Panel:
        drawing = Drawing(x, (-0.6, len(rows) - 0.4), left=78, height=44 + 22 * len(rows))
        drawing.y_axis({float(row): fitting(name, 70) for name, row in rows.items()})
        for name, row in rows.items():
            each = found[name]
            far = each.far(setting.shown, [complete])
            for column in each.references:
                level = each.reference(column, complete)
                if column not in far:
                    drawing.stroke((level, level), (row - 0.38, row + 0.38), column)
                elif level < x[0]:
                    drawing.label(x[0], row, f"← {number(level)}", "start", "reference", right=3)
            for other in setting.shown:
                if other != label:
                    level = each.mean(other, complete)
                    drawing.stroke((level, level), (row - 0.2, row + 0.2), OTHER)
            mean, deviation = each.mean(label, complete), each.deviation(label, complete)
            drawing.stroke((mean - deviation, mean + deviation), (row, row), METHOD)
            drawing.dot(mean, row, METHOD, f"{label}, {name}: {each.text(label, complete)}")
        drawing.x_axis("F1")
        return drawing.panel(label, ", ".join(f"{name} {each.text(label, complete)}" for name, each in found.items()))

    how = f"F1 of each class under {complete}: mean and deviation over seeds. Right is better."
    key = key_of(setting.shown) | {column: NAMES[column] for column in columns}
    return SmallMultiples("F1 of each class", how, [panel(label) for label in setting.shown], key)


def _learning_curves(setting: Setting) -> SmallMultiples | None:
    """Mean over the seeds that still train, and a band from the lowest to the highest of them."""
    curves = {}
    for label, contender in setting.shown.items():
        seeds = [run.facts.curve for run in contender.runs if run.facts.curve]
        if seeds:
            curves[label] = np.full((len(seeds), max(map(len, seeds))), np.nan)
            for row, curve in zip(curves[label], seeds, strict=True):
                row[: len(curve)] = curve
    longest = max((curve.shape[1] for curve in curves.values()), default=0)
    if longest < 2:
        return None
    y = span([value for curve in curves.values() for value in curve.flatten().tolist()], LEAST)
    means = {label: np.nanmean(curve, axis=0).tolist() for label, curve in curves.items()}

    def panel(label: str) -> Panel:
        drawing = Drawing((1, longest), y)
        drawing.y_axis()
        for other, mean in means.items():
            if other != label:
                drawing.line(range(1, len(mean) + 1), mean, OTHER)
        epochs, curve = range(1, len(means[label]) + 1), curves[label]
        drawing.band(epochs, np.nanmin(curve, axis=0).tolist(), np.nanmax(curve, axis=0).tolist())
        drawing.line(epochs, means[label], METHOD)
        best = int(np.nanargmax(means[label]))
        tip = f"{label}: best in epoch {best + 1}, {number(means[label][best])}"
        drawing.dot(best + 1, means[label][best], METHOD, tip)
        drawing.x_axis(
            "epoch", {1.0: "1"} | {value: short(value) for value in drawing.x.ticks(3) if value == int(value)}
        )
        return drawing.panel(label, f"{len(means[label])} epochs, {tip.partition(': ')[2]}")

    how = (
        "The validation score that selects checkpoints, by epoch of the last phase: mean over seeds, and the band from "
        "the lowest to the highest. The dot is the best epoch of the mean. Up is better."
    )
    return SmallMultiples("Learning curves", how, [panel(label) for label in curves], key_of(curves))


def _cost(setting: Setting, metric: ShownMetric) -> SmallMultiples | None:
    """Score on the complete input against seconds of training; None where only one method was timed."""
    complete = complete_among(setting.conditions)
    table = costs(setting).set_index("label")["seconds"]
    seconds = {label: float(table[label]) for label in setting.shown if table[label] > 0}
    if complete is None or len(seconds) < 2:
        return None
    found = Scores(setting, metric, reach=1)  # names need room
    y, far = found.span(seconds, [complete]), found.far(seconds, [complete])
    logarithms = {label: math.log10(value) for label, value in seconds.items()}
    low, high = span(list(logarithms.values()), 0.5)
    drawing = Drawing((low, high), y, width=520, height=260, left=44)
    found.axis(drawing)
    for column in [each for each in found.references if each not in far]:
        level = found.reference(column, complete)
        drawing.stroke((low, high), (level, level), column)
    _labelled_dots(drawing, {label: (logarithms[label], found.mean(label, complete)) for label in seconds}, seconds)
    drawing.x_axis("seconds of training, logarithmic", _powers(low, high))
    says = ", ".join(f"{label} {value:.0f} s {found.text(label, complete)}" for label, value in seconds.items())
    how = f"{metric.title} under {complete} against the time of one run. Up and left is better."
    key = {kind: meaning for kind, meaning in found.key(seconds, [complete]).items() if kind in NAMES}
    return SmallMultiples("Cost and score", how, [drawing.panel("", says)], key, wide=True)


def _labelled_dots(drawing: Drawing, places: dict[str, tuple[float, float]], seconds: dict[str, float]) -> None:
    """Each name stands beside its dot, or as near to it as it lies on no other name or dot; then a line leads to it."""
    dots = {label: (drawing.x(x), drawing.y(y)) for label, (x, y) in places.items() if math.isfinite(y)}
    taken = [(across - 5, across + 5, height) for across, height in dots.values()]  # begin, end, height
    steps = sorted(range(-240, 241, 4), key=abs)
    for label, (across, height) in sorted(dots.items(), key=lambda item: item[1][1]):
        name = fitting(label, drawing.width / 2.5)
        width = LETTER * len(name) + 4
        for down, anchor in itertools.product(steps, ("start", "end")):
            beside, at = (8 if anchor == "start" else -8), height + down
            begin = across + beside - (width if anchor == "end" else 0)
            inside = drawing.x.begin <= begin <= drawing.x.end - width and drawing.y.end < at < drawing.y.begin - 4
            if inside and all(begin >= to or begin + width <= of or abs(at - there) >= 11 for of, to, there in taken):
                taken.append((begin, begin + width, at))
                if abs(down) > 12:
                    drawing.lead(*places[label], beside - math.copysign(3, beside), down)
                drawing.label(*places[label], name, anchor, "name", down + 3.5, beside)
                break
    for label in dots:
        drawing.dot(*places[label], METHOD, f"{label}: {seconds[label]:.0f} s")


def _powers(low: float, high: float) -> dict[float, str]:
    """{place: seconds} of round numbers within a logarithmic scale."""
    powers = range(math.floor(low), math.ceil(high) + 1)
    steps = [factor * 10.0**power for power in powers for factor in (1, 1.5, 2, 3, 5, 7)]
    return {math.log10(step): f"{step:g}" for step in steps if low <= math.log10(step) <= high}

"""The figures of a report. A figure that the runs of a setting cannot show is left out."""

from __future__ import annotations

import io
import re
import sys
from typing import TYPE_CHECKING

import numpy as np

from mer_lightning.modalities import COMBINATIONS, COMPLETE
from mer_lightning.numerals import number
from mer_lightning.studies.comparing import Contender
from mer_lightning.studies.report.settings import Setting
from mer_lightning.studies.report.tables import LINEAR, metrics_shown, scores

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from mer_lightning.methods.base import MERMethod

_RATE = re.compile(r"(.+)-(0\.\d+|1\.0)$")


def figures(setting: Setting) -> dict[str, Figure]:
    """{caption: figure}: of all methods together, then of each one, with what it draws itself."""
    import matplotlib

    with matplotlib.rc_context({"text.parse_math": False}):  # a dollar in somebody's name begins no formula
        drawn: dict[str, Figure | None] = {
            "Score that selects checkpoints, by method and combination of modalities": _combinations(setting),
            **_rate_curves(setting),
            "Learning curves: validation score of the last phase, mean over seeds": _learning_curves(setting),
        }
        classification = {label: _classification(contender) for label, contender in setting.shown.items()}
    for label, contender in setting.shown.items():
        own = {**classification[label], **_figures_of_method(contender)}
        drawn |= {f"{label}: {caption}": figure for caption, figure in own.items()}
    return {caption: figure for caption, figure in drawn.items() if figure is not None}


def svg(figure: Figure) -> str:
    """The figure as an element of a page, as wide as the page lets it be."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    element = text.getvalue()
    opening, bracket, rest = element[element.index("<svg") :].partition(">")
    return re.sub(r' (width|height)="[^"]*"', "", opening) + bracket + rest  # a fixed size would not shrink


def method_class(class_path: str) -> type[MERMethod] | None:
    """The class of a run's method, if this package has it or it is imported already: a run folder imports nothing."""
    from mer_lightning.methods.base import MERMethod, all_methods

    all_methods()  # imports the methods of this package
    module, _, name = class_path.rpartition(".")
    named = vars(sys.modules[module]).get(name) if module in sys.modules else None  # getattr could import more
    return named if isinstance(named, type) and issubclass(named, MERMethod) else None


def _figures_of_method(contender: Contender) -> dict[str, Figure]:
    method = method_class(str(contender.runs[0].config["model"]["class_path"]))
    return method.figures(contender) if method else {}


def _figure(width: float = 6.4, height: float = 3.4) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _combinations(setting: Setting) -> Figure | None:
    metric = metrics_shown(setting)[0]
    found = scores(setting, metric.name)
    table = found.pivot(index="label", columns="condition", values="mean")
    combinations = [name for name in COMBINATIONS if name in table.columns]
    if len(combinations) < 2:
        return None
    names, values = list(setting.shown), table.loc[list(setting.shown), combinations].to_numpy()
    linear = found.groupby("condition")["linear"].first().astype(float)[combinations]
    if linear.notna().all():
        names, values = [*names, LINEAR], np.vstack([values, linear])
    goodness = -values if metric.lower_is_better else values
    middle = (np.nanmax(goodness) + np.nanmin(goodness)) / 2
    figure, axes = _figure(height=1.0 + 0.45 * len(values))
    axes.imshow(goodness, cmap="viridis", aspect="auto")
    axes.set_xticks(range(len(combinations)), combinations)
    axes.set_yticks(range(len(values)), names)
    for (row, column), value in np.ndenumerate(values):
        colour = "black" if goodness[row, column] > middle else "white"
        axes.text(column, row, number(value), ha="center", va="center", color=colour, fontsize=8)
    axes.set_title(metric.title)
    return figure


def _rate_curves(setting: Setting) -> dict[str, Figure | None]:
    """One figure for each family of conditions that differ in a missing rate."""
    metric = metrics_shown(setting)[0]
    table = scores(setting, metric.name)
    families: dict[str, dict[str, float]] = {}  # {family: {condition: rate}}
    for condition in setting.conditions:
        if match := _RATE.match(condition):
            families.setdefault(match[1], {})[condition] = float(match[2])
    drawn: dict[str, Figure | None] = {}
    for family, rates in families.items():
        if len(rates) < 2:
            continue
        figure, axes = _figure()
        for label in setting.shown:
            row = table[table["label"] == label].set_index("condition").reindex(list(rates))
            deviation = row["std"].fillna(0)
            axes.errorbar(
                list(rates.values()), row["mean"], deviation, label=label, capsize=2, marker="o", markersize=3
            )
        linear = table.groupby("condition")["linear"].first().astype(float)[list(rates)]
        if linear.notna().all():
            axes.plot(list(rates.values()), linear, label=LINEAR, color="grey", linestyle="--")
        axes.set_xlabel("missing rate")
        axes.set_ylabel(metric.title)
        axes.legend(fontsize=8)
        drawn[f"Missing rates: {family}"] = figure
    return drawn


def _learning_curves(setting: Setting) -> Figure | None:
    curves = {}
    for label, contender in setting.shown.items():
        seeds = [run.facts.curve for run in contender.runs if run.facts.curve]
        if seeds:
            padded = np.full((len(seeds), max(map(len, seeds))), np.nan)
            for row, scores_of_seed in zip(padded, seeds, strict=True):
                row[: len(scores_of_seed)] = scores_of_seed
            curves[label] = np.nanmean(padded, axis=0)
    if not any(len(curve) > 1 for curve in curves.values()):
        return None
    figure, axes = _figure()
    for label, curve in curves.items():
        axes.plot(range(len(curve)), curve, label=label)
    axes.set_xlabel("epoch")
    axes.set_ylabel("validation score (higher is better)")
    axes.legend(fontsize=8)
    return figure


def _classification(contender: Contender) -> dict[str, Figure | None]:
    complete = contender.complete
    if complete is None:
        return {}
    under = "the complete input" if complete == COMPLETE else complete
    return {
        f"confusion of classes under {under}, all seeds": _confusion(contender, complete),
        f"calibration under {under}, all seeds": _calibration(contender, complete),
    }


def _confusion(contender: Contender, complete: str) -> Figure | None:
    """Shares of each true class; only where each sample has one class."""
    from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix

    if contender.task.kind != "single_label":
        return None
    classes: tuple[str, ...] = contender.task.classes  # type: ignore[attr-defined]
    predicted = contender.logits([complete])[:, 0].argmax(-1).flatten().numpy()
    true = contender.target.repeat(len(contender.runs)).numpy()
    shares = confusion_matrix(true, predicted, labels=range(len(classes)), normalize="true")
    figure, axes = _figure(width=4.6, height=4.2)
    display = ConfusionMatrixDisplay(shares, display_labels=classes).plot(
        ax=axes,
        cmap="Blues",
        colorbar=False,
        values_format=".2f",
        xticks_rotation=30,
        im_kw={"vmin": 0, "vmax": 1},
        text_kw={"fontsize": 8},
    )
    for cell, text in np.ndenumerate(display.text_):
        text.set_color("white" if shares[cell] > 0.5 else "black")  # scikit-learn does not know of vmin and vmax
    return figure


def _calibration(contender: Contender, complete: str) -> Figure | None:
    """Of the class that is predicted, or of every class where a sample may have several; None without classes."""
    from sklearn.calibration import CalibrationDisplay

    logits = contender.logits([complete])[:, 0].flatten(0, 1)
    probabilities = contender.task.probabilities(logits)
    if probabilities is None:
        return None
    target = contender.target.repeat(len(contender.runs), *[1] * (contender.target.dim() - 1))
    if contender.task.kind == "single_label":
        highest, predicted = probabilities.max(1)
        probability, right = highest.numpy(), (predicted == target).numpy()
    else:
        probability, right = probabilities.flatten().numpy(), target.flatten().bool().numpy()
    mean, share, count = reliability(probability, right)
    error = float((np.abs(mean - share) * count).sum() / count.sum())
    figure, axes = _figure(width=4.6, height=3.6)
    CalibrationDisplay(share, mean, probability).plot(ax=axes)
    axes.set_xlabel("probability")
    axes.set_ylabel("share that was right")
    axes.set_title(f"expected calibration error {error:.3f}")
    return figure


def reliability(
    probability: np.ndarray, right: np.ndarray, bins: int = 10
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(mean probability, share that was right, number of samples) of each bin of equal width that is not empty.

    scikit-learn's ``calibration_curve`` gives no numbers of samples, which the calibration error is weighted by.
    """
    bin_of = np.minimum((probability * bins).astype(int), bins - 1)
    count = np.bincount(bin_of, minlength=bins)
    filled = count > 0
    mean = np.bincount(bin_of, probability, bins)[filled] / count[filled]
    share = np.bincount(bin_of, right, bins)[filled] / count[filled]
    return mean, share, count[filled]

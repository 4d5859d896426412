"""Figures that are drawn from predictions on the complete input: confusions, calibration, risk and coverage."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mer_lightning.modalities import COMPLETE
from mer_lightning.studies.comparing import Contender
from mer_lightning.studies.report.charts import Drawing, Panel, SmallMultiples, fitting, span
from mer_lightning.studies.report.scores_drawn import NAMES, Scores, key_of
from mer_lightning.studies.report.settings import Setting
from mer_lightning.studies.report.tables import ShownMetric

Array = NDArray[np.float64]
# The metric that says which share of the answers is right, as `Task.right` decides it.
_SHARE_RIGHT = {"single_label": "wa", "regression": "non0_acc2"}
_SHARES = {0.0: "0", 0.2: ".2", 0.4: ".4", 0.6: ".6", 0.8: ".8", 1.0: "1"}
_MOST_CLASSES = 12  # of a picture of confusions: more could not be read
_STEPS = 40  # points of a curve of risk
_FEWEST = 20  # samples of one: an error of fewer is noise


def figures_of_predictions(setting: Setting) -> Iterator[SmallMultiples | None]:
    shown = {label: each for label, each in setting.shown.items() if each.complete is not None}
    if shown:
        yield _confusions(shown)
        yield _calibration(shown)
        yield _risk(setting, shown)


def _confusions(shown: dict[str, Contender]) -> SmallMultiples | None:
    """Shares of each true class; only where each sample has one class."""
    first = next(iter(shown.values()))
    classes: tuple[str, ...] = getattr(first.task, "classes", ())
    if first.task.kind != "single_label" or not 1 < len(classes) <= _MOST_CLASSES:
        return None
    size = len(classes)

    def panel(label: str, contender: Contender) -> Panel:
        shares = confusion(contender)
        drawing = Drawing((0, size), (0, size), left=70, height=44 + 200, bottom=44)
        for (row, column), share in np.ndenumerate(shares):
            x, y = float(column), float(size - 1 - row)
            drawing.box((x + 0.02, x + 0.98), (y + 0.02, y + 0.98), "share", float(share))
            if size <= 8:
                text = f"{share:.2f}".removeprefix("0") if np.isfinite(share) else ""
                drawing.label(x + 0.5, y + 0.5, text, kind="strong" if share > 0.6 else "value")
        for number, name in enumerate(classes):
            drawing.label(0, size - 0.5 - number, fitting(name, 60), "end", right=-6)
            room = 210 / size
            drawing.label(number + 0.5, 0, fitting(name, room), down=14)
        drawing.label(size, 0, "predicted", "end", "title", down=32)
        says = ", ".join(f"{name} {share:.0%} right" for name, share in zip(classes, shares.diagonal(), strict=True))
        return drawing.panel(label, says)

    how = f"Of each true class (rows), the share taken for each class (columns), under {_under(first)}, all seeds."
    return SmallMultiples("Confusions", how, [panel(*each) for each in shown.items()])


def confusion(contender: Contender) -> Array:
    """(C, C) shares of each true class, over all seeds; NaN for a class that no sample has."""
    classes = contender.task.outputs
    predicted = _complete(contender).argmax(-1).flatten().numpy()
    true = contender.target.repeat(len(contender.runs)).numpy()
    counts = np.bincount(true * classes + predicted, minlength=classes * classes).reshape(classes, classes)
    with np.errstate(invalid="ignore"):
        return np.asarray(counts / counts.sum(1, keepdims=True))


def _calibration(shown: dict[str, Contender]) -> SmallMultiples | None:
    """None without classes."""
    found = {label: each for label, each in ((label, sureness(each)) for label, each in shown.items()) if each}
    if not found:
        return None
    bins = {label: reliability(*each) for label, each in found.items()}

    def panel(label: str) -> Panel:
        mean, share, count = bins[label]
        drawing = Drawing((0, 1), (0, 1))
        drawing.y_axis(_SHARES)
        drawing.stroke((0, 1), (0, 1), "ideal")
        for centre, share_of_all in zip(mean, count / count.sum(), strict=True):
            left = min(int(centre * 10), 9) / 10
            drawing.box((left + 0.006, left + 0.094), (0, 0.5 * share_of_all), "count")
        for other, found_there in bins.items():
            if other != label:
                x, y, _ = _filled(*found_there)
                drawing.line(x.tolist(), y.tolist(), "other")
        mean, share, count = _filled(mean, share, count)
        drawing.line(mean.tolist(), share.tolist(), "method")
        for x, y, samples in zip(mean, share, count, strict=True):
            drawing.dot(x, y, "method", f"{label}: of {samples} with {x:.2f}, {y:.2f} right", radius=2.4)
        error = calibration_error(*bins[label])
        drawing.label(0.03, 0.92, f"error {error:.3f}".replace("0.", "."), "start", "value")
        drawing.x_axis("probability", _SHARES)
        return drawing.panel(label, f"expected calibration error {error:.3f}")

    what = (
        "of the class that is predicted" if next(iter(shown.values())).task.kind == "single_label" else "of every class"
    )
    under = _under(next(iter(shown.values())))
    how = (
        f"The probability {what} against the share that was right, under {under}, all seeds; on the diagonal a model "
        "knows what it knows. Bars: the share of samples, at half the scale; points of fewer than "
        f"{_FEWEST} are left out, and count in the error."
    )
    key = key_of(bins) | {"ideal": "perfectly calibrated", "count": "samples"}
    return SmallMultiples("Calibration", how, [panel(label) for label in bins], key)


def sureness(contender: Contender) -> tuple[Array, Array] | None:
    """(probability, whether it was right) of the predicted class, or of every class where several may be true."""
    logits = _complete(contender).flatten(0, 1)
    probabilities = contender.task.probabilities(logits)
    if probabilities is None:
        return None
    target = contender.target.repeat(len(contender.runs), *[1] * (contender.target.dim() - 1))
    if contender.task.kind == "single_label":
        highest, predicted = probabilities.max(1)
        return highest.double().numpy(), (predicted == target).double().numpy()
    return probabilities.flatten().double().numpy(), target.flatten().double().numpy()


def reliability(probability: Array, right: Array, bins: int = 10) -> tuple[Array, Array, NDArray[np.int64]]:
    """(mean probability, share that was right, number of samples) of each bin of equal width that is not empty."""
    bin_of = np.minimum((probability * bins).astype(int), bins - 1)
    count = np.bincount(bin_of, minlength=bins)
    filled = count > 0
    mean = np.bincount(bin_of, probability, bins)[filled] / count[filled]
    share = np.bincount(bin_of, right, bins)[filled] / count[filled]
    return mean, share, count[filled]


def _filled(mean: Array, share: Array, count: NDArray[np.int64]) -> tuple[Array, Array, NDArray[np.int64]]:
    """Without the bins of so few samples that their shares are noise."""
    enough = count >= _FEWEST
    return mean[enough], share[enough], count[enough]


def calibration_error(mean: Array, share: Array, count: NDArray[np.int64]) -> float:
    """The expected calibration error: sum_b (n_b / n) |mean_b - share_b|."""
    return float((np.abs(mean - share) * count).sum() / count.sum())


def _risk(setting: Setting, shown: dict[str, Contender]) -> SmallMultiples | None:
    """None where no prediction can be right or wrong, or too few to say how often."""
    curves = {label: risk(each) for label, each in shown.items()}
    drawn = {label: curve for label, curve in curves.items() if curve is not None}
    if not drawn:
        return None
    found = Scores(setting, ShownMetric(_SHARE_RIGHT.get(setting.task.kind, ""), "", False))
    complete = str(next(iter(shown.values())).complete)
    wrong = {column: 1 - found.reference(column, complete) for column in found.references}
    y = span([0.0, *wrong.values(), *(value for curve in drawn.values() for value in curve[1])], 0.05)

    def panel(label: str) -> Panel:
        coverage, error = drawn[label]
        drawing = Drawing((0, 1), (0, y[1]))
        drawing.y_axis()
        for column, level in wrong.items():
            drawing.stroke((0, 1), (level, level), column)
        for other, (x, values) in drawn.items():
            if other != label:
                drawing.line(x.tolist(), values.tolist(), "other")
        drawing.line(coverage.tolist(), error.tolist(), "method")
        half = float(np.interp(0.5, coverage, error))
        drawing.dot(0.5, half, "method", f"{label}: of the surer half, {half:.3f} wrong")
        drawing.x_axis("share that is answered", _SHARES)
        return drawing.panel(label, f"{error[-1]:.3f} of all are wrong, {half:.3f} of the surer half")

    what = "sign" if next(iter(shown.values())).task.kind == "regression" else "category"
    how = (
        f"The share of wrong answers (by {what}) where only the surest are given, under "
        f"{_under(next(iter(shown.values())))}, mean over seeds. A line that rises says that the model knows when it "
        "does not know. Down is better."
    )
    return SmallMultiples(
        "Risk and coverage",
        how,
        [panel(label) for label in drawn],
        key_of(drawn) | {column: NAMES[column] for column in wrong},
    )


def risk(contender: Contender) -> tuple[Array, Array] | None:
    """(shares of samples that are answered, share of these that is wrong), the surest first; mean over seeds."""
    task, target = contender.task, contender.target
    curves = []
    for logits in _complete(contender):
        right = task.right(logits, target).double().numpy()
        decided = np.isfinite(right)
        if decided.sum() < _FEWEST:
            return None
        surest = np.argsort(-task.certainty(logits).double().numpy()[decided], kind="stable")
        wrong = np.cumsum(1 - right[decided][surest])
        answered = np.unique(np.linspace(_FEWEST, len(wrong), _STEPS).round().astype(int))
        curves.append(wrong[answered - 1] / answered)
    return answered / answered[-1], np.mean(curves, axis=0)


def _complete(contender: Contender):  # type: ignore[no-untyped-def]
    """(S, N, O)"""
    assert contender.complete is not None
    return contender.logits([contender.complete])[:, 0]


def _under(contender: Contender) -> str:
    return "the complete input" if contender.complete == COMPLETE else str(contender.complete)

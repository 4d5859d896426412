"""The figures of a report, as SVG text. Each says what it cannot show by being absent."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from mer_lightning.modalities import COMBINATIONS, COMPLETE
from mer_lightning.numerals import number
from mer_lightning.studies.comparing import Contender
from mer_lightning.studies.report.settings import Setting
from mer_lightning.studies.report.tables import metrics_shown, scores
from mer_lightning.training.run_folder import metrics_over_time

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_RATE = re.compile(r"(.+)-(0\.\d+|1\.0)$")


def figures(setting: Setting) -> dict[str, str]:
    """{caption: SVG} of what this setting's runs can show."""
    drawn = {
        "Combinations: the score that selects checkpoints, by method and what is there": _combinations(setting),
        **_rate_curves(setting),
        "Learning curves: validation score of the last phase, mean over seeds": _learning_curves(setting),
    }
    for label, contender in setting.contenders.items():
        if setting.task.kind == "single_label":
            drawn[f"Confusion of {label}, complete input, all seeds"] = _confusion(contender)
        if setting.task.kind != "regression":
            drawn[f"Calibration of {label}, complete input, all seeds"] = _calibration(contender)
        drawn[f"Confidence of {label}: what it says, and what was true"] = _confidence(contender)
        drawn[f"Contributions of modalities in {label}"] = _contributions(contender)
        drawn[f"States of {label}, first seed: two principal components, one colour per category"] = _map(contender)
    return {caption: svg for caption, svg in drawn.items() if svg}


def _drawing(draw: Callable[[Axes], None], width: float = 6.4, height: float = 3.4) -> str:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    draw(figure.subplots())
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    svg = text.getvalue()
    # A fixed size would not shrink with a narrow window.
    return re.sub(
        r'<svg ([^>]*?)width="[^"]*"',
        r"<svg \1",
        re.sub(r'height="[^"]*pt"', "", svg[svg.index("<svg") :], count=1),
        count=1,
    )


def _combinations(setting: Setting) -> str:
    metric, title = next(iter(metrics_shown(setting).items()))
    table = scores(setting, metric).pivot(index="label", columns="condition", values="mean")
    there = [c for c in COMBINATIONS if c in table.columns]
    if len(there) < 2:
        return ""
    values = table.loc[list(setting.contenders), there].to_numpy()
    better = -values if "↓" in title else values

    def draw(axes: Axes) -> None:
        axes.imshow(better, cmap="viridis", aspect="auto")
        axes.set_xticks(range(len(there)), there)
        axes.set_yticks(range(len(values)), list(setting.contenders))
        middle = (better.max() + better.min()) / 2
        for (row, column), value in np.ndenumerate(values):
            colour = "black" if better[row, column] > middle else "white"
            axes.text(column, row, number(value), ha="center", va="center", color=colour, fontsize=8)
        axes.set_title(title)

    return _drawing(draw, height=1.0 + 0.45 * len(values))


def _rate_curves(setting: Setting) -> dict[str, str]:
    """One figure for each family of conditions that differ in a missing rate."""
    metric, title = next(iter(metrics_shown(setting).items()))
    table = scores(setting, metric)
    families: dict[str, list[str]] = {}
    for condition in setting.conditions:
        if match := _RATE.match(condition):
            families.setdefault(match[1], []).append(condition)
    drawn = {}
    for family, conditions in families.items():
        if len(conditions) < 2:
            continue

        def draw(axes: Axes, conditions: list[str] = conditions) -> None:
            rates = [float(condition.rsplit("-", 1)[1]) for condition in conditions]
            for label, part in table.groupby("label", sort=False):
                here = part.set_index("condition").loc[conditions]
                axes.errorbar(
                    rates, here["mean"], here["std"].fillna(0), label=label, capsize=2, marker="o", markersize=3
                )
            axes.set_xlabel("missing rate")
            axes.set_ylabel(title)
            axes.legend(fontsize=8)

        drawn[f"Missing rates: {family}"] = _drawing(draw)
    return drawn


def _learning_curves(setting: Setting) -> str:
    curves = {}
    for label, contender in setting.contenders.items():
        logs = [metrics_over_time(run.folder) for run in contender.runs]
        runs = [log.groupby("epoch")["valid/score"].last().dropna() for log in logs if "valid/score" in log]
        if runs:
            longest = max(len(run) for run in runs)
            padded = np.full((len(runs), longest), np.nan)
            for row, run in zip(padded, runs, strict=True):
                row[: len(run)] = run
            curves[label] = np.nanmean(padded, axis=0)
    if not any(len(curve) > 1 for curve in curves.values()):
        return ""

    def draw(axes: Axes) -> None:
        for label, curve in curves.items():
            axes.plot(range(len(curve)), curve, label=label)
        axes.set_xlabel("epoch")
        axes.set_ylabel("validation score (higher is better)")
        axes.legend(fontsize=8)

    return _drawing(draw)


def _confusion(contender: Contender) -> str:
    classes: tuple[str, ...] = contender.task.classes  # type: ignore[attr-defined]
    said = contender.logits([COMPLETE])[:, 0].argmax(-1).flatten().numpy()
    true = contender.target.repeat(len(contender.runs)).numpy()
    counts = np.zeros((len(classes), len(classes)))
    np.add.at(counts, (true, said), 1)
    shares = counts / counts.sum(1, keepdims=True).clip(min=1)

    def draw(axes: Axes) -> None:
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axes.set_xticks(range(len(classes)), classes, rotation=30, ha="right")
        axes.set_yticks(range(len(classes)), classes)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        for (row, column), share in np.ndenumerate(shares):
            axes.text(
                column,
                row,
                f"{share:.2f}",
                ha="center",
                va="center",
                color="white" if share > 0.5 else "black",
                fontsize=8,
            )

    return _drawing(draw, width=4.6, height=4.2)


def reliability(
    probability: np.ndarray, right: np.ndarray, bins: int = 10
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(mean probability, share that was right, number) of each bin of equal width that has any."""
    which = np.minimum((probability * bins).astype(int), bins - 1)
    count = np.bincount(which, minlength=bins)
    there = count > 0
    mean = np.bincount(which, probability, bins)[there] / count[there]
    share = np.bincount(which, right, bins)[there] / count[there]
    return mean, share, count[there]


def _calibration(contender: Contender) -> str:
    """Of the class that is predicted, or of every class where there may be several."""
    logits = contender.logits([COMPLETE])[:, 0].flatten(0, 1)
    probabilities = contender.task.probabilities(logits)
    assert probabilities is not None
    target = contender.target.repeat(len(contender.runs), *[1] * (contender.target.dim() - 1))
    if contender.task.kind == "single_label":
        values, decided = probabilities.max(1)
        probability, right = values.numpy(), (decided == target).numpy()
    else:
        probability, right = probabilities.flatten().numpy(), target.flatten().bool().numpy()
    mean, share, count = reliability(probability, right)
    error = float((np.abs(mean - share) * count).sum() / count.sum())

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color="grey", linewidth=1, linestyle="--")
        axes.plot(mean, share, marker="o")
        axes.set_xlabel("probability")
        axes.set_ylabel("share that was right")
        axes.set_title(f"expected calibration error {error:.3f}")

    return _drawing(draw, width=4.6, height=3.6)


def _confidence(contender: Contender) -> str:
    """CDaT: confidence against the true-class probability, by what is masked."""
    if "confidence" not in contender.tables[0].columns:
        return ""
    there: list[str] = [c for c in ("tav", "av", "tv", "ta") if c in contender.conditions]
    points: dict[str, Any] = {}
    for place, condition in enumerate(there):
        logits = contender.logits(there)[:, place]
        true = np.concatenate([contender.task.true_class_probability(run, contender.target).numpy() for run in logits])
        said = np.concatenate([t[t["condition"] == condition]["confidence"].to_numpy() for t in contender.tables])
        points[condition] = (said, true)

    def draw(axes: Axes) -> None:
        for condition, (said, true) in points.items():
            r = np.corrcoef(said, true)[0, 1] if said.std() > 0 else float("nan")
            axes.scatter(
                said, true, s=4, alpha=0.4, label=f"{condition}: correlation {r:.2f}, deviation {said.std():.3f}"
            )
        axes.set_xlabel("confidence")
        axes.set_ylabel("true-class probability")
        axes.legend(fontsize=8, markerscale=3)

    return _drawing(draw)


def _map(contender: Contender) -> str:
    """MCUR: are samples of one category near each other, whatever is there?"""
    from mer_lightning.studies.report.maps import state_map

    if "mcur" not in str(contender.runs[0].config["model"]["class_path"]):
        return ""
    found = state_map(contender.runs[0])
    if found is None:
        return ""

    def draw(axes: Axes) -> None:
        for points, name, marker in zip(found.points, found.combinations, "ov^s<D*", strict=True):
            x, y = points[:, 0].numpy(), points[:, 1].numpy()
            axes.scatter(x, y, c=found.category.numpy(), cmap="tab10", marker=marker, s=10, alpha=0.6, label=name)
        axes.legend(fontsize=8, ncols=2)
        axes.set_xticks([])
        axes.set_yticks([])

    return _drawing(draw, height=4.4)


def _contributions(contender: Contender) -> str:
    """MGR: mean contribution of each modality over training."""
    logs = [metrics_over_time(run.folder) for run in contender.runs]
    logs = [log for log in logs if any(str(name).startswith("contribution/") for name in log)]
    names = [name for name in ("text", "audio", "vision") if logs and f"contribution/{name}" in logs[0]]
    if not names:
        return ""

    def draw(axes: Axes) -> None:
        for name in names:
            runs = [log.groupby("epoch")[f"contribution/{name}"].last().dropna() for log in logs]
            axes.plot(
                range(min(map(len, runs))),
                np.mean([run.to_numpy()[: min(map(len, runs))] for run in runs], axis=0),
                label=name,
            )
        axes.set_xlabel("epoch")
        axes.set_ylabel("contribution")
        axes.legend(fontsize=8)

    return _drawing(draw)

"""The figure of CDaT: whether its confidence predicts the probability of the true class."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from mer_lightning.methods.finished_runs import FinishedRuns
from mer_lightning.modalities import complete_among

_POINTS = 300  # of each condition that are drawn, evenly from all; its numbers are of all


def figures(runs: FinishedRuns) -> dict[str, Figure]:
    """None where the confidence network was not part of the run (`weighting: static`, say)."""
    complete = complete_among(runs.conditions)
    if complete is None or "confidence" not in runs.tables[0].columns:
        return {}
    # The complete input, and the input without one modality: what the weights of the transfer are made from.
    names = [complete, *(complete.replace(letter, "") for letter in complete)]
    conditions = [name for name in names if name in runs.conditions]
    figure = Figure(figsize=(6.4, 1.0 + 2.0 * ((len(conditions) + 1) // 2)), layout="constrained")
    panels = figure.subplots(
        (len(conditions) + 1) // 2, min(len(conditions), 2), sharex=True, sharey=True, squeeze=False
    )
    for unused in panels.flat[len(conditions) :]:
        unused.set_axis_off()
    all_logits = runs.logits(conditions).unbind(1)
    for axes, condition, logits in zip(panels.flat, conditions, all_logits, strict=False):
        probability = np.concatenate([runs.task.true_class_probability(seed, runs.target).numpy() for seed in logits])
        confidence = np.concatenate([t[t["condition"] == condition]["confidence"].to_numpy() for t in runs.tables])
        deviation = confidence.std()
        correlation = np.corrcoef(confidence, probability)[0, 1] if deviation > 0 else float("nan")
        step = max(len(confidence) // _POINTS, 1)
        axes.scatter(confidence[::step], probability[::step], s=4, alpha=0.5, linewidths=0)
        axes.set_title(f"{condition}: correlation {correlation:.2f}, deviation {deviation:.3f}", fontsize=8)
    figure.supxlabel("confidence", fontsize=9)
    figure.supylabel("true-class probability", fontsize=9)
    return {"confidence against the probability of the true class, all seeds": figure}

"""The figure of CDaT: whether its confidence predicts the probability of the true class."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from mer_lightning.methods.finished_runs import FinishedRuns
from mer_lightning.modalities import complete_among


def figures(runs: FinishedRuns) -> dict[str, Figure]:
    """None where the confidence network was not part of the run (`weighting: static`, say)."""
    complete = complete_among(runs.conditions)
    if complete is None or "confidence" not in runs.tables[0].columns:
        return {}
    # The complete input, and the input without one modality: what the weights of the transfer are made from.
    names = [complete, *(complete.replace(letter, "") for letter in complete)]
    conditions = [name for name in names if name in runs.conditions]
    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    axes = figure.subplots()
    for condition, logits in zip(conditions, runs.logits(conditions).unbind(1), strict=True):
        probability = np.concatenate([runs.task.true_class_probability(seed, runs.target).numpy() for seed in logits])
        confidence = np.concatenate([t[t["condition"] == condition]["confidence"].to_numpy() for t in runs.tables])
        deviation = confidence.std()
        correlation = np.corrcoef(confidence, probability)[0, 1] if deviation > 0 else float("nan")
        label = f"{condition}: correlation {correlation:.2f}, deviation of confidence {deviation:.3f}"
        axes.scatter(confidence, probability, s=4, alpha=0.4, label=label)
    axes.set_xlabel("confidence")
    axes.set_ylabel("true-class probability")
    axes.legend(fontsize=8, markerscale=3)
    return {"confidence against the probability of the true class, all seeds": figure}

"""The figure of MGR: how much each modality contributes, over training."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from mer_lightning.methods.finished_runs import FinishedRuns
from mer_lightning.modalities import MODALITIES


def figures(runs: FinishedRuns) -> dict[str, Figure]:
    """The mean over seeds, as long as all of them train; none where the logs are gone."""
    columns = {f"contribution/{modality}": modality for modality in MODALITIES}
    logs = [run.metrics_over_time() for run in runs.runs]
    logs = [log for log in logs if not columns.keys().isdisjoint(log.columns)]
    if not logs:
        return {}
    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    axes = figure.subplots()
    for column, modality in columns.items():
        if column in logs[0]:
            seeds = [log.groupby("epoch")[column].last().dropna().to_numpy() for log in logs]
            epochs = min(map(len, seeds))
            mean = np.mean([values[:epochs] for values in seeds], axis=0)
            (line,) = axes.plot(range(1, epochs + 1), mean, label=modality)
            place, colour = (epochs, mean[-1]), line.get_color()
            axes.annotate(modality, place, xytext=(5, 0), textcoords="offset points", va="center", color=colour)
    axes.set_xlabel("epoch")
    axes.set_ylabel("contribution")
    return {"mean contribution of each modality over training": figure}

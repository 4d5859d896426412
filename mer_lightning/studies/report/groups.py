"""Scores of groups of samples: speakers, sexes, languages, whatever column the corpus has.

A mean over all samples can hide that a model works for some people and not for others. Beside the score of each group
stand the worst one, and the gap between the best and the worst with an interval.

Shapes: S seeds, K conditions, N samples, R resamples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from mer_lightning.data.raw import SENTENCE
from mer_lightning.errors import Refusal
from mer_lightning.evaluation.significance import drawn_counts, resampled_scores
from mer_lightning.studies.comparing import Contender
from mer_lightning.studies.report.settings import Setting

if TYPE_CHECKING:
    import pandas as pd

ENOUGH = 20  # samples: a score of fewer is noise, and they are one group together
OTHERS = "groups of fewer than {} samples"
_RESAMPLES = 1000
GAP = "best minus worst"


def group_scores(setting: Setting, column: str) -> pd.DataFrame:
    """label, condition, group, samples, score, low, high: one row per group, then one for the gap of each method.

    The score is that which selects checkpoints, turned so that higher is better, and the mean over seeds. Intervals are
    of a bootstrap that draws samples within each group (95 %). Best and worst are chosen by the scores at hand: that
    widens a gap, and its interval does not show it.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for label, contender in setting.contenders.items():
        groups = groups_of(contender, column)
        for title, conditions in contender.condition_groups().items():
            rows += [{"label": label, "condition": title, **row} for row in _rows(contender, conditions, groups)]
    return pd.DataFrame(rows)


def groups_of(contender: Contender, column: str) -> dict[str, Tensor]:
    """{group: rows of its samples}, in the order of their names; small groups together, at the end."""
    samples = contender.runs[0].samples()
    known = [name for name in samples.columns if name not in ("id", SENTENCE)]
    if column not in known:
        listed = ", ".join(known) or "none: the corpus has no column with groups of samples"
        remedy = "choose one; import the corpus and test the run again if it was tested by an older version"
        raise Refusal("--by", f"a column of the samples of {contender.runs[0].folder}: {listed}", f"'{column}'", remedy)
    table = contender.tables[0]
    ids = table.loc[table["condition"] == table["condition"].iloc[0], "id"]
    of_sample = samples.set_index("id")[column].reindex(ids).fillna("").astype(str).to_numpy()
    names, counts = np.unique(of_sample, return_counts=True)
    groups = {str(name): torch.from_numpy(np.flatnonzero(of_sample == name)) for name in names[counts >= ENOUGH]}
    rest = np.flatnonzero(np.isin(of_sample, names[counts < ENOUGH]))
    return groups | ({OTHERS.format(ENOUGH): torch.from_numpy(rest)} if len(rest) else {})


def _rows(contender: Contender, conditions: list[str], groups: dict[str, Tensor]) -> list[dict[str, Any]]:
    task, target = contender.task, contender.target
    decisions = [task.decide(each) for run in contender.logits(conditions) for each in run]
    draws = torch.Generator().manual_seed(0)
    observed, resampled = {}, {}
    for name, members in groups.items():
        as_it_is = torch.ones(1, len(members), dtype=torch.float64)
        counts = torch.cat([as_it_is, drawn_counts(_RESAMPLES, len(members), draws)])
        each = torch.stack([resampled_scores(task, d[members], target[members], counts) for d in decisions]).mean(0)
        observed[name], resampled[name] = float(each[0]), each[1:]
    rows = [
        {"group": name, "samples": len(members), "score": observed[name], **_interval(resampled[name])}
        for name, members in groups.items()
    ]
    comparable = [name for name in groups if name != OTHERS.format(ENOUGH)]
    if len(comparable) > 1:
        best, worst = (choose(comparable, key=observed.__getitem__) for choose in (max, min))
        rows.append(
            {
                "group": f"{GAP}: {best} minus {worst}",
                "samples": len(groups[best]) + len(groups[worst]),
                "score": observed[best] - observed[worst],
                **_interval(resampled[best] - resampled[worst]),
            }
        )
    return rows


def _interval(scores: Tensor) -> dict[str, float]:
    low, high = torch.quantile(scores, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return {"low": low, "high": high}

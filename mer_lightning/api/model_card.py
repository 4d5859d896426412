"""The model card of a run: what it predicts, what it was trained on, how good it is, and what it is not for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

from mer_lightning.evaluation.metrics import headline_metrics
from mer_lightning.modalities import complete_among
from mer_lightning.numerals import number

if TYPE_CHECKING:
    import pandas as pd

    from mer_lightning.data.corpus import CorpusCard
    from mer_lightning.tasks import Task

_CARD = """---
{front}---

# {method} on {backbone}, {corpus}

{what} It reads features of {modalities}, as they were extracted for the corpus,
and answers also where some of these are missing.

| | |
|---|---|
| trained on | {trained_on}, partition {partition} |
| tensors of the corpus | SHA-256 {sha256} |
| features | {features} |
| checkpoint chosen by | {selection} |
| training masks | {masks} |
| seed | {seed} |

## Scores on the test split

{scores}

The constant predictor was chosen on training labels; the linear model reads mean features.
Masks of the test: {mask_hash}.

## What it is not for

{limits}

## Use

```python
import mer_lightning as mer

run = mer.load("FOLDER")
run.predict({arguments})
```

Made with mer_lightning. The corpus, and the models that extracted its features, have licences of their own,
which hold for this model, too.
"""


def model_card(rows: pd.DataFrame, task: Task, card: CorpusCard) -> str:
    first = rows.iloc[0]
    modalities = list(card.dims)
    front = {
        "library_name": "mer_lightning",
        "tags": ["multimodal-emotion-recognition", task.kind, *modalities],
        "datasets": [card.name],
    }
    return _CARD.format(
        front=yaml.safe_dump(front, sort_keys=False),
        what=_what(task),
        modalities=" and ".join(filter(None, [", ".join(modalities[:-1]), modalities[-1]])),
        scores=_scores(rows, task),
        limits="\n".join(f"- {line}" for line in _limits(rows, task, card)),
        masks=first["training_masks"],
        sha256=first["corpus_sha256"],
        features=", ".join(f"{m}: {name}" for m, name in card.feature_set.items()),
        arguments=", ".join(f"{m}={m}_features" for m in modalities),
        **{name: first[name] for name in ("method", "backbone", "corpus", "trained_on", "partition", "selection")},
        **{name: first[name] for name in ("seed", "mask_hash")},
    )


def _what(task: Task) -> str:
    if classes := getattr(task, "classes", None):
        kind = "one of" if task.kind == "single_label" else "any of"
        return f"The model says {kind} {', '.join(classes)}."
    if targets := getattr(task, "targets", None):
        return f"The model says numbers: {', '.join(targets)}."
    return "The model says a number for the sentiment, from negative to positive."


def _scores(rows: pd.DataFrame, task: Task) -> str:
    """Headline metrics on the complete input and its mean over combinations, beside the references."""
    known = list(dict.fromkeys(rows["condition"]))
    shown = [each for each in known if each == complete_among(known) or each.startswith("mean-")] or known[:1]
    lines = ["| under | metric | value | constant | linear |", "|---|---|---|---|---|"]
    for condition in shown:
        for metric, info in headline_metrics(task).items():
            found = rows[(rows["condition"] == condition) & (rows["metric"] == metric)]
            for _, row in found.iterrows():
                values = (number(row[column]) for column in ("value", "floor", "linear"))
                lines.append(f"| {condition} | {info.title} | {' | '.join(values)} |")
    return "\n".join(lines)


def _limits(rows: pd.DataFrame, task: Task, card: CorpusCard) -> list[str]:
    metric, direction = task.score
    under = complete_among(rows["condition"]) or rows["condition"].iloc[0]
    row = rows[(rows["metric"] == metric) & (rows["condition"] == under)].iloc[0]
    sign = -1 if direction == "min" else 1
    lines = ["Decisions about single people: a test split says how often it errs, not about whom."]
    if card.synthetic:
        lines.insert(0, "Real use of any kind: the corpus is synthetic, made to test software.")
    for name, column in (("the best constant", "floor"), ("a linear model of mean features", "linear")):
        if sign * (row["value"] - row[column]) <= 0:
            lines.append(f"It is not better than {name} on the complete input ({metric} under {under}).")
    if isinstance(row["untrained"], str) and row["untrained"]:
        lines.append(f"It was never trained on {row['untrained']}.")
    lines.append("Other languages, cultures, cameras and microphones than those of the corpus were not tested.")
    return lines

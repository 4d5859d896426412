"""Stored predictions of any other system, scored as our own runs are: the same samples, metrics, floors and tests.

One folder for each seed, like that of a run, and labelled as not ours. What the system was trained on, and how it was
chosen, is not known here.

Shapes: N samples of the split, K conditions, O outputs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
import yaml
from torch import Tensor

from mer_lightning.data.corpus import Corpus, Split
from mer_lightning.errors import Refusal, first_names, reading
from mer_lightning.evaluation.floors import constants
from mer_lightning.evaluation.predictions import Predictions, columns_of, prediction_table
from mer_lightning.evaluation.protocols import FrozenProtocol, Protocol, freeze
from mer_lightning.evaluation.references import references
from mer_lightning.evaluation.results import Presence, Provenance, tidy
from mer_lightning.plain_values import refuse_path
from mer_lightning.tasks import MultiLabel, SingleLabel, Task
from mer_lightning.training.run_folder import CONFIG, CORPUS, RESULTS, write_environment, write_results
from mer_lightning.whole_files import write_whole

if TYPE_CHECKING:
    import pandas as pd

Missing = Literal["refuse", "constant", "leave-out"]
_SURE = 30.0  # the logit of an answer without a probability
_EDGE = 1e-12  # a probability nearer to 0 or 1 counts as this near: its logit would be infinite
_FIRST = 1e-6  # by which the class that is said leads among those of the same probability


@dataclass(frozen=True)
class Scored:
    """One seed of a system: the folder, its results, and what was wrong with the ids, for people."""

    folder: Path
    rows: pd.DataFrame
    predictions: Predictions
    conditions: list[str]
    remarks: list[str]


@dataclass(frozen=True)
class Place:
    """The samples that are scored, and under which protocol."""

    corpus: Corpus
    partition: str
    split: str
    protocol: Protocol

    @property
    def samples(self) -> Split:
        return self.corpus.split(self.partition, self.split)

    def logits_of_constant(self, samples: int) -> tuple[str, Tensor]:
        """The name of a constant chosen on training labels, and (N, O) what it says."""
        train = self.corpus.split(self.partition, "train").target
        assert train is not None
        return next(iter(constants(self.corpus.task, train, samples).items()))


def score_stored(path: Path, name: str, place: Place, output: Path, missing: Missing = "refuse") -> Iterator[Scored]:
    """Write a folder for each seed of the file, and say what was found."""
    refuse_path("--name", name)
    table = _read(path)
    task, frozen = place.corpus.task, freeze(place.protocol, place.samples)
    known = [condition.name for condition in frozen.conditions]
    table["condition"] = table["condition"] if "condition" in table else _complete(frozen)
    if strange := sorted(set(table["condition"]) - set(known)):
        remedy = "name the protocol that has them: --protocol"
        raise Refusal(path, f"conditions among {', '.join(known)}", ", ".join(strange), remedy)
    table["seed"] = table.get("seed", "0")
    for seed, part in table.groupby("seed"):
        number = _whole(path, seed)
        folder = output / f"seed-{number}"
        if (folder / RESULTS).exists():
            raise Refusal(folder, "a folder without results", "those of another run", "choose another --output")
        yield _score_seed(path, name, number, part, place, frozen, task, folder, missing)


def _score_seed(
    path: Path,
    name: str,
    seed: int,
    table: pd.DataFrame,
    place: Place,
    frozen: FrozenProtocol,
    task: Task,
    folder: Path,
    missing: Missing,
) -> Scored:
    split, card = place.samples, place.corpus.card
    given = [each.name for each in frozen.conditions if each.name in set(table["condition"])]
    remarks, answered, logits = [], torch.ones(len(split), dtype=torch.bool), []
    for condition in given:
        answers, found, extra = _in_order(path, table[table["condition"] == condition], split.ids, task)
        if extra:
            title = f"{place.split} split of {place.partition}"
            remarks.append(f"{condition}: {len(extra)} ids are not in the {title} and not scored: {first_names(extra)}")
        lacking = [each for each, there in zip(split.ids, found.tolist(), strict=True) if not there]
        if lacking:
            text = f"{condition}: {len(lacking)} of {len(split)} samples have no prediction: {first_names(lacking)}"
            if missing == "refuse":
                remedy = "--missing constant answers them as a constant would; --missing leave-out scores the others"
                raise Refusal(path, f"a prediction for each of {len(split)} samples", text, remedy)
            if missing == "constant":
                constant, of_constant = place.logits_of_constant(len(split))
                answers[~found] = of_constant[~found].to(answers.dtype)
                remarks.append(f"{text}; they count as '{constant}'")
            else:
                answered &= found
                remarks.append(f"{text}; they are left out, so no other run has the same samples")
        logits.append(answers)
    kept = answered.nonzero().squeeze(1)
    if not len(kept):
        raise Refusal(path, "predictions for the samples", "none under all conditions", "check the ids")
    assert split.target is not None
    predictions = Predictions(torch.stack(logits, 1)[kept].float(), split.target[kept], kept)
    chosen = Protocol(given, place.protocol.seed, place.protocol.modalities)
    own = freeze(chosen, split)
    rows = tidy(
        predictions,
        task,
        own.protocol,
        card,
        references(task, place.corpus, place.partition, place.split, own).of(kept),
        Provenance(
            method=f"{name} (not ours)",
            backbone="stored predictions",
            trained_on=card.label,
            corpus=card.label,
            labels="its own",
            corpus_sha256=card.sha256[:16],
            feature_set=card.feature_set_label,
            partition=place.partition,
            split=place.split,
            selection="unknown: stored predictions",
            training_masks="unknown",
            protocol=str(place.protocol),
            mask_hash=frozen.mask_hash,
            seed=seed,
            samples=len(kept),
        ),
        Presence(own.present[:, kept], split.present[kept]),
    )
    folder.mkdir(parents=True, exist_ok=True)
    config: dict[str, Any] = {"seed_everything": seed, "stored": {"name": name}}
    config |= {"model": {"class_path": "stored_predictions.Table"}}
    config |= {"data": {"corpus": card.label, "partition": place.partition, "masks": None}}
    write_whole(folder / CONFIG, yaml.safe_dump(config, sort_keys=False))
    write_whole(folder / CORPUS, card.dump())
    write_environment(folder)
    table_of_predictions = prediction_table(predictions, task, given, split.ids)
    samples = split.described_samples().iloc[kept.numpy()]
    write_results(folder, rows, table_of_predictions, samples)
    return Scored(folder, rows, predictions, given, remarks)


def _read(path: Path) -> pd.DataFrame:
    """All columns as texts, an empty one for what is missing."""
    import pandas as pd

    from mer_lightning.data.tables import read_table

    if path.suffix == ".parquet":
        table = read_table(path, "a table of predictions")
        table = table.astype(object).where(table.notna(), "").astype(str)
    else:
        with reading(path, "a table of predictions, .csv or .parquet", "check the file"):
            table = pd.read_csv(path, dtype=str, keep_default_na=False)
    if "id" not in table or not len(table):
        found = ", ".join(map(str, table.columns)) if len(table) else "no rows"
        raise Refusal(path, "rows with a column 'id'", found, "see mer-lightning docs score-other-systems")
    return table


def _complete(frozen: FrozenProtocol) -> str:
    from mer_lightning.modalities import complete_among

    names = [condition.name for condition in frozen.conditions]
    return complete_among(names) or names[0]


def _whole(path: Path, seed: object) -> int:
    with reading(path, "whole numbers in column 'seed'", "mend the column"):
        return int(float(str(seed)))


def _in_order(path: Path, table: pd.DataFrame, ids: list[str], task: Task) -> tuple[Tensor, Tensor, list[str]]:
    """(N, O) logits in the order of the split, (N,) which samples have an answer, and the ids that are none of it."""
    if twice := table["id"][table["id"].duplicated()].tolist():
        found = f"{len(twice)} that occur again, first {first_names(twice)}"
        raise Refusal(path, "each id once under a condition and seed", found, "remove the others")
    extra = sorted(set(table["id"]) - set(ids))
    rows = table.set_index("id").reindex(ids).fillna("")
    logits = _logits(path, rows, task)
    return torch.from_numpy(logits), torch.from_numpy(np.isfinite(logits).all(1)), extra


def _logits(path: Path, rows: pd.DataFrame, task: Task) -> np.ndarray:
    """(N, O), NaN where there is no answer."""
    if isinstance(task, SingleLabel | MultiLabel):
        return _of_classes(path, rows, task)
    return np.column_stack([_numbers(path, rows, name) for name in columns_of(task, "prediction")])


def _of_classes(path: Path, rows: pd.DataFrame, task: SingleLabel | MultiLabel) -> np.ndarray:
    one_of = isinstance(task, SingleLabel)
    columns = [f"probability {name}" for name in task.classes]
    probable = [name for name in columns if name in rows]
    said = _said(path, rows["prediction"], task) if "prediction" in rows else None
    if probable:
        p = np.column_stack([_numbers(path, rows, name) for name in columns])
        if ((p < 0) | (p > 1)).any():
            raise Refusal(path, "probabilities from 0 to 1", f"{np.nanmin(p):g} to {np.nanmax(p):g}", "mend them")
        p = p.clip(_EDGE, 1 - _EDGE)
        logits = np.log(p) if one_of else np.log(p) - np.log1p(-p)
        if said is not None:
            _refuse_contradiction(path, rows, logits, said, one_of)
            logits = logits + _FIRST * said if one_of else logits
        return logits
    if said is None:
        expected = "a column 'prediction', or one 'probability CLASS' for each class"
        raise Refusal(path, expected, ", ".join(map(str, rows.columns)), "name the columns so")
    return _SURE * (2 * said - 1)


def _said(path: Path, column: pd.Series[str], task: SingleLabel | MultiLabel) -> np.ndarray:
    """(N, C) of 0 and 1; NaN where nothing is said. A label set has its names joined by '+', or is 'none'."""
    one_of = isinstance(task, SingleLabel)
    spelled = {name.casefold(): number for number, name in enumerate(task.classes)}
    said = np.full((len(column), len(task.classes)), np.nan)
    for row, text in enumerate(column):
        words = [text] if one_of else text.split("+")
        names = [word.strip().casefold() for word in words]
        if names == [""]:
            continue
        if not one_of and names == ["none"]:
            names = []
        if strange := [name for name in names if name not in spelled]:
            expected = f"predictions among {', '.join(task.classes)}"
            raise Refusal(path, expected, f"'{strange[0]}' for {column.index[row]}", "write the classes so")
        said[row] = 0
        said[row, [spelled[name] for name in names]] = 1
    return said


def _refuse_contradiction(path: Path, rows: pd.DataFrame, logits: np.ndarray, said: np.ndarray, one_of: bool) -> None:
    if one_of:
        wrong = (np.where(said == 1, logits, -np.inf).max(1) < logits.max(1)) & np.isfinite(said).all(1)
    else:
        wrong = ((logits > 0) != (said == 1)).any(1) & np.isfinite(said).all(1)
    if wrong.any():
        found = f"another one for {first_names(rows.index[wrong].tolist())}"
        raise Refusal(path, "predictions that follow from the probabilities", found, "leave one of them out")


def _numbers(path: Path, rows: pd.DataFrame, name: str) -> np.ndarray:
    import pandas as pd

    if name not in rows:
        raise Refusal(path, f"a column '{name}'", ", ".join(map(str, rows.columns)), "name the columns so")
    with reading(path, f"numbers in column '{name}'", "mend the column"):
        return pd.to_numeric(rows[name].replace("", "nan")).to_numpy(float)

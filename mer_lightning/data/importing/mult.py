"""Pickles of MulT (Multimodal Transformer): {mosi,mosei_senti,iemocap}_data.pkl, and ..._data_noalign.pkl.

{train, valid, test}: each a dict of
    text, audio, vision (N, L, D)       padded at the front
    labels                              (N, 1, 1), or (N, 4, 2): a pair (no, yes) for each of four emotions
    id (N, 3)                           video, start, end; not in every file

MulT never compares ids, so a file may use the same id in several splits. Here such an id gets the name of its split,
e.g. `video_1.5_2.0#train`, because a corpus needs unique ids.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mer_lightning.data.catalogue import CatalogueEntry
from mer_lightning.data.importing.arrays import (
    feature_name,
    joined,
    lengths_without_padding,
    load_splits,
    numbers,
    padded,
    padded_numbers,
    per_sample,
    sentiment_for,
    string,
)
from mer_lightning.data.importing.base import Reader
from mer_lightning.data.importing.unpickle import outline
from mer_lightning.data.raw import SPLITS, PaddedSequences, RawCorpus
from mer_lightning.errors import Refusal
from mer_lightning.modalities import MODALITIES
from mer_lightning.tasks import MultiLabel, Task

_EMOTIONS = MultiLabel(("neutral", "happy", "sad", "angry"))


class MulT(Reader):
    name = "mult"
    describes = "MulT pickle: mosi_data.pkl, mosei_senti_data_noalign.pkl, iemocap_data.pkl"
    suffixes = (".pkl", ".pickle")

    def detects(self, path: Path) -> bool:
        splits = outline(path)
        return all("labels" in splits.get(split, ()) for split in SPLITS)

    def read(self, path: Path, entry: CatalogueEntry | None, features: dict[str, str]) -> RawCorpus:
        splits = load_splits(path, [*MODALITIES, "labels"])
        parts: dict[str, list[PaddedSequences]] = defaultdict(list)
        labels, partition = [], []
        ids: list[str] = []
        groups: list[str] = []
        aligned = True
        for split, values in splits.items():
            stored = numbers(path, f"{split}.labels", values["labels"])
            n = stored.shape[0] if stored.ndim else 0
            labels.append(_labels(path, split, stored, n))
            arrays = {m: padded_numbers(path, f"{split}.{m}", values[m], n) for m in MODALITIES}
            aligned &= len({array.shape[1] for array in arrays.values()}) == 1
            for m, lengths in lengths_without_padding(arrays, front=True).items():
                parts[m].append(padded(path, f"{split}.{m}", arrays[m], lengths, front=True))
            for name, group in _ids(path, split, values.get("id"), n):
                ids.append(name)
                groups.append(group)
            partition.append(np.full(n, SPLITS.index(split), np.int8))
        if len({array.ndim for array in labels}) > 1:
            raise Refusal(path, "labels of one kind in all splits", "two kinds", "check how the file was made")
        target = np.concatenate(labels)
        whole = {m: joined(path, m, parts[m]) for m in MODALITIES}
        notes = ["Steps at the front that are all zero count as padding and are left out."]
        if not all("id" in values for values in splits.values()):
            notes.append("No ids in this file: samples are named train-0, ..., and each is a group of its own.")
        ids, repeated = _unique_over_splits(ids, np.concatenate(partition))
        if repeated:
            notes.append(
                f"{len(repeated)} ids are in more than one split, the first is {repeated[0]}: they got the name of "
                "their split as an ending, such as #train. The file does not say whether they are the same samples."
            )
        return RawCorpus(
            format=self.name,
            source=path,
            task=_task(path, target, entry),
            alignment="aligned" if aligned else "unaligned",
            features=dict(whole),
            feature_set={m: feature_name(m, whole[m].width) for m in whole},
            target=target,
            ids=ids,
            partitions={"official": np.concatenate(partition)},
            groups=groups,
            padding="front",
            notes=notes,
        )


def _labels(path: Path, split: str, stored: NDArray[Any], n: int) -> NDArray[Any]:
    """(N,) sentiment, or (N, 4) of 0 and 1."""
    if stored.shape == (n, 4, 2):
        if not (np.isin(stored, (0, 1)).all() and (stored.sum(axis=2) == 1).all()):
            raise Refusal(path, f"a one-hot pair per emotion in {split}.labels", "others", "check how it was made")
        return stored.argmax(axis=2)
    return per_sample(path, f"{split}.labels", stored, n)


def _task(path: Path, target: NDArray[Any], entry: CatalogueEntry | None) -> Task:
    inferred: Task = _EMOTIONS if target.ndim == 2 else sentiment_for(target)
    if entry is None:
        return inferred
    kinds = ("regression", "ratings") if target.ndim == 1 else ("multi_label",)
    fits = entry.task.kind in kinds and (target.ndim == 1 or entry.task.card()["classes"] == [*_EMOTIONS.classes])
    if not fits:
        found = f"{', '.join(_EMOTIONS.classes)}, each yes or no" if target.ndim == 2 else "one number per sample"
        remedy = "import it as " + ("iemocap" if target.ndim == 2 else "mosi or mosei")
        raise Refusal(path, f"the labels of {entry.name}", found, remedy)
    return entry.task


def _ids(path: Path, split: str, rows: Any, n: int) -> list[tuple[str, str]]:
    """(id, group) of each sample. A row is video, start, end, or a name alone."""
    if rows is None:
        return [(f"{split}-{i}", f"{split}-{i}") for i in range(n)]
    if len(rows) != n:
        raise Refusal(path, f"{n} rows in {split}.id", f"{len(rows)}", "check how the file was made")
    named = []
    for row in rows:
        pieces = [string(row)] if np.ndim(row) == 0 else [string(piece) for piece in row]
        named.append(("_".join(pieces), pieces[0]))
    return named


def _unique_over_splits(ids: list[str], partition: NDArray[np.int8]) -> tuple[list[str], list[str]]:
    """(ids in which those of several splits end in `#` and the name of their split, these ids as they were)."""
    splits = defaultdict(set)
    for name, number in zip(ids, partition.tolist(), strict=True):
        splits[name].add(number)
    repeated = [name for name, numbers_of in splits.items() if len(numbers_of) > 1]
    unique = [
        f"{name}#{SPLITS[number]}" if len(splits[name]) > 1 else name
        for name, number in zip(ids, partition.tolist(), strict=True)
    ]
    return unique, repeated

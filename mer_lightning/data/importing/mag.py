"""Pickles of MAG-BERT and its descendants (CMAD, MLCL): mosi.pkl and mosei.pkl, one step per word.

{train, dev, test}: each a list of ((words, visual (n, D), acoustic (n, D)), label, segment)
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mer_lightning.data.catalogue import CatalogueEntry
from mer_lightning.data.importing.arrays import feature_name, numbers, sentiment_for, string
from mer_lightning.data.importing.base import Reader
from mer_lightning.data.importing.unpickle import load_pickle, outline
from mer_lightning.data.raw import LoadedSequences, RawCorpus
from mer_lightning.data.store import partition_from
from mer_lightning.errors import Refusal
from mer_lightning.tasks import Task

_SPLITS = {"train": "train", "dev": "valid", "test": "test"}
_EMOTIONS = ("happy", "sad", "anger", "surprise", "disgust", "fear")  # after sentiment, as CMU-MOSEI labels them
_EXAMPLE = "((words, visual, acoustic), label, segment)"
_CLIP = re.compile(r"(\[\d+\]|_\d+)$")  # the end of a segment's name, after the name of the video


class MAG(Reader):
    name = "mag"
    describes = "MAG-BERT pickle: mosi.pkl, mosei.pkl with words"
    suffixes = (".pkl", ".pickle")

    def detects(self, path: Path) -> bool:
        splits = outline(path)
        return set(_SPLITS) <= set(splits) and not any(splits.values())

    def read(self, path: Path, entry: CatalogueEntry | None, features: dict[str, str]) -> RawCorpus:
        content = load_pickle(path)
        if not isinstance(content, dict) or not all(isinstance(content.get(key), list | tuple) for key in _SPLITS):
            found = f"the keys {', '.join(map(str, content))}" if isinstance(content, dict) else type(content).__name__
            raise Refusal(path, "a dict with the lists train, dev, test", found, "check that this is the right file")
        ids, sentences, splits = [], [], []
        visual: list[NDArray[Any]] = []
        acoustic: list[NDArray[Any]] = []
        labels: list[NDArray[Any]] = []
        for key, split in _SPLITS.items():
            for number, example in enumerate(content[key]):
                try:
                    (words, vision, audio), label, segment = example
                    sentences.append(" ".join(string(word) for word in words))
                except (TypeError, ValueError) as error:
                    raise Refusal(
                        path, f"{_EXAMPLE} at {key}[{number}]", str(error), "check how it was made"
                    ) from error
                where = f"{key}[{number}] ('{string(segment)}')"
                visual.append(_steps(path, f"visual of {where}", vision, len(words), visual))
                acoustic.append(_steps(path, f"acoustic of {where}", audio, len(words), acoustic))
                labels.append(_label(path, where, label, labels))
                ids.append(string(segment))
                splits.append(split)
        if not ids:
            raise Refusal(path, "at least one sample", "none", "check that this is the right file")
        task, target = _task(path, np.stack(labels), entry)
        notes = ["The file holds words and no text features: compute them with a text encoder from column 'sentence'."]
        if len(labels[0]) == 7 and task.kind == "regression":
            notes.append("Of 7 labels the first, sentiment, is taken; the others are six emotions.")
        return RawCorpus(
            format=self.name,
            source=path,
            task=task,
            alignment="aligned",
            features={"audio": _sequences(acoustic), "vision": _sequences(visual)},
            feature_set={
                "audio": feature_name("audio", acoustic[0].shape[1]),
                "vision": feature_name("vision", visual[0].shape[1]),
            },
            target=target,
            ids=ids,
            partitions={"official": partition_from(splits)},
            groups=[_CLIP.sub("", name) for name in ids],
            columns={"sentence": sentences},
            notes=notes,
        )


def _task(path: Path, labels: NDArray[Any], entry: CatalogueEntry | None) -> tuple[Task, NDArray[Any]]:
    """The task and its target, from (N, 1) or (N, 7) labels: sentiment, or which of the six emotions are present."""
    if entry is None or entry.task.kind == "regression":
        return entry.task if entry else sentiment_for(labels[:, 0]), labels[:, 0]
    if labels.shape[1] == 7 and getattr(entry.task, "classes", ()) == _EMOTIONS:
        return entry.task, np.where(np.isfinite(labels[:, 1:]), labels[:, 1:] > 0, np.nan)
    remedy = "import the file as mosi, mosei or mosei_emotions"
    raise Refusal(path, f"the labels of {entry.name}", f"{labels.shape[1]} sentiment or emotion labels", remedy)


def _steps(path: Path, what: str, value: Any, words: int, before: list[NDArray[Any]]) -> NDArray[Any]:
    steps = numbers(path, what, value)
    if steps.ndim != 2 or len(steps) != words:
        expected = f"{words} steps, one per word, in {what}"
        raise Refusal(path, expected, f"shape {steps.shape}", "check how the file was made")
    if before and steps.shape[1] != before[0].shape[1]:
        expected = f"width {before[0].shape[1]}, as in the first sample, in {what}"
        raise Refusal(path, expected, str(steps.shape[1]), "do not mix files of different features")
    return steps


def _label(path: Path, where: str, value: Any, before: list[NDArray[Any]]) -> NDArray[Any]:
    label = numbers(path, f"the label of {where}", value).reshape(-1)
    if len(label) not in (1, 7) or (before and len(label) != len(before[0])):
        expected = "1 label, or sentiment and six emotions, the same for all samples"
        raise Refusal(path, expected, f"{len(label)} at {where}", "check how the file was made")
    return label


def _sequences(samples: list[NDArray[Any]]) -> LoadedSequences:
    return LoadedSequences(samples.__getitem__, [len(steps) for steps in samples], samples[0].shape[1])

"""Computational sequences of the CMU-MultimodalSDK, aligned to words. Shapes: W words, D width.

    <any name>.csd   see csd_file.py
    splits.json      {"train": [videos], "valid": [videos], "test": [videos]}, or the same in splits.yaml

The folder has one file per modality and one with labels. Each interval of the labels is a segment, named
``video[clip]`` as in the SDK. Files that were already aligned to the labels have such ids, and are read as they are. In
all others, each word of a segment gets the mean of the frames that overlap it. So the corpus is always aligned to
words; this reader makes no corpus of the frames as they were recorded.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mer_lightning.data.catalogue import CatalogueEntry
from mer_lightning.data.importing.base import Reader
from mer_lightning.data.importing.csd_file import INSTANT, CsdFile, overlapping, word_means
from mer_lightning.data.raw import SPLITS, RawCorpus, Sequences
from mer_lightning.data.store import partition_from
from mer_lightning.errors import Refusal, reading
from mer_lightning.modalities import MODALITIES
from mer_lightning.tasks import MultiLabel, Regression, Task
from mer_lightning.yaml_text import from_yaml

_NAMES = {"text": "glove|wordvector", "audio": "covarep|opensmile|acoustic|audio", "vision": "facet|openface|visual"}
_SPLIT_FILES = ("splits.json", "splits.yaml")
_PAUSE = "sp"
# Columns of labels, if the metadata does not name them.
_MOSEI = ("sentiment", "happy", "sad", "anger", "surprise", "disgust", "fear")


@dataclass
class Segment:
    key: str  # video[clip]
    exact: bool  # the label file names segments, so the other files may too
    interval: NDArray[Any]  # (2,)
    label: NDArray[Any]  # (columns,)
    steps: NDArray[Any]  # (W, 2) the intervals of its words
    rows: NDArray[Any]  # (W,) their rows in the entry of the reference, the file whose steps are the words

    @property
    def video(self) -> str:
        return self.key.split("[")[0]


class WordLevel(Sequences):
    """The steps of each segment: the reference's own rows, or the means of another file's frames."""

    def __init__(self, sequence: CsdFile, segments: list[Segment], is_reference: bool) -> None:
        self.sequence, self.segments, self.is_reference = sequence, segments, is_reference
        self.width = sequence.width
        present = [
            len(sequence.entry(s.key, s.exact)[0]) > 0 if s.exact else s.video in sequence.videos for s in segments
        ]
        lengths = [len(s.steps) if has else 0 for s, has in zip(segments, present, strict=True)]
        self.lengths = np.array(lengths, np.int64)

    def packed(self, start: int, stop: int) -> NDArray[Any]:
        parts = [self._steps(self.segments[i]) for i in range(start, stop) if self.lengths[i]]
        return np.concatenate(parts) if parts else np.zeros((0, self.width), np.float32)

    def _steps(self, segment: Segment) -> NDArray[Any]:
        intervals, frames = self.sequence.entry(segment.key, segment.exact)
        if self.is_reference:
            return frames[segment.rows]
        span = np.array([segment.steps[:, 0].min(), segment.steps[:, 1].max()])
        near = overlapping(span, intervals)
        return word_means(segment.steps, intervals[near], frames[near])


class CSD(Reader):
    name = "csd"
    describes = "CMU-MultimodalSDK folder: .csd files of labels, words, audio, vision, and splits.json"

    def detects(self, path: Path) -> bool:
        return (path.is_dir() and any(path.glob("*.csd"))) or (path.is_file() and path.suffix == ".csd")

    def read(self, path: Path, entry: CatalogueEntry | None, features: dict[str, str]) -> RawCorpus:
        """If ``path`` is a single .csd file, its whole folder is read."""
        folder = path if path.is_dir() else path.parent
        files = [CsdFile(file) for file in sorted(folder.glob("*.csd")) if "phone" not in file.name.lower()]
        labels = _one(folder, "labels", [file for file in files if _is_called(file, "label")])
        if labels is None:
            raise Refusal(folder, "a .csd with labels", _names(files), "add the label file, with 'label' in its name")
        rest = [file for file in files if file is not labels]
        words = _one(folder, "words", [file for file in rest if file.holds_words])
        chosen = _choose(folder, [file for file in rest if not file.holds_words], features)
        reference = chosen.get("text", words)
        if not chosen or reference is None:
            expected = "a .csd with words or their vectors, and one with features"
            raise Refusal(folder, expected, _names(files), "add the missing file, or name it with --features text=NAME")
        segments, notes = _segments(labels, reference, words)
        task = entry.task if entry else Regression()
        read = {m: WordLevel(file, segments, file is reference) for m, file in chosen.items()}
        for modality, sequences in read.items():
            absent = int((sequences.lengths == 0).sum())
            if absent == len(segments):
                found = "none of the segments that have labels and words"
                raise Refusal(chosen[modality].path, f"{modality} of these videos", found, "check that the files match")
            if absent:
                notes.append(f"{absent} of {len(segments)} segments have no {modality}; it counts as missing.")
        notes.append("Words got the mean of the frames that overlap them; values that are not finite counted as 0.")
        return RawCorpus(
            format=self.name,
            source=folder,
            task=task,
            alignment="aligned",
            features=dict(read),
            feature_set={m: f"{file.name} {file.width}" for m, file in chosen.items()},
            target=_target(labels, segments, task),
            ids=[segment.key for segment in segments],
            partitions={"official": _read_splits(folder, [segment.video for segment in segments])},
            groups=[segment.video for segment in segments],
            columns={"sentence": [_sentence(words, segment) for segment in segments]} if words else {},
            notes=notes,
        )


def _is_called(file: CsdFile, pattern: str) -> bool:
    return re.search(pattern, f"{file.path.stem} {file.name}".lower()) is not None


def _names(files: list[CsdFile]) -> str:
    return ", ".join(file.path.name for file in files) or "none"


def _one(folder: Path, role: str, files: list[CsdFile]) -> CsdFile | None:
    if len(files) > 1:
        remedy = f"choose one with --features {role}=NAME" if role in MODALITIES else "move the others elsewhere"
        raise Refusal(folder, f"one .csd with {role}", _names(files), remedy)
    return files[0] if files else None


def _choose(folder: Path, files: list[CsdFile], features: dict[str, str]) -> dict[str, CsdFile]:
    chosen = {}
    if unknown := features.keys() - set(MODALITIES):
        raise Refusal(folder, f"modalities {', '.join(MODALITIES)}", ", ".join(sorted(unknown)), "name one of those")
    for modality in MODALITIES:
        if modality in features:
            fitting = [file for file in files if file.path.stem == features[modality].removesuffix(".csd")]
            if not fitting:
                raise Refusal(folder, f"{features[modality]}.csd", _names(files), "name a file that is there")
        else:
            fitting = [file for file in files if _is_called(file, _NAMES[modality])]
        if file := _one(folder, modality, fitting):
            chosen[modality] = file
    return chosen


def _segments(labels: CsdFile, reference: CsdFile, words: CsdFile | None) -> tuple[list[Segment], list[str]]:
    """The segments that have words. The others are left out: without words there is nothing to align frames to."""
    segments, empty = [], 0
    for key in sorted(labels.keys, key=_video_and_clip):
        intervals, values = labels.rows([key])  # a clip's number is that of its row, as in the SDK
        exact = "[" in key
        if exact and len(values) != 1:
            raise Refusal(labels.path, f"one row of labels for '{key}'", f"{len(values)}", "align the labels again")
        for clip in range(len(values)):
            name = key if exact else f"{key}[{clip}]"
            steps, rows = _words_of(name, exact, intervals[clip], reference, words)
            if len(rows):
                segments.append(Segment(name, exact, intervals[clip], values[clip], steps, rows))
            else:
                empty += 1
    if not segments:
        raise Refusal(reference.path, "words of the labelled videos", "none", "check that the files belong together")
    return segments, [f"{empty} labelled segments without words were left out."] if empty else []


def _video_and_clip(key: str) -> tuple[str, int]:
    video, _, clip = key.partition("[")
    return video, int(clip.removesuffix("]")) if clip.removesuffix("]").isdigit() else 0


def _words_of(
    key: str, exact: bool, interval: NDArray[Any], reference: CsdFile, words: CsdFile | None
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Intervals (W, 2) of a segment's words, and their rows in the reference; pauses and instants are no words."""
    steps, _ = reference.entry(key, exact)
    rows = np.flatnonzero(overlapping(interval, steps) & (steps[:, 1] - steps[:, 0] > INSTANT))
    if words is not None:
        times, tokens = words.entry(key, exact)
        near = np.flatnonzero(overlapping(interval, times))
        pauses = {tuple(np.round(times[i], 4)) for i in near if _text(tokens[i]) == _PAUSE}
        rows = np.array([row for row in rows if tuple(np.round(steps[row], 4)) not in pauses], dtype=np.intp)
    return steps[rows], rows


def _text(token: NDArray[Any]) -> str:
    first = token[0]
    return first.decode("utf-8", "replace") if isinstance(first, bytes) else str(first)


def _sentence(words: CsdFile, segment: Segment) -> str:
    intervals, tokens = words.entry(segment.key, segment.exact)
    spoken = [_text(token) for token in tokens[overlapping(segment.interval, intervals)]]
    return " ".join(word for word in spoken if word != _PAUSE)


def _target(labels: CsdFile, segments: list[Segment], task: Task) -> NDArray[Any]:
    """Sentiment is the first column. An emotion is present if its intensity exceeds 0."""
    values = np.stack([segment.label for segment in segments])
    columns = _columns(labels, values.shape[1])
    if isinstance(task, Regression) and (values.shape[1] == 1 or columns[:1] == ["sentiment"]):
        return values[:, 0]
    if not isinstance(task, MultiLabel) or not set(task.classes) <= set(columns):
        found = f"columns {', '.join(columns)}" if columns else f"{values.shape[1]} columns without names"
        raise Refusal(labels.path, f"labels for {task.kind}", found, "choose the corpus of these labels with --as")
    return (values[:, [columns.index(name) for name in task.classes]] > 0).astype(np.float32)


def _columns(labels: CsdFile, count: int) -> list[str]:
    names = labels.column_names()
    if len(names) == count:
        return [str(name).lower() for name in names]
    return list(_MOSEI) if count == len(_MOSEI) else []


def _read_splits(folder: Path, videos: list[str]) -> NDArray[np.int8]:
    file = next((folder / name for name in _SPLIT_FILES if (folder / name).is_file()), None)
    remedy = 'write splits.json: {"train": [videos], "valid": [videos], "test": [videos]}; the SDK lists standard folds'
    if file is None:
        found = f"neither {' nor '.join(_SPLIT_FILES)}"
        raise Refusal(folder, "the split of each video, which .csd files do not contain", found, remedy)
    with reading(file, "lists of videos", remedy):
        splits = (json.loads if file.suffix == ".json" else from_yaml)(file.read_text(encoding="utf-8"))
    lists = {name for name, videos in splits.items() if isinstance(videos, list)} if isinstance(splits, dict) else set()
    if lists != set(SPLITS):
        found = f"lists named {', '.join(sorted(map(str, lists))) or 'nothing'}"
        raise Refusal(file, f"lists named {', '.join(SPLITS)}", found, remedy)
    split_of: dict[str, str] = {}
    for split in SPLITS:
        for video in map(str, splits[split]):
            if split_of.setdefault(video, split) != split:
                raise Refusal(file, "each video in one split", f"'{video}' in {split_of[video]} and {split}", remedy)
    for split in SPLITS:
        if not any(split_of.get(video) == split for video in videos):
            raise Refusal(file, f"videos of '{split}' that have labels", "none", "check the names of the videos")
    return partition_from([split_of.get(video, "") for video in videos])

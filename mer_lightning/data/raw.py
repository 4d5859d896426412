"""What readers of other formats return, before it is written in the native form.

Sequences are read in chunks, so that no corpus has to be in memory as a whole; only their lengths are known beforehand.

Shapes: N samples, L longest sequence, D width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mer_lightning.errors import Refusal, reading
from mer_lightning.tasks import Task

Alignment = Literal["aligned", "unaligned", "utterance"]
Padding = Literal["front", "end", "none"]
SPLITS = ("train", "valid", "test")
_CHUNK_BYTES = 16 * 2**20
SENTENCE = "sentence"  # the column of what was said
UNUSED = -1  # a sample that belongs to no split of a partition


class Sequences(ABC):
    """One modality of N samples, of different lengths; a length of 0 means that the sample lacks the modality."""

    lengths: NDArray[np.int64]
    width: int

    @abstractmethod
    def packed(self, start: int, stop: int) -> NDArray[Any]:
        """(sum(lengths[start:stop]), D): the steps of some samples without padding, one sample after the other."""

    def __len__(self) -> int:
        return len(self.lengths)


class PaddedSequences(Sequences):
    """(N, L, D) padded at the end, or with ``front=True`` at the beginning."""

    def __init__(self, values: NDArray[Any], lengths: NDArray[Any], front: bool = False) -> None:
        self.values, self.front = values, front
        self.lengths = np.asarray(lengths, dtype=np.int64)
        self.width = values.shape[2]

    def packed(self, start: int, stop: int) -> NDArray[Any]:
        steps = np.arange(self.values.shape[1])
        lengths = self.lengths[start:stop, None]
        keep = steps >= self.values.shape[1] - lengths if self.front else steps < lengths
        return np.asarray(self.values[start:stop])[keep]


class PackedSequences(Sequences):
    """(sum of lengths, D): the samples one after the other."""

    def __init__(self, values: NDArray[Any], lengths: NDArray[Any]) -> None:
        self.values, self.width = values, values.shape[1]
        self.lengths = np.asarray(lengths, dtype=np.int64)
        self._starts = np.concatenate([[0], np.cumsum(self.lengths)])

    def packed(self, start: int, stop: int) -> NDArray[Any]:
        return self.values[self._starts[start] : self._starts[stop]]


class LoadedSequences(Sequences):
    """Sequences that a function fetches one by one: ``load(i)`` gives (lengths[i], D)."""

    def __init__(self, load: Callable[[int], NDArray[Any]], lengths: Sequence[int], width: int) -> None:
        self.load, self.width = load, width
        self.lengths = np.asarray(lengths, dtype=np.int64)

    def packed(self, start: int, stop: int) -> NDArray[Any]:
        parts = [np.asarray(self.load(i)).reshape(-1, self.width) for i in range(start, stop) if self.lengths[i]]
        return np.concatenate(parts) if parts else np.zeros((0, self.width), np.float32)


class JoinedSequences(Sequences):
    """Several sequences one after the other, e.g. the splits of a file."""

    def __init__(self, parts: Sequence[Sequences]) -> None:
        self.parts = list(parts)
        self.lengths = np.concatenate([part.lengths for part in parts])
        self.width = parts[0].width
        self._starts = np.cumsum([0] + [len(part) for part in parts])

    def packed(self, start: int, stop: int) -> NDArray[Any]:
        pieces = []
        for part, first in zip(self.parts, self._starts, strict=False):
            low, high = max(start - first, 0), min(stop - first, len(part))
            if low < high:
                pieces.append(part.packed(int(low), int(high)))
        return np.concatenate(pieces) if pieces else np.zeros((0, self.width), np.float32)


def chunks(source: Path, modality: str, sequences: Sequences) -> Iterator[tuple[int, NDArray[Any]]]:
    """(samples done, packed steps) in pieces of about 16 MiB of float32; a Refusal if they do not have the lengths."""
    longest = max(int(sequences.lengths.max()), 1)
    step = max(_CHUNK_BYTES // (4 * longest * sequences.width), 1)
    for start in range(0, len(sequences), step):
        stop = min(start + step, len(sequences))
        with reading(source, f"the {modality} of its samples"):
            chunk = sequences.packed(start, stop)
        needed = (int(sequences.lengths[start:stop].sum()), sequences.width)
        if chunk.shape != needed:
            expected = f"{needed[0]} steps of width {needed[1]} in {modality} of samples {start} to {stop - 1}"
            raise Refusal(source, expected, f"shape {chunk.shape}", "check the lengths")
        yield stop, chunk


@dataclass
class RawCorpus:
    """A corpus as a reader returns it. The samples of all splits are in one list."""

    format: str  # the reader's name
    source: Path
    task: Task
    alignment: Alignment
    features: dict[str, Sequences]  # {modality: N sequences}; a modality may be missing from the dict
    feature_set: dict[str, str]  # {modality: what its features are}, "bert 768" or "covarep 74"
    target: NDArray[Any]  # (N,) float or int, (N, C) of 0 and 1, or (N, T) ratings
    ids: list[str]
    partitions: dict[str, NDArray[np.int8]]  # {name: (N,) index into SPLITS, or UNUSED}
    groups: list[str]  # video or dialogue of each sample: what must not be in two splits
    columns: dict[str, list[str]] = field(default_factory=dict)  # more about each sample: "sentence", "speaker"
    extras: dict[str, NDArray[Any]] = field(default_factory=dict)  # further (N, ...) arrays: token ids, unimodal labels
    padding: Padding = "none"  # where the file pads; the native form never does
    notes: list[str] = field(default_factory=list)  # remarks about this file for people

    def __len__(self) -> int:
        return len(self.ids)

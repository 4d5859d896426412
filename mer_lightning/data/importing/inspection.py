"""Counts what is in a feature file, because most files of this field have no documentation.

Shapes: N samples, D width.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mer_lightning.data.corpus import CARD, Corpus, open_corpus
from mer_lightning.data.importing.base import detect, read_raw, whats_missing
from mer_lightning.data.importing.contents import Contents, contents_of
from mer_lightning.data.raw import SPLITS, PackedSequences, RawCorpus, Sequences, chunks
from mer_lightning.errors import Refusal
from mer_lightning.modalities import MODALITIES
from mer_lightning.tasks import Ratings
from mer_lightning.yaml_text import from_yaml

Progress = Callable[[int, int], None]


@dataclass
class ModalityFindings:
    """One modality over all samples of the file."""

    width: int
    shortest: int
    mean_length: float
    longest: int
    absent_samples: int  # without a single step
    all_zero_samples: int  # with steps, all of them zero
    constant_columns: int
    non_finite: dict[str, dict[str, int]] = field(default_factory=dict)  # {split: {"-inf": count}}


@dataclass
class Findings:
    path: str
    format: str
    alignment: str
    padding: str
    samples: int
    task: dict[str, Any]
    partitions: dict[str, dict[str, int]]
    modalities: dict[str, ModalityFindings]
    labels: dict[str, dict[str, int]]  # {split of the first partition: {label: count}}
    bad_labels: int  # not finite
    duplicate_ids: list[str]
    shared_groups: dict[str, list[str]]  # {"train and test of official": videos or dialogues in both}
    shared_speakers: dict[str, list[str]]
    sha256: str | None
    known_as: str | None  # a published file with this checksum
    notes: list[str]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def inspect_any(path: Path, progress: Progress | None = None) -> Findings | Contents:
    """Of a file that no reader reads: what is in it, and what is missing."""
    try:
        return inspect_path(path, progress)
    except Refusal:
        if not path.exists() or (path / CARD).is_file():
            raise
    contents = contents_of(path)
    contents.missing = whats_missing(path)
    return contents


def inspect_path(path: Path, progress: Progress | None = None) -> Findings:
    """Inspect any file or folder whose format a reader knows, or an imported corpus."""
    native = (path / CARD).is_file()
    raw = _raw_from(open_corpus(path), path) if native else read_raw(detect(path), path, None, {})
    partition = next(iter(raw.partitions.values()), np.full(len(raw), -1, np.int8))
    sha256, known_as = _checksums(path)
    return Findings(
        path=path.name,
        format=raw.format,
        alignment=raw.alignment,
        padding=raw.padding,
        samples=len(raw),
        task=raw.task.card(),
        partitions={
            name: {split: int((part == number).sum()) for number, split in enumerate(SPLITS)}
            for name, part in raw.partitions.items()
        },
        modalities={
            modality: _modality(raw, modality, sequences, partition, progress)
            for modality, sequences in raw.features.items()
        },
        labels={
            split: _histogram(raw, np.asarray(partition) == number)
            for number, split in enumerate(SPLITS)
            if (np.asarray(partition) == number).any()
        },
        bad_labels=int((~np.isfinite(raw.target.reshape(len(raw), -1).astype(float)).all(axis=1)).sum()),
        duplicate_ids=sorted(key for key, count in Counter(raw.ids).items() if count > 1),
        shared_groups=_shared(raw.groups, raw.partitions),
        shared_speakers=_shared(raw.columns.get("speaker", []), raw.partitions),
        sha256=sha256,
        known_as=known_as,
        notes=list(raw.notes),
    )


def _modality(
    raw: RawCorpus, modality: str, sequences: Sequences, partition: NDArray[np.int8], progress: Progress | None
) -> ModalityFindings:
    non_finite: dict[str, Counter[str]] = {}
    all_zero = 0
    lowest = np.full(sequences.width, np.inf)
    highest = np.full(sequences.width, -np.inf)
    start = 0
    for stop, frames in chunks(raw.source, modality, sequences):
        lengths = sequences.lengths[start:stop]
        owner = np.repeat(np.arange(start, stop), lengths)
        if not np.isfinite(frames).all():
            for name, bad in (("-inf", np.isneginf), ("+inf", np.isposinf), ("nan", np.isnan)):
                for row, count in zip(owner, bad(frames).sum(axis=1), strict=True):
                    if count:
                        split = SPLITS[partition[row]] if partition[row] >= 0 else "unused"
                        non_finite.setdefault(split, Counter())[name] += int(count)
            frames = np.nan_to_num(frames, nan=0.0, posinf=0.0, neginf=0.0)
        if len(frames):
            lowest, highest = np.minimum(lowest, frames.min(axis=0)), np.maximum(highest, frames.max(axis=0))
        non_zero = np.bincount(owner - start, weights=frames.any(axis=1), minlength=stop - start) > 0
        all_zero += int(((lengths > 0) & ~non_zero).sum())
        start = stop
        if progress:
            number = list(raw.features).index(modality)
            progress(number * len(raw) + stop, len(raw.features) * len(raw))
    return ModalityFindings(
        width=sequences.width,
        shortest=int(sequences.lengths.min()),
        mean_length=float(sequences.lengths.mean()),
        longest=int(sequences.lengths.max()),
        absent_samples=int((sequences.lengths == 0).sum()),
        all_zero_samples=all_zero,
        constant_columns=int((lowest == highest).sum()),
        non_finite={split: dict(counts) for split, counts in non_finite.items()},
    )


def _histogram(raw: RawCorpus, rows: NDArray[np.bool_]) -> dict[str, int]:
    """How often each label occurs. Numbers are sorted into seven grades; a sample may have several labels."""
    target = raw.target[rows]
    if isinstance(raw.task, Ratings):
        return _rating_histogram(raw.task, target.reshape(len(target), -1))
    if raw.task.kind == "regression":
        limit = raw.task.limit  # type: ignore[attr-defined]
        grades = np.rint(np.clip(target[np.isfinite(target)] / limit, -1, 1) * 3).astype(int)
        return {f"{grade * limit / 3:+g}": int((grades == grade).sum()) for grade in range(-3, 4)}
    classes = raw.task.classes  # type: ignore[attr-defined]
    if raw.task.kind == "single_label":
        return {name: int((target == number).sum()) for number, name in enumerate(classes)}
    return {name: int(target[:, number].sum()) for number, name in enumerate(classes)}


def _rating_histogram(task: Ratings, target: NDArray[Any]) -> dict[str, int]:
    """Seven equal stretches of each target's range, by their middles."""
    found: dict[str, int] = {}
    for name, low, high, column in zip(task.targets, task.low, task.high, target.T, strict=True):
        step = (high - low) / 6
        grades = np.rint((column[np.isfinite(column)] - low) / step)
        title = f"{name} " if len(task.targets) > 1 else ""
        found |= {f"{title}{low + grade * step:g}": int((grades == grade).sum()) for grade in range(7)}
    return found


def _shared(names: list[str], partitions: dict[str, NDArray[np.int8]]) -> dict[str, list[str]]:
    """{two splits of a partition: names of samples that occur in both}; empty where the samples have no names."""
    shared = {}
    for title, partition in partitions.items() if names else ():
        members = {split: {names[row] for row in np.flatnonzero(partition == n)} for n, split in enumerate(SPLITS)}
        for first, second in itertools.combinations(SPLITS, 2):
            if both := (members[first] & members[second]) - {""}:
                shared[f"{first} and {second} of {title}"] = sorted(both)
    return shared


def _checksums(path: Path) -> tuple[str | None, str | None]:
    """SHA-256 of a file, and the name of the published file with the same SHA-1."""
    if not path.is_file():
        return None, None
    digests = [hashlib.sha256(), hashlib.sha1(usedforsecurity=False)]
    with open(path, "rb") as file:
        while piece := file.read(2**22):
            for digest in digests:
                digest.update(piece)
    known: dict[str, str] = from_yaml(Path(__file__).with_name("known_files.yaml").read_text())
    sha1 = digests[1].hexdigest()
    return digests[0].hexdigest(), next((name for prefix, name in known.items() if sha1.startswith(prefix)), None)


def _raw_from(corpus: Corpus, path: Path) -> RawCorpus:
    """An imported corpus in the form that readers return."""
    tensors = corpus.tensors
    samples = corpus.samples
    assert corpus.target is not None
    features: dict[str, Sequences] = {
        m: PackedSequences(tensors[f"{m}.values"].numpy(), np.diff(tensors[f"{m}.offsets"].numpy()))
        for m in MODALITIES
        if m in corpus.dims
    }
    return RawCorpus(
        format="mer_lightning",
        source=path,
        task=corpus.task,
        alignment=corpus.card.alignment,
        features=features,
        feature_set=corpus.card.feature_set,
        target=corpus.target.numpy(),
        ids=list(samples["id"]),
        partitions={name: tensors[f"partition.{name}"].numpy() for name in corpus.card.partitions},
        groups=list(samples["group"]),
        columns={"speaker": samples["speaker"].astype(str).tolist()} if "speaker" in samples else {},
        notes=corpus.card.notes,
    )

"""Writing a corpus in its native form: checked, cleaned, in chunks, and complete or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from mer_lightning.data.corpus import CARD, SAMPLES, TENSORS, CorpusCard, TwinFacts, map_tensors
from mer_lightning.data.nonfinite import Nonfinite, as_float32, repaired
from mer_lightning.data.raw import SPLITS, UNUSED, RawCorpus, chunks
from mer_lightning.data.verification import fingerprint
from mer_lightning.errors import Refusal
from mer_lightning.modalities import MODALITIES
from mer_lightning.tasks import Ratings

IMPORTER_VERSION = 1
_WIDEST = 10**6
_ROUNDING = 1e-4  # by which a label may be beyond its scale
_DTYPES = {"float32": "F32", "int64": "I64", "int32": "I32", "int8": "I8"}

Progress = Callable[[int, int], None]  # (samples written, samples in all)


def write_corpus(
    raw: RawCorpus,
    folder: str | Path,
    name: str,
    twin: TwinFacts | None = None,
    progress: Progress | None = None,
    nonfinite: Nonfinite = "median",
    allow_missing_labels: bool = False,
) -> CorpusCard:
    """Write ``raw`` to ``folder``, replacing what is there, in memory of a few chunks beside what the reader holds.

    ``twin`` is given for a synthetic corpus, and marks it as one.
    """
    check(raw, allow_missing_labels)
    folder = Path(folder)
    _refuse_other_content(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    private = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    staging = private / "corpus"  # a folder inside, because mkdtemp's own is readable by its owner only
    try:
        staging.mkdir()
        first = next(iter(raw.partitions.values()), None)
        training = np.ones(len(raw), bool) if first is None else np.asarray(first) == SPLITS.index("train")
        features, counts = repaired(raw.source, raw.features, nonfinite, training, raw.alignment)
        raw = replace(raw, features=features)
        sha256 = _write_tensors(raw, staging / TENSORS, progress)
        _write_samples(raw, staging / SAMPLES)
        card = CorpusCard(
            name=name,
            alignment=raw.alignment,
            task=raw.task.card(),
            feature_set={m: raw.feature_set[m] for m in MODALITIES if m in raw.features},
            dims={m: raw.features[m].width for m in MODALITIES if m in raw.features},
            samples=len(raw),
            partitions={
                key: {split: int((part == number).sum()) for number, split in enumerate(SPLITS)}
                for key, part in raw.partitions.items()
            },
            sha256=sha256,
            fingerprint=fingerprint(map_tensors(staging / TENSORS)),
            source={
                "file": raw.source.name,
                "format": raw.format,
                "importer_version": IMPORTER_VERSION,
                "sha256": _sha256_of(raw.source),
            },
            cleaned=counts,
            nonfinite=nonfinite if counts else "",
            notes=list(raw.notes),
            synthetic=twin is not None,
            **(vars(twin) if twin else {}),
        )
        (staging / CARD).write_text(card.dump(), encoding="utf-8")
        replace_folder(staging, folder)
    finally:
        shutil.rmtree(private, ignore_errors=True)
    return card


def replace_folder(staging: Path, folder: Path) -> None:
    """Put ``staging`` in the place of ``folder`` by renaming. Only a corpus folder is replaced, nothing else."""
    _refuse_other_content(folder)
    if not folder.exists():
        os.replace(staging, folder)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
    try:
        os.replace(folder, old / "corpus")
        try:
            os.replace(staging, folder)
        except OSError:
            os.replace(old / "corpus", folder)
            raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _refuse_other_content(folder: Path) -> None:
    if folder.exists() and not (folder / CARD).exists() and (not folder.is_dir() or any(folder.iterdir())):
        found = "a folder with other files in it" if folder.is_dir() else "a file"
        raise Refusal(folder, "an empty place or an older import", found, "choose another folder with -o")


def check(raw: RawCorpus, allow_missing_labels: bool = False) -> None:
    """Refuse what would fail later, or give wrong results."""
    n = len(raw)

    def refuse(expected: str, found: str, remedy: str) -> None:
        raise Refusal(raw.source, expected, found, remedy)

    if n == 0:
        refuse("at least one sample", "none", "check that this is the right file")
    if not raw.features:
        refuse("features of at least one modality", "none", "check that this is the right file")
    columns: dict[str, Any] = {"group": raw.groups, **raw.columns, **raw.extras, **raw.partitions}
    for name, values in columns.items():
        if len(values) != n:
            refuse(f"{n} values of {name}", f"{len(values)}", "check how the file was made")
    for modality, sequences in raw.features.items():
        if len(sequences) != n:
            refuse(f"{n} samples of {modality}", f"{len(sequences)}", "check how the file was made")
        if sequences.width > _WIDEST:
            refuse(f"{modality} of width {_WIDEST} or less", str(sequences.width), "check how the file was made")
        if sequences.lengths.min() < 0:
            refuse(f"{modality} lengths of 0 or more", str(int(sequences.lengths.min())), "check how the file was made")
    if len(raw.target) != n:
        refuse(f"{n} labels", f"{len(raw.target)}", "check how the file was made")
    _check_labels(raw, allow_missing_labels, refuse)
    duplicates = [key for key, count in Counter(raw.ids).items() if count > 1]
    if duplicates:
        refuse("each id once", f"'{duplicates[0]}' and {len(duplicates) - 1} more ids repeated", "make the ids unique")
    for name, partition in raw.partitions.items():
        for number, split in enumerate(SPLITS):
            if not (np.asarray(partition) == number).any():
                refuse(f"samples in split '{split}' of partition '{name}'", "none", "check how the file was made")


def _check_labels(raw: RawCorpus, allow_missing: bool, refuse: Callable[[str, str, str], None]) -> None:
    n, target, task = len(raw), raw.target, raw.task
    labels = target.reshape(n, -1).astype(np.float64)
    may_miss = isinstance(task, Ratings)
    accepted = np.isfinite(labels) | (np.isnan(labels) if allow_missing and may_miss else False)
    bad = np.flatnonzero(~accepted.all(axis=1))
    if len(bad):
        remedy = "remove those samples or repair their labels"
        if may_miss:
            remedy = "add --allow_missing_labels to leave missing ones out of losses and metrics, or remove the samples"
        refuse(
            "a finite label for every sample", f"{len(bad)} of {n} not finite, the first '{raw.ids[bad[0]]}'", remedy
        )
    if task.kind in ("single_label", "multi_label"):
        single = task.kind == "single_label"
        shape, values = ((n,), range(task.outputs)) if single else ((n, task.outputs), (0, 1))
        if target.shape != shape or not np.isin(target, values).all():
            expected = f"whole labels 0 to {task.outputs - 1}, one per sample"
            if not single:
                expected = f"0 or 1 for each of {task.outputs} classes"
            refuse(expected, f"{target.min()} to {target.max()}, of shape {target.shape}", "check the label scheme")
        return
    shape = (n, task.outputs) if task.outputs > 1 else (n,)
    if target.shape != shape:
        expected = (
            f"{task.outputs} numbers per sample as labels" if task.outputs > 1 else "one number per sample as label"
        )
        refuse(expected, f"shape {target.shape}", "check the label scheme")
    low, high = (task.low, task.high) if isinstance(task, Ratings) else ((-task.limit,), (task.limit,))  # type: ignore[attr-defined]
    for lowest, highest, column in zip(low, high, labels.T, strict=True):
        known = column[~np.isnan(column)]
        outside = known[(known < lowest - _ROUNDING) | (known > highest + _ROUNDING)]
        if len(outside):
            found = f"{len(outside)} of {n} outside, such as {outside[0]:g}"
            remedy = "check which corpus this is, or import it under a name of your own: --as other"
            refuse(f"labels from {lowest:g} to {highest:g}", found, remedy)


def carve_valid(
    partition: NDArray[np.int8], groups: list[str], fraction: float = 0.15, seed: int = 0
) -> NDArray[np.int8]:
    """Move whole groups (videos, dialogues) from train to valid until about ``fraction`` of train has moved.

    For corpora with train and test only: checkpoints are chosen on a validation set that is neither (rule 1).
    """
    partition = partition.copy()
    train = np.flatnonzero(partition == SPLITS.index("train"))
    members: dict[str, list[int]] = {}
    for row in train:
        members.setdefault(groups[row], []).append(int(row))
    names = sorted(members)
    moved = 0
    for position in np.random.default_rng(seed).permutation(len(names))[:-1]:  # train keeps one, however large
        if moved >= fraction * len(train):
            break
        rows = members[names[position]]
        partition[rows] = SPLITS.index("valid")
        moved += len(rows)
    return partition


def partition_from(splits: list[str]) -> NDArray[np.int8]:
    """Split names, one per sample ('' for none), as the numbers of a partition."""
    return np.array([SPLITS.index(split) if split else UNUSED for split in splits], dtype=np.int8)


def _write_tensors(raw: RawCorpus, path: Path, progress: Progress | None) -> str:
    """Write a safetensors file as a stream, header first, and return its SHA-256.

    The writer of the library safetensors takes all tensors at once, so that the features would have to be in memory, or
    in a second file of the same size. It also orders tensors and spells the header in another way, so that the same
    corpus would have another SHA-256 than the one that older cards and results carry. One pass with a chunk in memory
    writes and hashes; ``safe_open`` of the library reads the file.
    """
    small: dict[str, NDArray[Any]] = {"target": _target(raw)}
    for modality, sequences in raw.features.items():
        small[f"{modality}.offsets"] = np.concatenate([[0], np.cumsum(sequences.lengths)]).astype(np.int64)
    small |= {f"extra.{name}": _plain(values) for name, values in raw.extras.items()}
    small |= {f"partition.{name}": np.asarray(values, np.int8) for name, values in raw.partitions.items()}
    # Widest elements first, so that every tensor starts at a multiple of its element size.
    order = sorted(small, key=lambda name: -small[name].dtype.itemsize)
    shapes = {f"{m}.values": (int(s.lengths.sum()), s.width) for m, s in raw.features.items()}

    header: dict[str, Any] = {}
    position = 0

    def reserve(name: str, dtype: str, shape: tuple[int, ...]) -> None:
        nonlocal position
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        header[name] = {"dtype": _DTYPES[dtype], "shape": list(shape), "data_offsets": [position, position + size]}
        position += size

    wide = [name for name in order if small[name].dtype.itemsize >= 4]
    narrow = [name for name in order if small[name].dtype.itemsize < 4]
    for name in wide:
        reserve(name, small[name].dtype.name, small[name].shape)
    for name, shape in shapes.items():
        reserve(name, "float32", shape)
    for name in narrow:
        reserve(name, small[name].dtype.name, small[name].shape)

    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        hashed = _Hashed(file)
        hashed.write(len(text).to_bytes(8, "little") + text)
        for name in wide:
            hashed.write(np.ascontiguousarray(small[name]).data)
        for number, (modality, sequences) in enumerate(raw.features.items()):
            for done, chunk in chunks(raw.source, modality, sequences):
                hashed.write(as_float32(chunk).data)
                if progress:
                    progress(number * len(raw) + done, len(raw.features) * len(raw))
        for name in narrow:
            hashed.write(np.ascontiguousarray(small[name]).data)
        file.flush()
        os.fsync(file.fileno())
    return hashed.hexdigest()


class _Hashed:
    """A file that computes the SHA-256 of what is written to it."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.digest = file, hashlib.sha256()

    def write(self, data: Any) -> None:
        self.file.write(data)
        self.digest.update(data)

    def hexdigest(self) -> str:
        return self.digest.hexdigest()


def _target(raw: RawCorpus) -> NDArray[Any]:
    return raw.target.astype(np.int64 if raw.task.kind == "single_label" else np.float32)


def _plain(values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype.kind == "f":
        return values.astype(np.float32)
    small = values.size == 0 or (values.min() >= -(2**31) and values.max() < 2**31)
    return values.astype(np.int32 if small else np.int64)


def _write_samples(raw: RawCorpus, path: Path) -> None:
    import pandas as pd

    pd.DataFrame({"id": raw.ids, "group": raw.groups, **raw.columns}).to_parquet(path, index=False)


def _sha256_of(source: Path) -> str | None:
    """The SHA-256 of a file; None for a folder of features, whose tensors have a SHA-256 on the card."""
    if not source.is_file():
        return None
    with open(source, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

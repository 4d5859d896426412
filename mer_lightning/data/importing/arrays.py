"""Turns the values of other people's files into arrays, strings and sequences, whatever types they have there.

Such files hold lists where one expects arrays, bytes or arrays of one element where one expects strings, and padding
instead of lengths.

Shapes: N samples, L longest sequence, D width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mer_lightning.data.importing.unpickle import load_pickle
from mer_lightning.data.raw import SPLITS, JoinedSequences, PaddedSequences
from mer_lightning.errors import Refusal
from mer_lightning.tasks import Ratings, Regression

_CHUNK_BYTES = 16 * 2**20
_KNOWN_WIDTHS = {  # the feature sets of MMSA, MulT and MAG-BERT files, recognised by their widths
    ("text", 768): "bert",
    ("text", 300): "glove",
    ("audio", 5): "covarep",
    ("audio", 74): "covarep",
    ("vision", 20): "facet",
    ("vision", 35): "facet",
    ("vision", 47): "facet",
}


def feature_name(modality: str, width: int) -> str:
    """The name of a feature set, such as "covarep 74"; "audio 33" if the width is unknown."""
    return f"{_KNOWN_WIDTHS.get((modality, width), modality)} {width}"


def load_splits(path: Path, needed: Sequence[str]) -> dict[str, dict[str, Any]]:
    """A pickled dict of train, valid and test, each a dict that has the ``needed`` keys."""
    content = load_pickle(path)
    if not isinstance(content, dict) or not all(isinstance(content.get(split), dict) for split in SPLITS):
        found = f"the keys {', '.join(map(str, content))}" if isinstance(content, dict) else type(content).__name__
        raise Refusal(path, f"a dict with the dicts {', '.join(SPLITS)}", found, "check that this is the right file")
    for split in SPLITS:
        if missing := [key for key in needed if key not in content[split]]:
            found = f"only {', '.join(sorted(map(str, content[split])))}"
            raise Refusal(path, f"'{missing[0]}' in '{split}'", found, "check how the file was made")
    return {split: content[split] for split in SPLITS}


def numbers(where: Path, name: str, value: Any, samples: int | None = None) -> NDArray[Any]:
    """An array of numbers, without copying one; lists and arrays of arrays are stacked."""
    try:
        array = np.asarray(value.tolist() if isinstance(value, np.ndarray) and value.dtype == object else value)
    except ValueError as error:
        raise Refusal(where, f"arrays of one shape in {name}", str(error), "pad them to one length") from error
    if array.dtype.kind not in "biuf":
        raise Refusal(where, f"numbers in {name}", f"{array.dtype}", "check how the file was made")
    if samples is not None and (array.ndim == 0 or len(array) != samples):
        raise Refusal(where, f"{samples} samples in {name}", f"shape {array.shape}", "check how the file was made")
    return array


def padded_numbers(where: Path, name: str, value: Any, samples: int) -> NDArray[Any]:
    """(N, L, D)"""
    array = numbers(where, name, value, samples)
    if array.ndim != 3 or 0 in array.shape[1:]:
        raise Refusal(where, f"(samples, steps, width) in {name}", f"shape {array.shape}", "check how it was made")
    return array


def per_sample(where: Path, name: str, value: Any, samples: int) -> NDArray[Any]:
    """(N,) numbers, from (N,), (N, 1) or (N, 1, 1)."""
    array = numbers(where, name, value, samples)
    if array.size != samples:
        raise Refusal(where, f"one number per sample in {name}", f"shape {array.shape}", "check how the file was made")
    return array.reshape(samples)


def string(value: Any) -> str:
    """Also from bytes, and from a list or an array with one element."""
    while isinstance(value, np.ndarray | list | tuple) and np.size(value) == 1:
        value = value.item() if isinstance(value, np.ndarray) else value[0]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def strings(where: Path, name: str, values: Any, samples: int | None = None) -> list[str]:
    if not isinstance(values, list | tuple | np.ndarray) or np.shape(values) == ():
        raise Refusal(where, f"a list of strings in {name}", type(values).__name__, "check how the file was made")
    if samples is not None and len(values) != samples:
        raise Refusal(where, f"{samples} strings in {name}", f"{len(values)}", "check how the file was made")
    return [string(value) for value in values]


def lengths_without_padding(values: Mapping[str, NDArray[Any]], front: bool = False) -> dict[str, NDArray[np.int64]]:
    """{modality: (N,)} steps that remain without the all-zero steps at the end, or at the front, of (N, L, D).

    If all arrays have the same L, they are aligned step by step. Then each sample gets the longest of its lengths in
    all modalities, because different lengths would move the steps of one modality against those of another. A sample
    that is all zero keeps one step: it counts as present, with features of zero.
    """
    own = {modality: _steps_without_padding(array, front) for modality, array in values.items()}
    if len({array.shape[1] for array in values.values()}) == 1:
        longest: NDArray[np.int64] = np.maximum.reduce(list(own.values()))
        return dict.fromkeys(own, longest)
    return own


def _steps_without_padding(values: NDArray[Any], front: bool) -> NDArray[np.int64]:
    steps = values.shape[1]
    lengths = np.ones(len(values), np.int64)
    rows = max(_CHUNK_BYTES // max(values[:1].nbytes, 1), 1)
    for start in range(0, len(values), rows):
        data = (values[start : start + rows] != 0).any(axis=2)
        padding = (data if front else data[:, ::-1]).argmax(axis=1)
        lengths[start : start + rows] = np.where(data.any(axis=1), steps - padding, 1)
    return lengths


def padded(where: Path, name: str, values: NDArray[Any], lengths: NDArray[Any], front: bool = False) -> PaddedSequences:
    """(N, L, D) with its lengths, which must not exceed L."""
    if lengths.dtype.kind == "f" and not (lengths == np.rint(lengths)).all():
        raise Refusal(where, f"whole numbers as lengths of {name}", "fractions", "check how the file was made")
    if len(lengths) and not 0 <= lengths.min() <= lengths.max() <= values.shape[1]:
        expected = f"lengths of 0 to {values.shape[1]}, the steps that {name} has"
        raise Refusal(where, expected, f"{lengths.min()} to {lengths.max()}", "check which file the lengths belong to")
    return PaddedSequences(values, lengths, front)


def joined(where: Path, modality: str, parts: Sequence[PaddedSequences]) -> JoinedSequences:
    """One modality of several splits."""
    widths = [part.width for part in parts]
    if len(set(widths)) > 1:
        found = " and ".join(map(str, widths))
        raise Refusal(where, f"{modality} of one width in all splits", found, "do not mix files of different features")
    return JoinedSequences(parts)


def task_for_numbers(
    labels: NDArray[Any], names: Sequence[str] = (), ranges: Sequence[tuple[float, float]] = ()
) -> Regression | Ratings:
    """A sentiment where single labels lie on both sides of 0 within 1 or 3; else ratings on scales of their own.

    ``names`` and ``ranges`` of the targets make them ratings, too. A range that is not given is that of the labels, up
    to the next whole numbers.
    """
    known = labels[np.isfinite(labels)]
    both_sides = known.size and known.min() < 0 < known.max()
    if labels.ndim == 1 and not names and not len(ranges) and both_sides:
        return sentiment_for(labels)
    return ratings_for(labels, names, ranges)


def sentiment_for(labels: NDArray[Any]) -> Regression | Ratings:
    """A sentiment on the smallest usual range that holds ``labels``: -1 to 1 as in SIMS, or -3 to 3 as in MOSI.

    Larger labels are no sentiment as this field rates it.
    """
    largest = np.nanmax(np.abs(labels), initial=0.0, where=np.isfinite(labels))
    limit = next((limit for limit in (1.0, 3.0) if largest <= limit), None)
    return Regression(limit) if limit else ratings_for(labels)


def ratings_for(labels: NDArray[Any], names: Sequence[str] = (), ranges: Sequence[tuple[float, float]] = ()) -> Ratings:
    columns = labels.reshape(len(labels), -1).T
    names = names or (["label"] if len(columns) == 1 else [f"label {number}" for number in range(1, len(columns) + 1)])
    if not len(ranges):
        ranges = [_range_of(column[np.isfinite(column)]) for column in columns]
    low, high = zip(*((float(low), float(high)) for low, high in ranges), strict=True)
    return Ratings(tuple(names), low, high)


def _range_of(labels: NDArray[Any]) -> tuple[float, float]:
    low, high = (float(np.floor(labels.min())), float(np.ceil(labels.max()))) if len(labels) else (0.0, 1.0)
    return low, max(high, low + 1)

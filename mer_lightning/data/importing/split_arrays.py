"""Arrays that are stored by split: {split: {text, audio, vision, labels, ids}}, in the names that files give them.

Shapes: N samples, L longest sequence, D width, T targets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mer_lightning.data.importing.arrays import numbers, strings
from mer_lightning.data.importing.own_corpus import SPLIT_NAMES, Arrays, texts
from mer_lightning.data.raw import SPLITS, JoinedSequences, PaddedSequences, Padding, Sequences
from mer_lightning.errors import Refusal
from mer_lightning.modalities import MODALITIES

_NAMES = {
    "text": ("text", "src-text", "language"),
    "audio": ("audio", "src-audio", "acoustic"),
    "vision": ("vision", "src-visual", "visual", "video"),
    "label": ("label", "labels", "y", "tgt", "target"),
    "ids": ("ids", "id"),
}
PLAIN_NAME = {given: name for name, all_of_it in _NAMES.items() for given in all_of_it}
_REMEDY = "check how the file was made"

Splits = dict[str, dict[str, Any]]  # {split: {text, audio, vision, label or ids: array}}


def plain_splits(path: Path, content: Mapping[Any, Mapping[Any, Any]]) -> Splits:
    """``content`` with our names of splits and arrays; what has another name is left out."""
    found: Splits = {}
    for split, arrays in content.items():
        if split not in SPLIT_NAMES:
            continue
        plain = {PLAIN_NAME[name]: values for name, values in arrays.items() if name in PLAIN_NAME}
        if SPLIT_NAMES[split] in found or len(plain) < sum(name in PLAIN_NAME for name in arrays):
            raise Refusal(path, "each split and each array once", f"another one in '{split}'", "remove one of them")
        found[SPLIT_NAMES[split]] = plain
    return {split: found[split] for split in SPLITS if split in found}


def joined_splits(path: Path, splits: Splits, notes: list[str]) -> tuple[Arrays, dict[str, Sequences], Padding]:
    """(ids, label and split of all samples, {modality: sequences}, where the arrays are padded).

    Where a modality has nothing but zeros in a sample, the sample lacks it, as it does in a split without the array.
    """
    if missing := [split for split, arrays in splits.items() if "label" not in arrays]:
        found = f"only {', '.join(splits[missing[0]])}"
        raise Refusal(path, f"labels of split {missing[0]}", found, f"name them {' or '.join(_NAMES['label'][:3])}")
    labels = {split: _labels(path, split, arrays["label"]) for split, arrays in splits.items()}
    if len({each.shape[1:] for each in labels.values()}) != 1:
        found = " and ".join(str(each.shape) for each in labels.values())
        raise Refusal(path, "labels of one shape in all splits", found or "no split", _REMEDY)
    counts = {split: len(each) for split, each in labels.items()}
    ids = [name for split, count in counts.items() for name in _ids(path, split, splits[split].get("ids"), count)]
    arrays = {
        "ids": texts(ids),
        "label": np.concatenate([*labels.values()]),
        "split": np.repeat([*counts], [*counts.values()]),
    }
    return arrays, *_features(path, splits, counts, notes)


def _labels(path: Path, split: str, values: Any) -> NDArray[Any]:
    label = numbers(path, f"labels of {split}", values)
    while label.ndim > 1 and label.shape[-1] == 1:
        label = label[..., 0]
    if label.ndim not in (1, 2):
        raise Refusal(path, "labels of shape (N,) or (N, T)", str(label.shape), _REMEDY)
    return label


def _ids(path: Path, split: str, values: Any, count: int) -> list[str]:
    if values is None:
        return [f"{split}-{number}" for number in range(count)]
    return strings(path, f"ids of {split}", values, count)


def _features(
    path: Path, splits: Splits, counts: Mapping[str, int], notes: list[str]
) -> tuple[dict[str, Sequences], Padding]:
    read: dict[str, Sequences] = {}
    steps = {
        (modality, split): _steps(path, f"{modality} of {split}", arrays[modality], counts[split])
        for modality in MODALITIES
        for split, arrays in splits.items()
        if modality in arrays
    }
    if not steps:
        raise Refusal(path, f"arrays of {', '.join(MODALITIES)}", "none of them", _REMEDY)
    front = _padded_in_front([*steps.values()])
    for modality in MODALITIES:
        own = {split: steps[modality, split] for split in splits if (modality, split) in steps}
        if not own:
            continue
        widths = {values.shape[2] for values in own.values()}
        if len(widths) != 1:
            found = " and ".join(map(str, sorted(widths)))
            raise Refusal(path, f"{modality} of one width in all splits", found, "do not mix different features")
        parts = []
        for split, count in counts.items():
            values = own.get(split, np.zeros((count, 1, *widths), np.float32))
            others = [each for (_, name), each in steps.items() if name == split]
            parts.append(PaddedSequences(values, _lengths(values, others, front), front))
        read[modality] = JoinedSequences(parts)
        if absent := int((read[modality].lengths == 0).sum()):
            notes.append(f"{absent} of {sum(counts.values())} samples have no {modality}: only zeros, or no array.")
    longest = max(values.shape[1] for values in steps.values())
    return read, "front" if front else "end" if longest > 1 else "none"


def _steps(path: Path, name: str, values: Any, samples: int) -> NDArray[Any]:
    """(N, L, D), of which (N, D) is one step each."""
    array = numbers(path, name, values, samples)
    array = array[:, None] if array.ndim == 2 else array
    if array.ndim != 3 or 0 in array.shape[1:]:
        raise Refusal(path, f"shape (N, D) or (N, L, D) in {name}", str(array.shape), _REMEDY)
    return array


def _padded_in_front(arrays: Sequence[NDArray[Any]]) -> bool:
    """Whether more sequences begin with a step of zeros than end with one."""
    begins, ends = (sum(int((~each[:, side].any(axis=1)).sum()) for each in arrays) for side in (0, -1))
    return begins > ends


def _lengths(values: NDArray[Any], others: Sequence[NDArray[Any]], front: bool) -> NDArray[np.int64]:
    """(N,) steps without the padding; those of the longest modality where all of the split have the same L."""
    aligned = all(each.shape[1] == values.shape[1] for each in others)
    lengths = np.max([_own_lengths(each, front) for each in others], axis=0) if aligned and others else None
    own = _own_lengths(values, front)
    return own if lengths is None else np.where(own > 0, lengths, 0)


def _own_lengths(values: NDArray[Any], front: bool) -> NDArray[np.int64]:
    data = (values != 0).any(axis=2)
    padding = (data if front else data[:, ::-1]).argmax(axis=1)
    return np.where(data.any(axis=1), values.shape[1] - padding, 0)

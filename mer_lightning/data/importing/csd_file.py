"""One file of the CMU-MultimodalSDK, and the means that align one file to another. Shapes: W words, F frames, D width.

HDF5: /<root name>/data/<id>/features (n, D) and /intervals (n, 2) in seconds, /<root name>/metadata. An id is a video,
or ``video[number]`` for a piece of one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mer_lightning.data.importing.hdf5 import H5File
from mer_lightning.errors import Refusal

INSTANT = 1e-5  # seconds; the SDK ignores shorter intervals and shorter overlaps


class CsdFile:
    """One .csd file, open."""

    def __init__(self, path: Path) -> None:
        self.path, self._file = path, H5File(path)
        roots = [root for root in self._file.names() if self._file.names(f"{root}/data")]
        if len(roots) != 1:
            expected = "one root group with something under data"
            raise Refusal(path, expected, f"the groups {', '.join(self._file.names()) or 'none'}", "copy it again")
        self.name = roots[0]
        self.keys = dict.fromkeys(self._file.names(f"{self.name}/data"))  # in the order of the file, quick to look up
        self.videos: dict[str, list[str]] = {}
        for key in self.keys:
            self.videos.setdefault(key.split("[")[0], []).append(key)
        first = self._dataset(next(iter(self.keys)), "features")
        self.holds_words = self._file.is_text(first)
        self.width = self._file.shape(first)[-1] if self._file.shape(first) else 0
        # The last entry that was read, because callers ask for all segments of a video one after the other.
        self._last: tuple[list[str] | None, Any] = None, None

    def entry(self, key: str, exact: bool) -> tuple[NDArray[Any], NDArray[Any]]:
        """Intervals and features, by time, of one segment (``exact``) or of its whole video."""
        keys = ([key] if key in self.keys else []) if exact else self.videos.get(key.split("[")[0], [])
        if self._last[0] != keys:
            times, values = self.rows(keys)
            order = np.argsort(times[:, 0], kind="stable")
            self._last = keys, (times[order], values[order])
        return self._last[1]

    def rows(self, keys: list[str]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Intervals and features of some entries, in the order of the file."""
        intervals, features = [np.zeros((0, 2))], [np.zeros((0, self.width), "S1" if self.holds_words else np.float32)]
        for key in keys:
            times, values = (self._file.array(self._dataset(key, name)) for name in ("intervals", "features"))
            if values.ndim != 2 or values.shape[1] != self.width or times.shape != (len(values), 2):
                found = f"{values.shape} and {times.shape} for '{key}'"
                raise Refusal(self.path, f"features (n, {self.width}) and intervals (n, 2)", found, "copy it again")
            intervals.append(times)
            features.append(values)
        return np.concatenate(intervals), np.concatenate(features)

    def column_names(self) -> list[Any]:
        """What the metadata call the columns; nothing where they do not say it."""
        name = f"{self.name}/metadata/dimension names"
        if "dimension names" not in self._file.names(f"{self.name}/metadata"):
            return []
        try:
            names = json.loads(self._file.array(name)[0])
        except (ValueError, LookupError, TypeError):
            return []
        return names if isinstance(names, list) else []

    def _dataset(self, key: str, name: str) -> str:
        group = f"{self.name}/data/{key}"
        if name not in self._file.names(group):
            raise Refusal(self.path, f"'features' and 'intervals' of '{key}'", f"no '{name}'", "copy the file again")
        return f"{group}/{name}"


def overlapping(interval: NDArray[Any], intervals: NDArray[Any]) -> NDArray[Any]:
    """Which of some intervals (n, 2) share more than an instant with each of (..., 2) others; bool (..., n)."""
    start = np.maximum(interval[..., :1], intervals[:, 0])
    stop = np.minimum(interval[..., 1:], intervals[:, 1])
    return (stop - start) > INSTANT


def word_means(steps: NDArray[Any], intervals: NDArray[Any], frames: NDArray[Any]) -> NDArray[Any]:
    """(W, D): x_w = sum_f o_wf x_f / max(1, sum_f o_wf), where o_wf = 1 if frame f overlaps word w; not weighted.

    A word without frames gets zeros. Values that are not finite count as zero in a mean.
    """
    inside = overlapping(steps, intervals).astype(np.float64)
    clean = np.nan_to_num(frames.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    return (inside @ clean / np.maximum(inside.sum(axis=1, keepdims=True), 1)).astype(np.float32)

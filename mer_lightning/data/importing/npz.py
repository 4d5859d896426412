"""A corpus of one's own: one .npz file of plain arrays, as docs/reference/npz-format.md describes it.

Shapes: N samples, L longest sequence, D width, C classes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mer_lightning.data.catalogue import CatalogueEntry
from mer_lightning.data.corpus import Corpus, CorpusCard
from mer_lightning.data.importing.arrays import strings
from mer_lightning.data.importing.base import Reader
from mer_lightning.data.importing.feature_files import NpzFile
from mer_lightning.data.importing.own_corpus import (
    HELP,
    KNOWN,
    Arrays,
    alignment_of,
    features_of,
    labels_of,
    misspelt,
    own_corpus,
)
from mer_lightning.data.nonfinite import as_float32, repaired
from mer_lightning.data.raw import RawCorpus
from mer_lightning.errors import Refusal
from mer_lightning.modalities import MODALITIES
from mer_lightning.tasks import Ratings, Regression, Task


class NPZ(Reader):
    name = "npz"
    describes = "own features in one .npz, see mer-lightning docs npz-format"
    suffixes = (".npz",)

    def detects(self, path: Path) -> bool:
        return bool(array_names(path) & {*MODALITIES})

    def read(self, path: Path, entry: CatalogueEntry | None, features: dict[str, str]) -> RawCorpus:
        arrays, notes = _load(path)
        return own_corpus(self.name, path, arrays, entry, notes)


def open_npz(path: Path) -> Corpus:
    """A file of features as a corpus in memory, for prediction. It may lack labels, splits and modalities.

    The task on its card is inferred from the labels. Without labels it is a placeholder that no code may read.
    """
    return corpus_in_memory(path, *_load(path))


def corpus_in_memory(path: Path, arrays: Arrays, notes: list[str]) -> Corpus:
    """The same of arrays that are loaded; ``path`` is what messages and the card call them."""
    n = _samples(path, arrays)
    sequences = features_of(path, arrays, n)
    task: Task = Regression()
    target: NDArray[Any] | None = None
    if "label" in arrays:
        task, target = labels_of(path, arrays, n, None)
        if not np.isfinite(target).all() and not isinstance(task, Ratings):
            notes.append("Not every sample has a finite label: labels are left out.")
            target = None
    # Nothing says what a training split held: medians are those of the file.
    sequences, counts = repaired(path, sequences, "median", np.ones(n, bool), alignment_of(sequences))
    tensors = {}
    for modality, each in sequences.items():
        tensors[f"{modality}.values"] = torch.from_numpy(as_float32(each.packed(0, n)))
        tensors[f"{modality}.offsets"] = torch.from_numpy(np.concatenate([[0], np.cumsum(each.lengths)]))
    if target is not None:
        tensors["target"] = torch.from_numpy(target.astype(np.int64 if task.kind == "single_label" else np.float32))
    card = CorpusCard(
        name=path.stem,
        alignment=alignment_of(sequences),
        task=task.card(),
        feature_set={modality: f"{path.stem} {each.width}" for modality, each in sequences.items()},
        dims={modality: each.width for modality, each in sequences.items()},
        samples=n,
        partitions={},
        sha256="",
        source={"file": path.name, "format": NPZ.name},
        cleaned=counts,
        nonfinite="median" if counts else "",
        notes=notes,
    )
    corpus = Corpus(card, tensors, folder=None)
    if "ids" in arrays:
        import pandas as pd

        corpus.samples = pd.DataFrame({"id": strings(path, "ids", arrays["ids"], n)})
    return corpus


def array_names(path: Path) -> set[str]:
    try:
        return set(NpzFile(path).names)
    except Refusal:
        return set()


def _load(path: Path) -> tuple[Arrays, list[str]]:
    """The arrays that an import or a prediction may need, and a note on all others.

    Beside those that the format knows, these are arrays of plain values with something to say of each sample.
    """
    archive = NpzFile(path)
    names = set(archive.names)
    if not names & {*MODALITIES}:
        remedy = " ".join([*misspelt(names), HELP])
        raise Refusal(path, f"at least one array of {', '.join(MODALITIES)}", ", ".join(sorted(names)), remedy)
    arrays: Arrays = {}
    left = []
    for name in sorted(names):
        needed = name in KNOWN or name.startswith("split_")
        try:
            arrays[name] = archive.array(name, objects=False)
        except Refusal:
            if needed:
                raise
            left.append(name)
            continue
        if arrays[name].ndim and len(arrays[name]):
            continue
        if needed:
            raise Refusal(path, f"an array '{name}' with one row per sample", "a single value or nothing", HELP)
        del arrays[name]
        left.append(name)
    return arrays, [*misspelt(names), *([f"Arrays that were not read: {', '.join(left)}."] if left else [])]


def _samples(path: Path, arrays: Arrays) -> int:
    """The number of samples of a file that may have no ids: the number of its lengths, or of its rows of features."""
    counts = {len(arrays.get(f"{modality}_lengths", arrays[modality])) for modality in MODALITIES if modality in arrays}
    counts |= {len(arrays[name]) for name in ("ids", "label") if name in arrays}
    if len(counts) > 1:
        raise Refusal(path, "as many samples in each array", " and ".join(map(str, sorted(counts))), HELP)
    return counts.pop()

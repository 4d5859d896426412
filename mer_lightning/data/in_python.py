"""`mer_lightning.data(...)`: a corpus in Python, by its name, its file, or the arrays themselves."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mer_lightning.data.datamodule import MERData
from mer_lightning.data.places import cache_folder
from mer_lightning.errors import Refusal
from mer_lightning.masks.training import TrainingMasks, all_training_masks
from mer_lightning.whole_files import whole

Arrays = Mapping[str, Any]


def data(
    corpus: str | Path | Arrays = "mosi",
    *,
    masks: TrainingMasks | str | Mapping[str, Any] | None = None,
    name: str = "arrays",
    **options: Any,
) -> MERData:
    """Batches of one corpus.

    Args:
        corpus: a name (`mer-lightning data list`), a folder, an .npz file, or arrays by their names as in such a file:
            `text`, `audio`, `vision`, `label`, `split` and others (docs/reference/npz-format.md).
        masks: the masks of training samples: an object, a name such as `modality_dropout`, or a name with options,
            `{"class_path": "modality_dropout", "init_args": {...}}`.
        name: what a corpus of arrays is called.
        options: those of :class:`~mer_lightning.data.datamodule.MERData`, such as `synthetic=True`, `alignment`,
            `partition`, `batch_size`.
    """
    if isinstance(corpus, Mapping):
        corpus = _kept(corpus, name)
    return MERData(str(corpus), masks=_masks(masks), **options)


def _kept(arrays: Arrays, name: str) -> Path:
    """The arrays as a file in the cache, by their content: a run can name it, and go on with it later."""
    digest, plain = hashlib.sha256(), {key: np.asarray(value) for key, value in arrays.items()}
    for key, array in sorted(plain.items()):
        if array.dtype == object:
            expected, found = f"an array of numbers or texts as '{key}'", "objects"
            raise Refusal("arrays", expected, found, f"pad the sequences, and give {key}_lengths")
        digest.update(f"{key} {array.dtype} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    path = cache_folder("arrays") / digest.hexdigest()[:16] / f"{name}.npz"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **plain)  # type: ignore[arg-type]
    return path


def _masks(given: TrainingMasks | str | Mapping[str, Any] | None) -> TrainingMasks | None:
    if given is None or isinstance(given, TrainingMasks):
        return given
    written: Mapping[str, Any] = {"class_path": given} if isinstance(given, str) else given
    known = all_training_masks()
    if (name := written.get("class_path")) not in known:
        raise Refusal("masks", f"one of {', '.join(known)}", f"'{name}'", "or give an object")
    return known[name](**written.get("init_args", {}))

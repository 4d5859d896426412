"""Whether a stored corpus is what its card says.

What is cheap is looked at whenever a corpus is opened: sizes, offsets, targets, and the first and last bytes of every
tensor. :func:`verify` reads all of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mer_lightning.data.raw import SPLITS, UNUSED
from mer_lightning.errors import Refusal
from mer_lightning.tasks import task_from_card

if TYPE_CHECKING:
    from mer_lightning.data.corpus import Corpus, CorpusCard

_ENDS = 2**16  # bytes of a tensor's head, and of its tail
_AGAIN = "import the corpus again"
_ROWS_AT_A_TIME = 2**16


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of the names, the shapes and both ends of some tensors; quick for any size."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        elements, numbers = _ENDS // tensor.element_size(), tensor.flatten()
        for end in (numbers[:elements], numbers[-elements:]):
            digest.update(end.numpy().tobytes())
    return digest.hexdigest()


def check_tensors(card: CorpusCard, tensors: Mapping[str, Tensor], where: Path) -> None:
    """Refuse tensors that do not fit the card or each other."""

    def refuse_unless(fits: bool, expected: str, found: object) -> None:
        if not fits:
            raise Refusal(where, expected, str(found), _AGAIN)

    n = card.samples
    needed = {f"{m}.{part}" for m in card.dims for part in ("values", "offsets")}
    needed |= {"target", *(f"partition.{name}" for name in card.partitions)}
    missing = sorted(needed - tensors.keys())
    refuse_unless(not missing, f"tensors {', '.join(sorted(needed))}", f"none named {', '.join(missing)}")
    for m, width in card.dims.items():
        values, offsets = tensors[f"{m}.values"], tensors[f"{m}.offsets"]
        fits = values.dtype == torch.float32 and values.dim() == 2 and values.shape[1] == width
        refuse_unless(fits, f"float32 {m} of width {width}", f"{values.dtype} {tuple(values.shape)}")
        fits = offsets.dtype == torch.int64 and offsets.shape == (n + 1,)
        refuse_unless(fits, f"{n + 1} offsets of {m}", f"{offsets.dtype} {tuple(offsets.shape)}")
        fits = bool(offsets[0] == 0) and bool(offsets[-1] == len(values)) and bool((offsets[1:] >= offsets[:-1]).all())
        refuse_unless(fits, f"offsets of {m} that ascend from 0 to {len(values)}", "others")
    for name, counts in card.partitions.items():
        partition = tensors[f"partition.{name}"]
        fits = partition.dtype == torch.int8 and partition.shape == (n,)
        refuse_unless(fits, f"{n} splits in partition '{name}'", f"{partition.dtype} {tuple(partition.shape)}")
        found = {split: int((partition == number).sum()) for number, split in enumerate(SPLITS)}
        inside = bool(((partition >= UNUSED) & (partition < len(SPLITS))).all())
        refuse_unless(inside and found == counts, f"the samples {counts} in partition '{name}'", found)
    _check_targets(card, tensors["target"], refuse_unless)
    if card.fingerprint:
        same = fingerprint(tensors) == card.fingerprint
        refuse_unless(same, "the tensors that card.yaml was written for", "others")


def _check_targets(card: CorpusCard, target: Tensor, refuse_unless) -> None:  # type: ignore[no-untyped-def]
    task, n = task_from_card(card.task), card.samples
    shape = tuple(target.shape) if task.kind == "ratings" and len(target) == n else (n,)
    shape = (n, task.outputs) if task.kind == "multi_label" else shape
    dtype = torch.int64 if task.kind == "single_label" else torch.float32
    found = f"{target.dtype} {tuple(target.shape)}"
    refuse_unless(target.dtype == dtype and target.shape == shape, f"targets {dtype} {shape}", found)
    missing = target.isnan() if task.kind == "ratings" else torch.zeros_like(target, dtype=torch.bool)
    refuse_unless(bool((target.isfinite() | missing).all()), "finite targets", "others")
    if task.kind in ("single_label", "multi_label"):
        classes = task.outputs if task.kind == "single_label" else 2
        inside = bool(((target >= 0) & (target < classes)).all())
        refuse_unless(inside, f"targets from 0 to {classes - 1}", f"{target.min()} to {target.max()}")


def verify(corpus: Corpus) -> None:
    """Read all of a stored corpus, and refuse one that is not what its card says."""
    assert corpus.folder is not None
    path = corpus.folder / "tensors.safetensors"
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != corpus.card.sha256:
        raise Refusal(path, f"the SHA-256 {corpus.card.sha256[:16]}... of card.yaml", f"{found[:16]}...", _AGAIN)
    for m in corpus.dims:
        values = corpus.tensors[f"{m}.values"]
        for start in range(0, len(values), _ROWS_AT_A_TIME):
            if not values[start : start + _ROWS_AT_A_TIME].isfinite().all():
                raise Refusal(path, f"finite numbers in {m}", "others", _AGAIN)
    ids = corpus.samples["id"]
    if not ids.is_unique:
        raise Refusal(corpus.folder / "samples.parquet", "each id once", "some twice", _AGAIN)

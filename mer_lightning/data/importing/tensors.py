"""Files of torch.save with one dict of tensors: by split as TAILOR stores them, or in the names of the .npz format.

{'train': {'src-text', 'src-audio', 'src-visual', 'tgt'}, 'valid': ..., 'test': ...}
{'ids', 'text', 'audio', 'vision', 'label', 'split', ...}: see docs/reference/npz-format.md
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mer_lightning.data.catalogue import CatalogueEntry
from mer_lightning.data.importing.base import Reader
from mer_lightning.data.importing.own_corpus import HELP, SPLIT_NAMES, own_corpus, texts
from mer_lightning.data.importing.split_arrays import joined_splits, plain_splits
from mer_lightning.data.importing.torch_file import load_torch
from mer_lightning.data.raw import RawCorpus
from mer_lightning.errors import Refusal
from mer_lightning.modalities import MODALITIES

_EXPECTED = "a dict of tensors, lists and strings, as torch.save writes it"
# TAILOR's labels are lists of tokens; others than these mark where a list begins and ends.
_TOKENS = {4: "happy", 5: "sad", 6: "anger", 7: "surprise", 8: "disgust", 9: "fear"}


class Tensors(Reader):
    name = "tensors"
    describes = ".pt file of tensors, by split (TAILOR) or with the names of the .npz format"
    suffixes = (".pt", ".pth")

    def detects(self, path: Path) -> bool:
        if not path.is_file() or path.suffix not in self.suffixes:
            return False
        try:
            content = load_torch(path, _EXPECTED)
        except Refusal:
            return False
        return isinstance(content, dict) and bool(_by_split(content) or content.keys() & {*MODALITIES})

    def read(self, path: Path, entry: CatalogueEntry | None, features: dict[str, str]) -> RawCorpus:
        content = load_torch(path, _EXPECTED)
        if not isinstance(content, dict):
            raise Refusal(path, _EXPECTED, type(content).__name__, HELP)
        notes: list[str] = []
        if not _by_split(content):
            arrays = {name: _array(path, name, values) for name, values in content.items()}
            if not arrays.keys() & {*MODALITIES}:
                found = f"only {', '.join(map(str, content))}"
                raise Refusal(path, f"tensors of {', '.join(MODALITIES)}, or dicts by split", found, HELP)
            return own_corpus(self.name, path, arrays, entry, notes)
        splits = plain_splits(
            path,
            {
                split: {name: _array(path, f"{name} of {split}", values) for name, values in arrays.items()}
                for split, arrays in _by_split(content).items()
            },
        )
        tokens = any(arrays["label"].dtype == object for arrays in splits.values() if "label" in arrays)
        if tokens:
            splits = {
                split: _with_emotions(path, split, arrays) if "label" in arrays else arrays
                for split, arrays in splits.items()
            }
        arrays, sequences, padding = joined_splits(path, splits, notes)
        if tokens:
            arrays["classes"] = np.array([*_TOKENS.values()])
        return own_corpus(self.name, path, arrays, entry, notes, sequences, padding=padding)


def _by_split(content: dict[Any, Any]) -> dict[str, dict[str, Any]]:
    return {split: arrays for split, arrays in content.items() if split in SPLIT_NAMES and isinstance(arrays, dict)}


def _array(path: Path, name: str, values: Any) -> NDArray[Any]:
    """Of a tensor or a list; lists of different lengths stay lists in an array of objects."""
    if isinstance(values, torch.Tensor):
        if values.layout != torch.strided or values.dtype.is_complex or values.is_quantized:
            raise Refusal(path, f"a plain tensor of numbers in {name}", f"{values.dtype}, {values.layout}", HELP)
        return np.asarray(values.detach().float() if values.dtype == torch.bfloat16 else values.detach())
    if isinstance(values, list) and values and all(isinstance(each, list | torch.Tensor) for each in values):
        rows = np.empty(len(values), object)
        rows[:] = [each.tolist() if isinstance(each, torch.Tensor) else each for each in values]
        return rows
    if isinstance(values, list | tuple) and all(isinstance(each, str) for each in values):
        return texts(values)
    if isinstance(values, list | tuple) and all(isinstance(each, int | float) for each in values):
        return np.array(values, np.float64)
    raise Refusal(path, f"a tensor or a list in {name}", type(values).__name__, HELP)


def _with_emotions(path: Path, split: str, arrays: dict[str, Any]) -> dict[str, Any]:
    """Lists of tokens become columns of 0 and 1."""
    rows = arrays["label"]
    if not all(isinstance(row, list) and all(isinstance(token, int) for token in row) for row in rows):
        raise Refusal(path, f"a list of token numbers as label of each sample of {split}", "something else", HELP)
    return arrays | {"label": np.array([[token in row for token in _TOKENS] for row in rows], np.float32)}

"""Pickles of MMSA, as many sentiment repositories use them: MOSI, MOSEI, SIMS, SIMS v2; aligned and unaligned.

{train, valid, test}: each a dict of
    text (N, L, D), audio (N, L, D), vision (N, L, D)     padded at the end
    text_bert (N, 3, L)                                   token ids, attention mask, segment ids
    audio_lengths, vision_lengths (N,)                    in unaligned files
    raw_text, id ("video$_$clip"), regression_labels, classification_labels; regression_labels_T, _A, _V in SIMS

`--features text=tokens` imports the token ids of text_bert as text, for a text encoder. The file does not say which
tokenizer made them; `--features "text=tokens bert-base-uncased"` writes its name on the corpus card.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mer_lightning.data.catalogue import CatalogueEntry
from mer_lightning.data.importing.arrays import (
    feature_name,
    joined,
    lengths_without_padding,
    load_splits,
    numbers,
    padded,
    padded_numbers,
    per_sample,
    sentiment_for,
    strings,
)
from mer_lightning.data.importing.base import Reader
from mer_lightning.data.importing.unpickle import outline
from mer_lightning.data.raw import SPLITS, PaddedSequences, RawCorpus
from mer_lightning.errors import Refusal
from mer_lightning.modalities import MODALITIES

_LABEL = "regression_labels"
_UNIMODAL = {"regression_labels_T": "text", "regression_labels_A": "audio", "regression_labels_V": "vision"}


class MMSA(Reader):
    name = "mmsa"
    describes = "MMSA pickle: aligned_50.pkl, unaligned_50.pkl, unaligned_39.pkl"
    suffixes = (".pkl", ".pickle")

    def detects(self, path: Path) -> bool:
        splits = outline(path)
        return all(splits.get(split, frozenset()) & {_LABEL, "text_bert"} for split in SPLITS)

    def read(self, path: Path, entry: CatalogueEntry | None, features: dict[str, str]) -> RawCorpus:
        if entry is not None and entry.task.kind != "regression":
            remedy = "import the file as mosi, mosei, sims or simsv2"
            raise Refusal(path, f"the labels of {entry.name}", "sentiment labels", remedy)
        tokens = _tokens_named(features)
        keys = [m for m in MODALITIES if m != "text" or tokens is None]
        splits = load_splits(path, [*keys, *(["text_bert"] if tokens else []), "id", _LABEL])
        ids: list[str] = []
        sequences: dict[str, dict[str, NDArray[Any]]] = {}
        columns: dict[str, list[str]] = defaultdict(list)
        arrays: dict[str, list[NDArray[Any]]] = defaultdict(list)
        for split, values in splits.items():
            names = strings(path, f"{split}.id", values["id"])
            n = len(names)
            ids += names
            sequences[split] = {m: padded_numbers(path, f"{split}.{m}", values[m], n) for m in keys}
            if tokens:
                sequences[split]["text"] = _tokens(path, split, values["text_bert"], n)[:, 0, :, None]
            arrays["target"].append(per_sample(path, f"{split}.{_LABEL}", values[_LABEL], n))
            arrays["partition"].append(np.full(n, SPLITS.index(split), np.int8))
            if "raw_text" in values:
                columns["sentence"] += strings(path, f"{split}.raw_text", values["raw_text"], n)
            if "text_bert" in values:
                arrays["text_bert"].append(_tokens(path, split, values["text_bert"], n).astype(np.int32))
            for key, modality in _UNIMODAL.items():
                if key in values:
                    unimodal = per_sample(path, f"{split}.{key}", values[key], n)
                    arrays[f"target_{modality}"].append(unimodal.astype(np.float32))
        aligned = all(_is_aligned(splits[split], sequences[split]) for split in SPLITS)
        parts: dict[str, list[PaddedSequences]] = defaultdict(list)
        for split, values in splits.items():
            for m, lengths in _lengths(path, split, values, sequences[split], aligned).items():
                parts[m].append(padded(path, f"{split}.{m}", sequences[split][m], lengths))
        whole = {name: np.concatenate(each) for name, each in arrays.items() if len(each) == len(SPLITS)}
        target, partition = whole.pop("target"), whole.pop("partition")
        all_splits = {m: joined(path, m, parts[m]) for m in MODALITIES}
        return RawCorpus(
            format=self.name,
            source=path,
            task=entry.task if entry else sentiment_for(target),
            alignment="aligned" if aligned else "unaligned",
            features=dict(all_splits),
            feature_set={m: feature_name(m, each.width) for m, each in all_splits.items()}
            | ({"text": tokens} if tokens else {}),
            target=target,
            ids=ids,
            partitions={"official": partition},
            groups=[name.split("$_$")[0] for name in ids],
            columns={name: column for name, column in columns.items() if len(column) == len(ids)},
            extras=whole,
            padding="end",
            notes=_notes(ids, {m: each.lengths for m, each in all_splits.items()}, "text_bert" in arrays),
        )


def _is_aligned(values: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> bool:
    return len({array.shape[1] for array in arrays.values()}) == 1 and "audio_lengths" not in values


def _lengths(
    path: Path, split: str, values: dict[str, Any], arrays: dict[str, NDArray[Any]], aligned: bool
) -> dict[str, NDArray[Any]]:
    lengths: dict[str, NDArray[Any]] = {}
    if "text_bert" in values:
        tokens = _tokens(path, split, values["text_bert"], len(arrays["text"]))
        # A text has at least one step, even if its mask is empty.
        lengths["text"] = tokens[:, 1].sum(axis=1).astype(np.int64).clip(min=1)
        if aligned:
            return dict.fromkeys(MODALITIES, lengths["text"])
    elif aligned:
        return dict(lengths_without_padding(arrays))
    for modality, array in arrays.items():
        if (key := f"{modality}_lengths") in values:
            lengths[modality] = per_sample(path, f"{split}.{key}", values[key], len(array))
        elif modality not in lengths:
            lengths |= lengths_without_padding({modality: array})
    return lengths


def _tokens_named(features: dict[str, str]) -> str | None:
    """The name of the token ids if they are the text ("tokens", or "tokens bert-base-uncased"), else None."""
    for modality, name in features.items():
        if modality != "text" or name.split()[:1] != ["tokens"]:
            remedy = "write --features text=tokens, or leave it out: the rest of the file is one feature set"
            raise Refusal("--features", "text=tokens for an MMSA file", f"{modality}={name}", remedy)
    return features.get("text")


def _tokens(path: Path, split: str, value: Any, n: int) -> NDArray[Any]:
    tokens = numbers(path, f"{split}.text_bert", value, n)
    if tokens.ndim != 3 or tokens.shape[1] != 3:
        expected = f"(samples, 3, tokens) in {split}.text_bert"
        raise Refusal(path, expected, f"shape {tokens.shape}", "check how the file was made")
    return tokens


def _notes(ids: list[str], lengths: dict[str, NDArray[Any]], tokens: bool) -> list[str]:
    notes = [
        f"{absent} samples have no {modality}: their length is 0."
        for modality, steps in lengths.items()
        if (absent := int((steps == 0).sum()))
    ]
    if not tokens:
        notes.append("No text_bert in this file: a sequence ends at its last step that is not all zero.")
    if not all("$_$" in name for name in ids):
        notes.append("Some ids do not name a video: such a sample is a group of its own.")
    return notes

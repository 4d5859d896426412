"""Wrong and damaged corpora are refused, and the message names the mistake."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mer_lightning.data.corpus import CARD, TENSORS, open_corpus
from mer_lightning.data.raw import (
    LoadedSequences,
    PackedSequences,
    PaddedSequences,
    RawCorpus,
    Sequences,
)
from mer_lightning.data.store import write_corpus
from mer_lightning.errors import Refusal
from mer_lightning.tasks import MultiLabel, SingleLabel
from tests.data.test_store import MakeRaw, samples_of


def change(**fields: Any) -> Callable[[RawCorpus], RawCorpus]:
    return lambda raw: replace(raw, **{name: make(raw) for name, make in fields.items()})


def with_feature(modality: str, make: Callable[[PaddedSequences], Sequences]) -> Callable[[RawCorpus], RawCorpus]:
    return change(features=lambda raw: raw.features | {modality: make(raw.features[modality])})


def set_label(row: int, value: float) -> Callable[[RawCorpus], RawCorpus]:
    def changed(raw: RawCorpus) -> RawCorpus:
        target = raw.target.astype(np.float64)
        target[row] = value
        return replace(raw, target=target)

    return changed


THREE, TWO = SingleLabel(("a", "b", "c")), MultiLabel(("a", "b"))


@pytest.mark.parametrize(
    ("task", "spoil", "expected"),
    [
        (None, set_label(7, np.nan), r"a finite label .* 1 of 60 not finite, the first 'video1\$_\$7'"),
        (None, set_label(7, np.inf), "a finite label"),
        (THREE, set_label(7, np.nan), "a finite label"),
        (THREE, set_label(7, 3), "whole labels 0 to 2"),
        (THREE, set_label(7, -1), "whole labels 0 to 2"),
        (THREE, set_label(7, 0.5), "whole labels 0 to 2"),
        (TWO, set_label(7, 2), "0 or 1 for each of 2 classes"),
        (TWO, change(target=lambda raw: raw.target[:, :1]), "0 or 1 for each of 2 classes"),
        (None, change(target=lambda raw: raw.target[:, None]), "one number per sample as label"),
        (None, change(target=lambda raw: raw.target[:59]), "60 labels; found 59"),
        (None, change(ids=lambda raw: [*raw.ids[:59], raw.ids[0]]), r"each id once; found 'video0\$_\$0'"),
        (None, change(ids=lambda raw: [], features=lambda raw: {}), "at least one sample"),
        (None, change(features=lambda raw: {}), "features of at least one modality"),
        (None, change(groups=lambda raw: raw.groups[:59]), "60 values of group; found 59"),
        (None, change(columns=lambda raw: {"sentence": ["x"]}), "60 values of sentence"),
        (None, change(extras=lambda raw: {"tokens": np.zeros(3)}), "60 values of tokens"),
        (None, change(partitions=lambda raw: {"p": np.zeros(60, np.int8)}), "in split 'valid' of partition 'p'"),
        (None, change(partitions=lambda raw: {"p": np.zeros(59, np.int8)}), "60 values of p"),
        (None, with_feature("audio", lambda s: PaddedSequences(s.values[:59], s.lengths[:59])), "60 samples of audio"),
        (None, with_feature("audio", lambda s: PaddedSequences(s.values, s.lengths - 5)), "audio lengths of 0 or more"),
        (None, with_feature("audio", lambda s: PaddedSequences(s.values, s.lengths + 5)), "in audio of samples 0 to"),
        (None, with_feature("audio", lambda s: PackedSequences(s.values[:, 0], s.lengths)), "in audio of samples"),
    ],
)  # fmt: skip
def test_refusals(tiny_raw: MakeRaw, tmp_path: Path, task: Any, spoil: Any, expected: str) -> None:
    with pytest.raises(Refusal, match=expected) as caught:
        write_corpus(spoil(tiny_raw(task)), tmp_path / "c", "tiny")
    assert caught.value.where == "tiny"
    assert list(tmp_path.iterdir()) == []


def test_lengths_that_are_wrong_for_two_samples_but_right_in_sum_are_refused(
    tiny_raw: MakeRaw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = tiny_raw()
    audio = raw.features["audio"]
    pieces = samples_of(audio)
    lengths = audio.lengths.copy()
    lengths[0] += 1
    lengths[1] -= 1
    raw.features["audio"] = LoadedSequences(pieces.__getitem__, list(lengths), audio.width)
    monkeypatch.setattr("mer_lightning.data.raw._CHUNK_BYTES", 1)
    with pytest.raises(Refusal, match="in audio of samples 0 to 0"):
        write_corpus(raw, tmp_path / "c", "tiny")


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        (CARD, lambda text: b"- no card"),
        (CARD, lambda text: b""),
        (CARD, lambda text: b"\xff\xfe"),
        (CARD, lambda text: text.replace(b"kind: regression", b"kind: guess")),
        (CARD, lambda text: text.replace(b"official", b"unofficial")),
        (CARD, lambda text: text + b"surprise: 1\n"),
        (TENSORS, lambda data: data[:100]),
        (TENSORS, lambda data: b""),
        (TENSORS, lambda data: data.replace(b'"audio.offsets"', b'"audio.offzets"')),
    ],
)
def test_damaged_folders_are_refused(tiny_corpus: Callable[..., Path], name: str, spoil: Any) -> None:
    folder = tiny_corpus()
    (folder / name).write_bytes(spoil((folder / name).read_bytes()))
    with pytest.raises(Refusal, match="import"):
        open_corpus(folder)


def test_unknown_partitions_and_empty_splits_are_refused(tiny_corpus: Callable[..., Path]) -> None:
    corpus = open_corpus(tiny_corpus())
    with pytest.raises(Refusal, match="one of the partitions official; found 'declare'"):
        corpus.split("declare", "train")
    corpus.tensors["partition.official"] = torch.zeros(60, dtype=torch.int8)
    with pytest.raises(Refusal, match="samples in split 'valid'"):
        corpus.split("official", "valid")

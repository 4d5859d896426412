"""Batches have the requested samples, and a resident split holds only its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from mer_lightning.data.corpus import open_corpus
from mer_lightning.data.raw import (
    RawCorpus,
)
from mer_lightning.data.store import write_corpus
from tests.data.test_store import MODALITIES, MakeRaw, absent, samples_of


def slow_batch(raw: RawCorpus, rows: list[int]) -> dict[str, torch.Tensor]:
    """{modality: (B, T, D)}, built sample by sample."""
    actual = {}
    for modality in MODALITIES:
        pieces = [torch.tensor(samples_of(raw.features[modality])[row]) for row in rows]
        longest = max(1, *(len(piece) for piece in pieces))
        actual[modality] = torch.stack(
            [torch.cat([piece, torch.zeros(longest - len(piece), piece.shape[1])]) for piece in pieces]
        )
    return actual


@pytest.mark.parametrize("alignment", ["aligned", "unaligned", "utterance"])
@pytest.mark.parametrize("resident", [False, True])
def test_a_batch_equals_a_slow_and_obvious_one(
    tiny_raw: MakeRaw, tmp_path: Path, alignment: str, resident: bool
) -> None:
    raw = absent(tiny_raw(alignment=alignment), "vision", [1, 4, 5, 10])
    raw = absent(raw, "text", [5, 6, 11])
    write_corpus(raw, tmp_path / "c", "tiny")
    split = open_corpus(tmp_path / "c").split("official", "train")
    if resident:
        split = split.on(torch.device("cpu"))
    rows = np.flatnonzero(raw.partitions["official"] == 0)
    assert split.ids == [raw.ids[row] for row in rows]
    for index in ([0, 1, 2, 3], [5], [1], list(range(len(rows)))[::-1], [3, 3, 0]):
        batch = split.batch(torch.tensor(index))
        expected = slow_batch(raw, list(rows[index]))
        for modality in MODALITIES:
            assert torch.equal(batch.features[modality], expected[modality])
            assert batch.lengths[modality].tolist() == raw.features[modality].lengths[rows[index]].tolist()
        assert torch.equal(batch.target, torch.tensor(raw.target[rows[index]], dtype=torch.float32))
        assert batch.index.tolist() == index
        expected_present = [[bool(raw.features[m].lengths[row]) for m in MODALITIES] for row in rows[index]]
        assert batch.present.tolist() == expected_present
    limited = split.batch(torch.tensor([0, 1]), torch.tensor([[True, False, True], [True, False, True]]))
    assert not limited.present[:, 1].any()
    assert limited.present[0].tolist() == [True, False, True]


def test_a_modality_that_every_sample_of_a_split_lacks(tiny_raw: MakeRaw, tmp_path: Path) -> None:
    write_corpus(absent(tiny_raw(), "vision", list(range(60))), tmp_path / "c", "tiny")
    for split in (open_corpus(tmp_path / "c").everything(), open_corpus(tmp_path / "c").split("official", "test")):
        for held in (split, split.on(torch.device("cpu"))):
            batch = held.batch(torch.tensor([0, 2]))
            assert batch.features["vision"].shape == (2, 1, 7)
            assert not batch.features["vision"].any()
            assert batch.present.tolist() == [[True, True, False]] * 2


def test_a_resident_split_holds_its_own_samples_only(tiny_corpus: Callable[..., Path]) -> None:
    corpus = open_corpus(tiny_corpus())
    split = corpus.split("official", "valid")
    resident = split.on(torch.device("cpu"))
    for modality in MODALITIES:
        assert len(resident.values[modality]) == int(split.lengths[modality].sum())
        assert len(split.values[modality]) > len(resident.values[modality])

"""Features that are read as they are, without an import, as prediction does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mer_lightning.data.corpus import open_corpus
from mer_lightning.data.importing.npz import NPZ, open_npz
from mer_lightning.data.store import write_corpus
from mer_lightning.errors import Refusal
from tests.data.importing.test_npz import N, padded, ragged, save


def test_open_without_labels_ids_splits_and_a_modality(tmp_path: Path) -> None:
    lengths, samples = ragged()
    samples[1][0, 0] = np.nan
    corpus = open_npz(
        save(tmp_path, ids=None, label=None, split=None, vision=None, audio=np.concatenate(samples),
             audio_lengths=lengths)
    )  # fmt: skip
    assert corpus.target is None
    assert corpus.dims == {"text": 6, "audio": 3}
    assert corpus.card.cleaned == {"audio": {"nan": 1}}
    split = corpus.everything()
    assert len(split) == N
    assert split.ids[:2] == ["0", "1"]
    batch = split.batch(torch.tensor([3, 1]))
    assert batch.target is None
    assert batch.present.tolist() == [[True, True, False]] * 2
    assert batch.lengths["audio"].tolist() == [lengths[3], lengths[1]]
    assert np.array_equal(batch.features["audio"][0, : lengths[3]].numpy(), samples[3].astype(np.float32))
    assert batch.features["audio"][1, 0, 0] == np.float32(np.nanmedian(np.concatenate(samples)[:, 0]))


def test_open_equals_import(tmp_path: Path) -> None:
    lengths, samples = ragged()
    for changes in ({}, {"label": np.arange(N) % 2, "classes": np.array(["a", "b"])}):
        path = save(tmp_path, audio=padded(samples), audio_lengths=lengths, **changes)
        write_corpus(NPZ().read(path, None, {}), tmp_path / "out", "mine")
        opened, imported = open_npz(path), open_corpus(tmp_path / "out")
        assert opened.everything().ids == imported.everything().ids
        assert opened.task == imported.task
        for name, tensor in opened.tensors.items():
            assert torch.equal(tensor, imported.tensors[name])
            assert tensor.dtype == imported.tensors[name].dtype
        assert set(imported.tensors) - set(opened.tensors) == {"partition.official"}


def test_labels_that_are_not_all_known_are_left_out(tmp_path: Path) -> None:
    corpus = open_npz(save(tmp_path, label=np.where(np.arange(N) == 3, np.nan, np.linspace(-1, 1, N))))
    assert corpus.target is None
    assert any("labels are left out" in note for note in corpus.card.notes)


def test_open_refuses_what_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="as many samples in each array"):
        open_npz(save(tmp_path, text=np.zeros((7, 6))))

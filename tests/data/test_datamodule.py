"""The DataModule: batches as in the contract, and a test split that cannot be read during fit."""

from __future__ import annotations

import pytest
import torch

from mer_lightning.data.corpus import open_corpus
from mer_lightning.data.datamodule import MERData
from mer_lightning.data.store import write_corpus
from mer_lightning.errors import Refusal
from mer_lightning.masks.training import UniformCombinations, WeightedCombinations
from mer_lightning.modalities import MODALITIES
from mer_lightning.tasks import SingleLabel


def test_batches_hold_what_the_corpus_holds(tiny_corpus) -> None:
    data = MERData(corpus=str(tiny_corpus()), batch_size=7)
    data.setup("fit")
    split = data.split("train")
    for batch in data.train_dataloader():
        for m in MODALITIES:
            assert batch.features[m].shape[1] == int(batch.lengths[m].max())
            for row, number in enumerate(batch.index.tolist()):
                start, length = int(split.starts[m][number]), int(split.lengths[m][number])
                assert torch.equal(batch.features[m][row, :length], split.values[m][start : start + length])
                assert not batch.features[m][row, length:].any()
        assert torch.equal(batch.target, split.target[batch.index])


def test_test_split_cannot_be_reached_during_fit(tiny_corpus) -> None:
    data = MERData(corpus=str(tiny_corpus()))
    data.setup("test")
    data.setup("fit")
    for reach in (
        lambda: data.test_dataloader(),
        lambda: data.split("test"),
        lambda: data.corpus.split("official", "test"),
        lambda: data.corpus.rows("official", "test"),
    ):
        with pytest.raises(RuntimeError, match="cannot be reached during fit"):
            reach()
    data.teardown("fit")
    assert len(data.split("test")) == 10


def test_statistics_are_those_of_the_training_split(tiny_corpus) -> None:
    data = MERData(corpus=str(tiny_corpus()))
    data.setup("fit")
    train = data.split("train")
    for m, (mean, deviation) in data.feature_statistics().items():
        pairs = zip(train.starts[m], train.lengths[m], strict=True)
        frames = torch.cat([train.values[m][s : s + n] for s, n in pairs]).double()
        torch.testing.assert_close(mean.double(), frames.mean(0), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(deviation.double(), frames.std(0, unbiased=False), rtol=1e-5, atol=1e-6)


def test_masks_reach_the_batches(tiny_corpus) -> None:
    data = MERData(corpus=str(tiny_corpus()), masks=UniformCombinations(), seed=5)
    data.setup("fit")
    expected = UniformCombinations().present(len(data.split("train")), 0, 5)
    for batch in data.train_dataloader():
        assert torch.equal(batch.present, expected[batch.index])
        assert batch.available.all()  # what a sample has is not what a mask leaves of it
    for batch in data.val_dataloader():
        assert batch.present.all()


def test_batches_have_the_available_modalities(tiny_raw, tmp_path) -> None:
    """A mask that shows audio alone is not applied to samples without audio."""
    raw = tiny_raw()
    silent = torch.arange(60) % 2 == 0
    raw.features["audio"].lengths[silent.numpy()] = 0
    write_corpus(raw, tmp_path / "half-silent", "half-silent")
    split = open_corpus(tmp_path / "half-silent").everything()
    batch = split.batch(torch.arange(60), torch.tensor([[False, True, False]]).expand(60, 3))
    assert torch.equal(batch.available, torch.stack([silent | True, ~silent, silent | True], 1))
    assert torch.equal(batch.present[silent], batch.available[silent])
    assert torch.equal(batch.present[~silent], torch.tensor([[False, True, False]]).expand(30, 3))


def test_balanced_batches_are_of_the_same_samples_and_masks(tiny_corpus) -> None:
    """All categories and combinations are in the plan: 30 samples of one combination make fours of one category."""
    task = SingleLabel(("a", "b"))
    folder, actual = str(tiny_corpus(task=task)), {}
    masks = WeightedCombinations({"ta": 1.0})
    for balanced in (False, True):
        data = MERData(corpus=folder, batch_size=4, balanced=balanced, masks=masks)
        data.setup("fit")
        batches = list(data.train_dataloader())
        assert sorted(torch.cat([batch.index for batch in batches]).tolist()) == list(range(40))
        assert all(torch.equal(b.present, torch.tensor([[True, True, False]]).expand(len(b), 3)) for b in batches)
        actual[balanced] = sum(len(batch.target.unique()) == 1 for batch in batches)
    assert actual[True] > 2 * actual[False]


def test_resident_batches_equal_gathered_ones(tiny_corpus) -> None:
    folder = str(tiny_corpus())
    loaders = []
    for resident in (False, True):
        data = MERData(corpus=folder, resident=resident)
        data.setup("fit")
        loaders.append(list(data.train_dataloader()))
    for gathered, resident in zip(*loaders, strict=True):
        assert torch.equal(gathered.index, resident.index)
        for m in MODALITIES:
            assert torch.equal(gathered.features[m], resident.features[m])


def test_workers_yield_the_same_batches(tiny_corpus) -> None:
    folder = str(tiny_corpus(SingleLabel(("a", "b"))))
    rows = []
    for workers in (0, 1):
        data = MERData(corpus=folder, workers=workers, masks=UniformCombinations())
        data.setup("fit")
        rows.append([(b.index.tolist(), b.present.tolist()) for b in data.train_dataloader()])
    assert rows[0] == rows[1]


def test_refusals(tiny_corpus) -> None:
    with pytest.raises(Refusal, match="batch_size"):
        MERData(corpus=str(tiny_corpus()), batch_size=1)
    data = MERData(corpus=str(tiny_corpus()), partition="fold-9")
    with pytest.raises(Refusal, match=r"partitions official.*fold-9"):
        data.setup("fit")


def test_two_rules_for_forming_batches_are_refused(tiny_corpus) -> None:
    with pytest.raises(Refusal, match="which samples form a batch"):
        MERData(corpus=str(tiny_corpus()), bucket=True, balanced=True)

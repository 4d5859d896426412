"""MulT pickles: padding in front, sentiment or four yes-or-no emotions, ids in triples or none."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mer_lightning.data.catalogue import CatalogueEntry
from mer_lightning.data.corpus import open_corpus
from mer_lightning.data.importing.base import detect
from mer_lightning.data.importing.mult import MulT
from mer_lightning.data.store import write_corpus
from mer_lightning.errors import Refusal
from mer_lightning.tasks import MultiLabel, Regression

SIZES = {"train": 5, "valid": 3, "test": 4}
CLASSES = ("neutral", "happy", "sad", "angry")
MOSI = CatalogueEntry("mosi", "", Regression(3.0).card(), "", "")
IEMOCAP = CatalogueEntry("iemocap", "", MultiLabel(CLASSES).card(), "", "")


def mult_file(steps: tuple[int, int, int] = (50, 375, 500), emotions: bool = False) -> dict[str, dict[str, Any]]:
    """As MulT has it: float32 text, float64 audio with -inf, zeros in front, ids as bytes for MOSI."""
    rng = np.random.default_rng(1)
    dims = (300, 74, 35) if emotions else (300, 5, 20)
    content = {}
    for split, n in SIZES.items():
        values: dict[str, Any] = {}
        true = {}
        shared = rng.integers(2, steps[0] + 1, n)
        for m, longest, width, dtype in zip(("text", "audio", "vision"), steps, dims, ("f4", "f8", "f8"), strict=True):
            true[m] = shared if len(set(steps)) == 1 else rng.integers(2, longest + 1, n)
            values[m] = rng.normal(size=(n, longest, width)).astype(dtype)
            values[m][np.arange(longest) < longest - true[m][:, None]] = 0
        values["audio"][0, -1, 0] = -np.inf
        if emotions:
            yes = rng.integers(0, 2, (n, 4))
            values["labels"] = np.stack([1 - yes, yes], axis=2)
            values["yes"] = yes
        else:
            values["labels"] = np.round(rng.uniform(-3, 3, (n, 1, 1)), 2).astype(np.float32)
            values["labels"][0] = 2.5
            values["id"] = np.array([[f"{split}vid{i // 2}", f"{i}.5", f"{i}.75"] for i in range(n)]).astype("S")
        values["true"] = true
        content[split] = values
    return content


def write(content: Any, path: Path) -> Path:
    hidden = ("true", "yes")
    without = {split: {k: v for k, v in values.items() if k not in hidden} for split, values in content.items()}
    path.write_bytes(pickle.dumps(without, protocol=3))
    return path


def read(content: Any, tmp_path: Path, entry: CatalogueEntry | None = MOSI) -> Any:
    number = len(list(tmp_path.iterdir()))  # arrays of an earlier call are views of its file
    return MulT().read(write(content, tmp_path / f"mosi_data_noalign-{number}.pkl"), entry, {})


@pytest.mark.parametrize(
    ("steps", "emotions", "alignment"),
    [((50, 375, 500), False, "unaligned"), ((50, 50, 50), False, "aligned"), ((20, 400, 500), True, "unaligned"),
     ((20, 20, 20), True, "aligned")],
)  # fmt: skip
def test_padding_in_front_becomes_lengths(
    tmp_path: Path, steps: tuple[int, int, int], emotions: bool, alignment: str
) -> None:
    content = mult_file(steps, emotions)
    raw = read(content, tmp_path, IEMOCAP if emotions else MOSI)
    assert (raw.alignment, raw.padding) == (alignment, "front")
    for modality in ("text", "audio", "vision"):
        lengths = np.concatenate([values["true"][modality] for values in content.values()])
        assert np.array_equal(raw.features[modality].lengths, lengths)
        expected = np.concatenate(
            [sample[-length:] for v in content.values() for sample, length in zip(v[modality], v["true"][modality],
                                                                                  strict=True)]
        )  # fmt: skip
        assert np.array_equal(raw.features[modality].packed(0, 12), expected)
    assert raw.partitions["official"].tolist() == [0] * 5 + [1] * 3 + [2] * 4


def test_a_batch_is_padded_at_the_end(tmp_path: Path) -> None:
    content = mult_file()
    write_corpus(read(content, tmp_path), tmp_path / "mosi", "mosi")
    batch = open_corpus(tmp_path / "mosi").split("official", "test").batch(torch.arange(4))
    for i, length in enumerate(content["test"]["true"]["text"]):
        assert np.array_equal(batch.features["text"][i, :length].numpy(), content["test"]["text"][i, -length:])
        assert not batch.features["text"][i, length:].any()


def test_sentiment_labels_and_ids(tmp_path: Path) -> None:
    content = mult_file()
    raw = read(content, tmp_path, None)
    assert raw.task == Regression(3.0)
    assert np.array_equal(raw.target, np.concatenate([v["labels"].ravel() for v in content.values()]))
    assert raw.ids[1] == "trainvid0_1.5_1.75"
    assert raw.groups[:3] == ["trainvid0", "trainvid0", "trainvid1"]
    assert raw.feature_set == {"text": "glove 300", "audio": "covarep 5", "vision": "facet 20"}
    for values in content.values():
        values["id"] = values["id"].astype(str).tolist()
    assert read(content, tmp_path).ids == raw.ids


def test_pairs_become_four_binaries_in_mults_order(tmp_path: Path) -> None:
    content = mult_file((20, 400, 500), emotions=True)
    content["train"]["labels"][0] = [[0, 1], [1, 0], [1, 0], [0, 1]]  # neutral yes, happy no, sad no, angry yes
    content["train"]["yes"][0] = [1, 0, 0, 1]
    for entry in (None, IEMOCAP):
        raw = read(content, tmp_path, entry)
        assert raw.task == MultiLabel(CLASSES)
        assert np.array_equal(raw.target, np.concatenate([v["yes"] for v in content.values()]))


def test_without_ids_samples_are_numbered_and_it_is_said(tmp_path: Path) -> None:
    raw = read(mult_file((20, 400, 500), emotions=True), tmp_path, IEMOCAP)
    assert raw.ids[:2] == ["train-0", "train-1"]
    assert raw.ids[5] == "valid-0"
    assert raw.groups == raw.ids
    assert any("No ids" in note for note in raw.notes)


def test_ids_of_two_splits_become_unique_and_the_card_says_so(tmp_path: Path) -> None:
    content = mult_file()
    for values in content.values():
        values["id"] = values["id"].astype("S20")
    content["test"]["id"][1] = content["train"]["id"][2]
    content["valid"]["id"][0] = content["train"]["id"][4]
    raw = read(content, tmp_path)
    assert raw.ids[2] == "trainvid1_2.5_2.75#train"
    assert raw.ids[5 + 3 + 1] == "trainvid1_2.5_2.75#test"
    assert (raw.ids[4], raw.ids[5]) == ("trainvid2_4.5_4.75#train", "trainvid2_4.5_4.75#valid")
    assert raw.ids[1] == "trainvid0_1.5_1.75"
    assert raw.groups[2] == raw.groups[9] == "trainvid1"
    card = write_corpus(raw, tmp_path / "mosi", "mosi")
    assert any("2 ids are in more than one split, the first is trainvid1_2.5_2.75" in note for note in card.notes)
    assert not any("more than one split" in note for note in read(mult_file(), tmp_path).notes)


def test_ids_that_repeat_within_a_split_are_refused(tmp_path: Path) -> None:
    content = mult_file()
    content["train"]["id"][1] = content["train"]["id"][0]
    with pytest.raises(Refusal, match="each id once"):
        write_corpus(read(content, tmp_path), tmp_path / "mosi", "mosi")


def test_an_all_zero_sample_keeps_one_step(tmp_path: Path) -> None:
    content = mult_file()
    content["train"]["vision"][2] = 0
    raw = read(content, tmp_path)
    assert raw.features["vision"].lengths[2] == 1
    assert not raw.features["vision"].packed(2, 3).any()


def test_zero_frames_within_a_sample_are_data(tmp_path: Path) -> None:
    content = mult_file()
    content["train"]["audio"][0, -2] = 0
    content["train"]["audio"][1, -1] = 0
    raw = read(content, tmp_path)
    assert np.array_equal(raw.features["audio"].lengths[:2], content["train"]["true"]["audio"][:2])


def test_aligned_modalities_are_not_moved_against_each_other(tmp_path: Path) -> None:
    """The first face of a sample may be zeros while its first word is not."""
    content = mult_file((50, 50, 50))
    length = content["train"]["true"]["text"][0]
    content["train"]["vision"][0, 50 - length] = 0
    raw = read(content, tmp_path)
    assert [raw.features[m].lengths[0] for m in ("text", "audio", "vision")] == [length] * 3
    assert np.array_equal(raw.features["vision"].packed(0, 1), content["train"]["vision"][0, -length:])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda v: v.pop("audio"), "'audio' in 'valid'; found only id, labels, text, vision"),
        (lambda v: v.update(labels=np.zeros((3, 2))), "one number per sample in valid.labels"),
        (lambda v: v.update(id=v["id"][:2]), "3 rows in valid.id"),
        (lambda v: v.update(text=v["text"][:2]), "3 samples in valid.text"),
        (lambda v: v.update(labels=np.stack([np.eye(2)[[0, 1, 1, 0]]] * 3)), "labels of one kind in all splits"),
        (lambda v: v.update(labels=np.ones((3, 4, 2))), "a one-hot pair per emotion"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(tmp_path: Path, change: Any, expected: str) -> None:
    content = mult_file()
    change(content["valid"])
    with pytest.raises(Refusal, match=expected):
        read(content, tmp_path)


@pytest.mark.parametrize(
    ("emotions", "entry"),
    [(True, MOSI), (False, IEMOCAP),
     (True, CatalogueEntry("other", "", MultiLabel(("happy", "neutral", "sad", "angry")).card(), "", ""))],
)  # fmt: skip
def test_labels_of_another_corpus_are_refused(tmp_path: Path, emotions: bool, entry: CatalogueEntry) -> None:
    content = mult_file((20, 20, 20), emotions)
    with pytest.raises(Refusal, match=f"the labels of {entry.name}"):
        read(content, tmp_path, entry)


def test_detection(tmp_path: Path) -> None:
    path = write(mult_file(), tmp_path / "mosi_data.pkl")
    assert detect(path).name == "mult"
    assert not MulT().detects(tmp_path / "nothing.pkl")

"""MMSA pickles: end padding, lengths from masks, keys or zeros, and the habits of the tools that write them."""

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
from mer_lightning.data.importing.mmsa import MMSA
from mer_lightning.data.store import write_corpus
from mer_lightning.errors import Refusal
from mer_lightning.tasks import MultiLabel, Regression

SIZES = {"train": 5, "valid": 3, "test": 4}
MOSI = CatalogueEntry("mosi", "", Regression(3.0).card(), "", "")
SIMS = CatalogueEntry("sims", "", Regression(1.0).card(), "", "")


def mmsa_file(
    steps: tuple[int, int, int] = (50, 375, 500), dims: tuple[int, int, int] = (768, 5, 20), unimodal: bool = False
) -> dict[str, dict[str, Any]]:
    """As MMSA has it: arrays, lists of lengths, labels and strings, -inf in audio. True lengths under "true"."""
    rng = np.random.default_rng(0)
    content = {}
    for split, n in SIZES.items():
        longest = dict(zip(("text", "audio", "vision"), steps, strict=True))
        true = {m: rng.integers(3, longest[m] + 1, n) for m in longest}
        if len(set(steps)) == 1:
            true = dict.fromkeys(longest, true["text"])
        values = {}
        for (m, width), dtype in zip(zip(longest, dims, strict=True), ("f4", "f8", "f8"), strict=True):
            values[m] = rng.normal(size=(n, longest[m], width)).astype(dtype)
            values[m][np.arange(longest[m]) >= true[m][:, None]] = 0
        values["audio"][1, 2, 3] = -np.inf
        mask = np.arange(steps[0]) < true["text"][:, None]
        ids = rng.integers(1000, 20000, (n, steps[0])) * mask
        labels = np.round(rng.uniform(-1, 1, n), 1) * (1 if unimodal else 3)
        content[split] = {
            "raw_text": np.array([f"sentence {i} of {split}" for i in range(n)]),
            "audio": values["audio"],
            "vision": values["vision"],
            "id": [f"{split}video{i // 2}$_${i}" for i in range(n)],
            "text": values["text"],
            "text_bert": np.stack([ids, mask, np.zeros_like(ids)], axis=1).astype(np.int64),
            "annotations": ["Positive"] * n,
            "classification_labels": np.sign(labels) + 1,
            "regression_labels": labels,
            "true": true,
        }
        if len(set(steps)) > 1:
            content[split]["audio_lengths"] = [int(length) for length in true["audio"]]
            content[split]["vision_lengths"] = [int(length) for length in true["vision"]]
        if unimodal:
            for number, letter in enumerate("TAV"):
                content[split][f"regression_labels_{letter}"] = labels * (number - 1)
    return content


def write(content: Any, path: Path) -> Path:
    without = {split: {k: v for k, v in values.items() if k != "true"} for split, values in content.items()}
    path.write_bytes(pickle.dumps(without, protocol=4))
    return path


def read(content: Any, tmp_path: Path, entry: CatalogueEntry | None = MOSI) -> Any:
    number = len(list(tmp_path.iterdir()))  # arrays of an earlier call are views of its file
    return MMSA().read(write(content, tmp_path / f"file-{number}.pkl"), entry, {})


def true_steps(content: Any, modality: str, lengths: dict[str, Any] | None = None) -> np.ndarray:
    """The slow way: sample after sample, the steps that are data."""
    pieces = []
    for split, values in content.items():
        for i in range(SIZES[split]):
            length = (lengths or {s: v["true"] for s, v in content.items()})[split][modality][i]
            pieces.append(values[modality][i, :length])
    return np.concatenate(pieces)


@pytest.mark.parametrize(
    ("steps", "dims", "alignment"),
    [((50, 375, 500), (768, 5, 20), "unaligned"), ((50, 50, 50), (768, 5, 20), "aligned"),
     ((50, 500, 500), (768, 74, 35), "unaligned"), ((39, 400, 55), (768, 33, 709), "unaligned")],
    ids=["mosi unaligned", "mosi aligned", "mosei unaligned", "sims"],
)  # fmt: skip
def test_every_step_of_data_and_no_padding(
    tmp_path: Path, steps: tuple[int, int, int], dims: tuple[int, int, int], alignment: str
) -> None:
    content = mmsa_file(steps, dims)
    raw = read(content, tmp_path)
    assert raw.alignment == alignment
    assert raw.padding == "end"
    for modality, width in zip(("text", "audio", "vision"), dims, strict=True):
        found = raw.features[modality].packed(0, 12)
        assert found.shape[1] == width
        assert np.array_equal(found, true_steps(content, modality))
        lengths = np.concatenate([values["true"][modality] for values in content.values()])
        assert np.array_equal(raw.features[modality].lengths, lengths)
        assert np.array_equal(raw.features[modality].packed(4, 9), found[lengths[:4].sum() : lengths[:9].sum()])
    assert np.array_equal(raw.target, np.concatenate([v["regression_labels"] for v in content.values()]))
    assert raw.ids[:3] == ["trainvideo0$_$0", "trainvideo0$_$1", "trainvideo1$_$2"]
    assert raw.groups[:3] == ["trainvideo0", "trainvideo0", "trainvideo1"]
    assert raw.columns["sentence"][6] == "sentence 1 of valid"
    assert raw.partitions["official"].tolist() == [0] * 5 + [1] * 3 + [2] * 4
    assert raw.extras["text_bert"].dtype == np.int32
    assert np.array_equal(raw.extras["text_bert"], np.concatenate([v["text_bert"] for v in content.values()]))


def test_feature_set_names(tmp_path: Path) -> None:
    assert read(mmsa_file(), tmp_path).feature_set == {"text": "bert 768", "audio": "covarep 5", "vision": "facet 20"}
    sims = read(mmsa_file((39, 400, 55), (768, 33, 709)), tmp_path, SIMS)
    assert sims.feature_set == {"text": "bert 768", "audio": "audio 33", "vision": "vision 709"}


def test_import_replaces_minus_inf_and_counts_it(tmp_path: Path) -> None:
    content = mmsa_file()
    card = write_corpus(read(content, tmp_path), tmp_path / "mosi", "mosi", nonfinite="zero")
    assert card.cleaned == {"audio": {"-inf": 3}}
    assert card.partitions == {"official": {"train": 5, "valid": 3, "test": 4}}
    batch = open_corpus(tmp_path / "mosi").split("official", "valid").batch(torch.arange(3))
    expected = content["valid"]["audio"][1, : content["valid"]["true"]["audio"][1]].astype(np.float32)
    expected[2, 3] = 0
    assert np.array_equal(batch.features["audio"][1, : len(expected)].numpy(), expected)


def test_unimodal_labels_become_extras(tmp_path: Path) -> None:
    content = mmsa_file((39, 400, 55), (768, 33, 709), unimodal=True)
    raw = read(content, tmp_path, SIMS)
    target = np.concatenate([v["regression_labels"] for v in content.values()])
    for name, factor in (("target_text", -1), ("target_audio", 0), ("target_vision", 1)):
        assert np.allclose(raw.extras[name], factor * target)
    assert raw.task == Regression(1.0)


def test_the_task_without_an_entry_follows_the_labels(tmp_path: Path) -> None:
    content = mmsa_file()
    content["test"]["regression_labels"][0] = -2.6
    assert read(content, tmp_path, None).task == Regression(3.0)
    for values in content.values():
        values["regression_labels"] = np.clip(values["regression_labels"], -1, 1)
    assert read(content, tmp_path, None).task == Regression(1.0)
    assert read(content, tmp_path, MOSI).task == Regression(3.0)


def test_without_text_bert_lengths_end_at_the_last_step_that_is_not_zero(tmp_path: Path) -> None:
    content = mmsa_file()
    for values in content.values():
        del values["text_bert"], values["audio_lengths"], values["vision_lengths"]
    content["train"]["vision"][2] = 0  # an all-zero sample keeps one step
    content["train"]["true"]["vision"][2] = 1
    content["train"]["audio"][0, 1] = 0  # a zero step between others is data
    raw = read(content, tmp_path)
    for modality in ("text", "audio", "vision"):
        expected = np.concatenate([values["true"][modality] for values in content.values()])
        assert np.array_equal(raw.features[modality].lengths, expected)
    assert "text_bert" not in raw.extras
    assert any("No text_bert" in note for note in raw.notes)


def test_aligned_modalities_stay_aligned_without_text_bert(tmp_path: Path) -> None:
    """The last face of a sample may be zeros: trimming vision alone would give it another length than its words."""
    content = mmsa_file((50, 50, 50))
    for values in content.values():
        del values["text_bert"]
    length = content["train"]["true"]["text"][0]
    content["train"]["vision"][0, length - 1] = 0
    raw = read(content, tmp_path)
    assert raw.alignment == "aligned"
    assert [raw.features[m].lengths[0] for m in ("text", "audio", "vision")] == [length] * 3


def test_a_length_of_zero_says_absent(tmp_path: Path) -> None:
    content = mmsa_file()
    content["valid"]["vision_lengths"][1] = 0
    raw = read(content, tmp_path)
    assert raw.features["vision"].lengths[6] == 0
    assert "1 samples have no vision: their length is 0." in raw.notes


def test_an_empty_mask_leaves_one_step(tmp_path: Path) -> None:
    content = mmsa_file()
    content["valid"]["text_bert"][1, 1] = 0
    assert read(content, tmp_path).features["text"].lengths[6] == 1


def test_lists_bytes_and_arrays_of_one_string(tmp_path: Path) -> None:
    content = mmsa_file((4, 6, 8), (3, 4, 2))
    expected = read(content, tmp_path)
    train = content["train"]
    train["text"] = list(train["text"])
    train["audio"] = train["audio"].tolist()
    train["vision"] = np.array([*train["vision"], None], dtype=object)[:-1]
    train["id"] = np.array([name.encode() for name in train["id"]])
    train["raw_text"] = [np.array([text]) for text in train["raw_text"]]
    train["regression_labels"] = [np.array([label]) for label in train["regression_labels"]]
    train["text_bert"] = train["text_bert"].astype(np.float32)
    train["audio_lengths"] = np.array(train["audio_lengths"], dtype=np.float64)
    found = read(content, tmp_path)
    assert found.ids == expected.ids
    assert found.columns == expected.columns
    assert np.array_equal(found.target, expected.target)
    assert np.array_equal(found.extras["text_bert"], expected.extras["text_bert"])
    for modality in ("text", "audio", "vision"):
        assert np.array_equal(found.features[modality].packed(0, 12), expected.features[modality].packed(0, 12))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda v: v.pop("vision"), "'vision' in 'test'; found only annotations, audio"),
        (lambda v: v.pop("regression_labels"), "'regression_labels' in 'test'"),
        (lambda v: v.update(audio_lengths=[376] * 4), "lengths of 0 to 375"),
        (lambda v: v.update(vision_lengths=[-1] * 4), "lengths of 0 to 500"),
        (lambda v: v.update(vision_lengths=[1.5] * 4), "whole numbers"),
        (lambda v: v.update(vision=v["vision"][:3]), "4 samples in test.vision"),
        (lambda v: v.update(vision=v["vision"][:, 0]), r"\(samples, steps, width\) in test.vision"),
        (lambda v: v.update(vision=v["vision"][:, :, :19]), "vision of one width in all splits"),
        (lambda v: v.update(vision=[np.zeros((2, 20)), np.zeros((3, 20))] * 2), "arrays of one shape in test.vision"),
        (lambda v: v.update(audio=v["audio"].astype(str)), "numbers in test.audio"),
        (lambda v: v.update(raw_text=["one"]), "4 strings in test.raw_text"),
        (lambda v: v.update(id=7), "a list of strings in test.id"),
        (lambda v: v.update(text_bert=np.zeros((4, 50, 3))), r"\(samples, 3, tokens\)"),
        (lambda v: v.update(regression_labels=np.zeros((4, 2))), "one number per sample"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(tmp_path: Path, change: Any, expected: str) -> None:
    content = mmsa_file()
    change(content["test"])
    with pytest.raises(Refusal, match=expected) as caught:
        read(content, tmp_path)
    assert "file-0.pkl" in str(caught.value)


def test_other_labels_and_other_files_are_refused(tmp_path: Path) -> None:
    emotions = CatalogueEntry("iemocap", "", MultiLabel(("neutral", "happy", "sad", "angry")).card(), "", "")
    with pytest.raises(Refusal, match="the labels of iemocap"):
        read(mmsa_file(), tmp_path, emotions)
    with pytest.raises(Refusal, match="found the keys train, dev"):
        read({"train": {}, "dev": {}}, tmp_path)


def test_detection(tmp_path: Path) -> None:
    assert detect(write(mmsa_file(), tmp_path / "unaligned_50.pkl")).name == "mmsa"
    assert not MMSA().detects(write({"train": {"labels": []}}, tmp_path / "other.pkl"))
    assert not MMSA().detects(tmp_path)
    (tmp_path / "noise.pkl").write_bytes(b"\x00\x01\x02")
    assert not MMSA().detects(tmp_path / "noise.pkl")


def test_token_ids_as_text(tmp_path: Path) -> None:
    content = mmsa_file()
    path = write(content, tmp_path / "mosi.pkl")
    raw = MMSA().read(path, MOSI, {"text": "tokens bert-base-uncased"})
    assert raw.feature_set["text"] == "tokens bert-base-uncased"
    assert MMSA().read(path, MOSI, {"text": "tokens"}).feature_set["text"] == "tokens"
    ids = [row[0][row[1] == 1] for split in content.values() for row in split["text_bert"]]  # those the mask keeps
    assert raw.features["text"].width == 1
    assert raw.features["text"].lengths.tolist() == [len(row) for row in ids]
    assert np.array_equal(raw.features["text"].packed(0, 12)[:, 0], np.concatenate(ids))
    plain = read(content, tmp_path)
    for m in ("audio", "vision"):
        assert np.array_equal(raw.features[m].packed(0, 12), plain.features[m].packed(0, 12))

    write_corpus(raw, tmp_path / "tokens", "mosi")
    batch = open_corpus(tmp_path / "tokens").split("official", "train").batch(torch.arange(5))
    assert batch.features["text"][2, : len(ids[2]), 0].long().tolist() == ids[2].tolist()


def test_token_ids_need_no_other_text_and_keep_aligned_files_aligned(tmp_path: Path) -> None:
    content = mmsa_file((50, 50, 50))
    for values in content.values():
        del values["text"]
    raw = MMSA().read(write(content, tmp_path / "aligned.pkl"), MOSI, {"text": "tokens"})
    assert raw.alignment == "aligned"
    assert np.array_equal(raw.features["text"].lengths, raw.features["audio"].lengths)


def test_feature_sets_that_the_file_does_not_have_are_refused(tmp_path: Path) -> None:
    content = mmsa_file()
    path = write(content, tmp_path / "mosi.pkl")
    for asked in ({"text": "roberta"}, {"audio": "tokens"}):
        with pytest.raises(Refusal, match="text=tokens for an MMSA file"):
            MMSA().read(path, MOSI, asked)
    for values in content.values():
        del values["text_bert"]
    with pytest.raises(Refusal, match="expected 'text_bert' in 'train'"):
        MMSA().read(write(content, tmp_path / "without.pkl"), MOSI, {"text": "tokens"})

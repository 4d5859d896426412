"""MERBench folders: pickled dicts inside a .npz, and any feature sets by name."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from mer_lightning.data.catalogue import lookup
from mer_lightning.data.importing.base import detect
from mer_lightning.data.importing.merbench import MERBench
from mer_lightning.data.raw import SPLITS
from mer_lightning.data.store import check
from mer_lightning.errors import Refusal
from mer_lightning.tasks import Regression, SingleLabel

VALUES = {
    "train_corpus": {"vid-A_1_1": -1.5, "vid-A_1_2": np.float64(0.25), "vidB_10": 3},
    "val_corpus": {"vidC_1": 0.0},
    "test_corpus": {"vidD_1": 2.0, "vidD_2": -3.0},
}
SETS = {"text": "Baichuan-13B-Base-UTT", "audio": "chinese-hubert-large-FRA", "vision": "clip-vit-large-patch14-UTT"}


def write_labels(path: Path, **corpora: dict[str, tuple[object, object]]) -> None:
    """As MERBench does: savez_compressed makes a 0-d array of objects of each dict."""
    plain = {key: {n: {"emo": e, "val": v} for n, (e, v) in corpus.items()} for key, corpus in corpora.items()}
    np.savez_compressed(path, **plain)


def write_features(root: Path, names: list[str]) -> None:
    for folder in SETS.values():
        (root / "features" / folder).mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        np.save(root / "features" / SETS["text"] / f"{name}.npy", np.full((1, 4), number, np.float32))
        frames = np.arange((number + 1) * 3, dtype=np.float32).reshape(-1, 3)
        np.save(root / "features" / SETS["audio"] / f"{name}.npy", frames)
        faces = root / "features" / SETS["vision"] / name
        faces.mkdir(exist_ok=True)
        for face in (10, 2, 1):  # sorted as text: 1, 10, 2
            np.save(faces / f"{face}.npy", np.full(2, number + face, np.float32))


@pytest.fixture
def mosi(tmp_path):
    corpora = {key: {name: (0, value) for name, value in corpus.items()} for key, corpus in VALUES.items()}
    write_labels(tmp_path / "label.npz", **corpora)
    write_features(tmp_path, [name for corpus in VALUES.values() for name in corpus])
    (tmp_path / "transcription-engchi-polish.csv").write_text(
        'name,chinese,english\nvidD_1,"好, 的","well, fine"\nvidC_1,,once\n', encoding="utf-8-sig"
    )
    return tmp_path


@pytest.fixture
def iemocap(tmp_path):
    names = [f"Ses0{session}F_impro0{k}_{who}000" for session in range(1, 6) for k in (1, 2) for who in "FM"]
    for ways in (4, 6):
        write_labels(
            tmp_path / f"label_{ways}way.npz", whole_corpus={name: (i % ways, -10) for i, name in enumerate(names)}
        )
    write_features(tmp_path, names)
    return tmp_path


def test_mosi_value_by_value(mosi):
    assert detect(mosi).name == "merbench"
    raw = MERBench().read(mosi, lookup("mosi"), SETS)
    check(raw)
    assert raw.ids == ["vid-A_1_1", "vid-A_1_2", "vidB_10", "vidC_1", "vidD_1", "vidD_2"]
    assert raw.groups == ["vid-A_1", "vid-A_1", "vidB", "vidC", "vidD", "vidD"]
    assert raw.target.tolist() == [-1.5, 0.25, 3.0, 0.0, 2.0, -3.0]
    assert [SPLITS[number] for number in raw.partitions["official"]] == ["train"] * 3 + ["valid"] + ["test"] * 2
    assert raw.columns["sentence"] == ["", "", "", "once", "well, fine", ""]
    assert raw.columns["chinese"][4] == "好, 的"
    assert raw.notes == []


def test_features_of_each_level(mosi):
    raw = MERBench().read(mosi, lookup("mosi"), SETS)
    assert raw.alignment == "unaligned"  # the audio is of frames
    np.testing.assert_array_equal(raw.features["text"].packed(0, 6)[:, 0], np.arange(6))
    assert raw.features["audio"].lengths.tolist() == [1, 2, 3, 4, 5, 6]
    np.testing.assert_array_equal(raw.features["audio"].packed(1, 2), [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_allclose(raw.features["vision"].packed(0, 6)[:, 0], np.arange(6) + 13 / 3, rtol=1e-6)
    assert raw.feature_set["audio"] == "chinese-hubert-large-FRA 3"


def test_faces_of_frame_level_follow_each_other_in_sorted_order(mosi):
    folder = mosi / "features" / SETS["vision"]
    folder.rename(folder.with_name("clip-FRA"))
    raw = MERBench().read(mosi, lookup("mosi"), {"vision": "clip-FRA"})
    assert list(raw.features) == ["vision"]
    assert raw.features["vision"].packed(2, 3)[:, 0].tolist() == [3, 12, 4]


def test_all_sets_of_utterance_level_make_an_utterance_corpus(mosi):
    assert MERBench().read(mosi, None, {m: SETS[m] for m in ("text", "vision")}).alignment == "utterance"


def test_iemocap_folds_and_label_files(iemocap):
    four = MERBench().read(iemocap, lookup("iemocap4"), SETS)
    check(four)
    assert MERBench().read(iemocap, lookup("iemocap6"), SETS).target.max() == 5
    assert list(four.partitions) == [f"fold-{k}" for k in range(1, 6)]
    assert {four.ids[i][4] for i in np.flatnonzero(four.partitions["fold-4"] == 2)} == {"4"}
    assert four.target.dtype.kind == "i"
    with pytest.raises(Refusal, match=r"one label file; found label_4way.npz, label_6way.npz"):
        MERBench().read(iemocap, None, SETS)


def test_mer2023_has_three_test_sets_and_a_carved_validation_set(tmp_path):
    names = [f"sample_{number:08d}" for number in range(26)]
    emotions = ["neutral", "angry", "happy", "sad", "worried", "surprise"]
    label = {name: (emotions[i % 6], -10 if i > 23 else 1.5) for i, name in enumerate(names)}
    parts = {"train_corpus": names[:20], "test1_corpus": names[20:22], "test2_corpus": names[22:24]}
    parts["test3_corpus"] = names[24:]
    corpora = {key: {name: label[name] for name in part} for key, part in parts.items()}
    write_labels(tmp_path / "label-6way.npz", **corpora)
    write_features(tmp_path, names)
    raw = MERBench().read(tmp_path, lookup("mer2023"), SETS)
    check(raw)
    assert list(raw.partitions) == ["test1", "test2", "test3"]
    assert raw.target.tolist() == [i % 6 for i in range(26)]
    assert [raw.ids[i] for i in np.flatnonzero(raw.partitions["test2"] == 2)] == names[22:24]
    for partition in raw.partitions.values():
        assert np.bincount(partition[:20]).tolist() == [17, 3]  # 15 % of 20, single samples
        assert (partition[20:] == -1).sum() == 4
    assert any("carved" in note for note in raw.notes)


def test_without_an_entry_the_labels_say_what_they_are(mosi):
    assert MERBench().read(mosi, None, SETS).task == Regression(limit=3.0)
    names = list(VALUES["train_corpus"])
    for emotions, value, task in (
        ((0, 0, 0), 0.4, Regression(limit=1.0)),
        ((0, 2, 1), -10, SingleLabel(("class 0", "class 1", "class 2"))),
        (("sad", "happy", "sad"), -10, SingleLabel(("happy", "sad"))),
    ):
        rows = {name: (emotion, value) for name, emotion in zip(names, emotions, strict=True)}
        write_labels(mosi / "label.npz", train_corpus=rows, test_corpus={"vidD_1": (emotions[0], value)})
        assert MERBench().read(mosi, None, SETS).task == task


def test_a_missing_feature_is_absence_and_is_counted(mosi):
    (mosi / "features" / SETS["text"] / "vidC_1.npy").unlink()
    np.save(mosi / "features" / SETS["audio"] / "vidD_1.npy", np.zeros((0, 3)))
    raw = MERBench().read(mosi, lookup("mosi"), SETS)
    assert raw.features["text"].lengths.tolist() == [1, 1, 1, 0, 1, 1]
    assert raw.features["text"].packed(2, 5)[:, 0].tolist() == [2, 4]
    assert raw.features["audio"].lengths.tolist() == [1, 2, 3, 4, 0, 6]
    assert raw.notes[0] == f"1 of 6 samples have no text features in {SETS['text']}."


class Harm:
    def __reduce__(self):
        return os.system, ("touch harmed",)


def rewrite(root: Path, **corpora: object) -> None:
    np.savez(root / "label.npz", **corpora)


def header_only(root: Path) -> None:
    stream = io.BytesIO()
    np.save(stream, {"a": 1}, allow_pickle=True)
    with zipfile.ZipFile(root / "label.npz", "w") as archive:
        archive.writestr("train_corpus.npy", stream.getvalue()[:128])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda root: rewrite(root, train_corpus=Harm()), "one that asks for .*system"),
        (lambda root: rewrite(root, train_corpus={"a": 1}, test_corpus={}), "something else in 'train'"),
        (lambda root: rewrite(root, train_corpus=np.ones(3)), "something else in 'train'"),
        (lambda root: rewrite(root, train_corpus={}), "train_corpus and test_corpus; found train_corpus"),
        (lambda root: (root / "label.npz").write_bytes(b"junk"), "expected a .npz file"),
        (header_only, "one that is cut off"),
        (lambda root: (root / "features" / SETS["text"]).rename(root / "features/x"), "a folder 'Baichuan-13B"),
        (lambda root: [p.unlink() for p in (root / "features" / SETS["text"]).iterdir()], "found no feature at all"),
        (lambda root: write_labels(root / "label.npz", train_corpus={"a_1": (0, -10)}, test_corpus={"b_1": (0, 1)}),
         "a sentiment value for every sample; found -10 for 'a_1'"),
        (lambda root: write_labels(root / "label.npz", train_corpus={"vidC_1": (0, 1)}, test_corpus={"vidC_1": (0, 1)}),
         "each sample in one split; found 'vidC_1' in two"),
    ],
)  # fmt: skip
def test_refusals_are_one_line(mosi, damage, words, monkeypatch):
    monkeypatch.chdir(mosi)
    write_features(mosi, ["a_1", "b_1"])
    damage(mosi)
    with pytest.raises(Refusal, match=words) as refusal:
        MERBench().read(mosi, lookup("mosi"), SETS)
    assert "\n" not in str(refusal.value)
    assert not (mosi / "harmed").exists()


def test_features_must_be_named_and_the_refusal_lists_them(mosi):
    words = r"Baichuan-13B-Base-UTT, chinese-hubert-large-FRA, clip.*--features text=A,audio=B,vision=C"
    with pytest.raises(Refusal, match=words):
        MERBench().read(mosi, lookup("mosi"), {})


def test_classes_that_the_corpus_does_not_know_are_refused(tmp_path):
    write_labels(tmp_path / "label.npz", train_corpus={"a_1": ("bored", 1)}, test_corpus={"b_1": ("sad", 1)})
    write_features(tmp_path, ["a_1", "b_1"])
    with pytest.raises(Refusal, match=r"one of the classes neutral, angry.*found 'bored' for 'a_1'"):
        MERBench().read(tmp_path, lookup("mer2023"), SETS)
    with pytest.raises(Refusal, match="a task for which these labels are enough; found multi_label"):
        MERBench().read(tmp_path, lookup("mosei_emotions"), SETS)


def test_an_empty_split_is_refused(mosi):
    write_labels(mosi / "label.npz", train_corpus={"vidA_1_1": (0, 1)}, val_corpus={}, test_corpus={"vidD_1": (0, 1)})
    with pytest.raises(Refusal, match="samples in split 'valid'"):
        check(MERBench().read(mosi, lookup("mosi"), SETS))

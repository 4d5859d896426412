"""MMIN folders: HDF5 of one data set per utterance, and folds of labels in .npy."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from mer_lightning.data.catalogue import lookup
from mer_lightning.data.importing import mmin
from mer_lightning.data.importing.base import detect
from mer_lightning.data.importing.mmin import MMIN
from mer_lightning.data.raw import SPLITS, UNUSED
from mer_lightning.data.store import check, write_corpus
from mer_lightning.errors import Refusal

h5py = pytest.importorskip("h5py")

NAMES = [f"Ses0{session}F_impro0{k}_{who}00{k}" for session in (1, 2, 3) for k in (1, 2) for who in "FM"]  # 12
CLASSES = {name: number % 4 for number, name in enumerate(NAMES)}
WIDTHS = {"A/comparE": 130, "V/denseface": 342, "L/bert_large": 1024}


def frames(folder: str, name: str) -> np.ndarray:
    draw = np.random.default_rng(sum(map(ord, folder + name)))
    return draw.normal(size=(int(draw.integers(1, 6)), WIDTHS[folder]))  # float64, as h5py stores a numpy default


def write_fold(target, fold: int, splits: dict[str, list[str]]) -> None:
    folder = target / str(fold)
    folder.mkdir(parents=True)
    for prefix, names in splits.items():
        np.save(folder / f"{prefix}_label.npy", np.eye(4)[[CLASSES[name] for name in names]])
        np.save(folder / f"{prefix}_int2name.npy", np.array([[name.encode()] for name in names]))


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "IEMOCAP_features_2021"
    for folder in WIDTHS:
        path = root / f"{folder}.h5"
        path.parent.mkdir(parents=True)
        with h5py.File(path, "w") as file:
            for name in NAMES:
                file[name] = frames(folder, name)
    with h5py.File(root / "A" / "comparE_mean_std.h5", "w") as file:
        for fold in range(1, 11):
            file[f"{fold}/mean"], file[f"{fold}/std"] = np.zeros(130), np.ones(130)
    for fold in range(1, 11):
        turned = NAMES[fold:] + NAMES[:fold]
        write_fold(root / "target", fold, {"trn": turned[:7], "val": turned[7:9], "tst": turned[9:]})
    return root


def test_ten_folds_of_the_same_utterances(root):
    assert detect(root).name == "mmin"
    raw = MMIN().read(root, None, {})
    check(raw)
    assert raw.ids == sorted(NAMES)
    assert list(raw.partitions) == [f"fold-{fold}" for fold in range(1, 11)]
    for fold, partition in enumerate(raw.partitions.values(), start=1):
        turned = NAMES[fold:] + NAMES[:fold]
        expected = {**dict.fromkeys(turned[:7], 0), **dict.fromkeys(turned[7:9], 1), **dict.fromkeys(turned[9:], 2)}
        assert dict(zip(raw.ids, partition.tolist(), strict=True)) == expected
    assert dict(zip(raw.ids, raw.target.tolist(), strict=True)) == CLASSES
    assert raw.groups[0] == "Ses01F_impro01"
    assert raw.alignment == "unaligned"
    assert any("more than one split" in note for note in raw.notes)
    assert any("comparE_mean_std.h5" in note for note in raw.notes)


def test_frames_are_those_of_the_file(root):
    raw = MMIN().read(root, None, {})
    folders = {"text": "L/bert_large", "audio": "A/comparE", "vision": "V/denseface"}
    for modality, sequences in raw.features.items():
        slow = [frames(folders[modality], name) for name in raw.ids]
        assert sequences.lengths.tolist() == [len(one) for one in slow]
        np.testing.assert_array_equal(sequences.packed(0, len(raw)), np.concatenate(slow))
        np.testing.assert_array_equal(sequences.packed(3, 5), np.concatenate(slow[3:5]))
    assert raw.feature_set == {"text": "bert_large 1024", "audio": "comparE 130", "vision": "denseface 342"}


def test_classes_get_names_only_where_their_counts_tell(root, monkeypatch):
    raw = MMIN().read(root, lookup("iemocap4"), {})
    assert raw.task.classes == ("class 0", "class 1", "class 2", "class 3")
    assert any("numbers of classes and no names" in note for note in raw.notes)

    for name, number in zip(NAMES, [0, 0, 0, 1, 2, 2, 2, 2, 2, 3, 3, 1], strict=True):
        monkeypatch.setitem(CLASSES, name, number)  # 3, 2, 5 and 2 of them
    CLASSES[NAMES[-1]] = 2  # 3, 1, 6, 2
    monkeypatch.setattr(mmin, "_IEMOCAP4", {6: "neutral", 1: "angry", 3: "sad", 2: "happy"})
    for fold in range(1, 11):
        for file in (root / "target" / str(fold)).iterdir():
            file.unlink()
        (root / "target" / str(fold)).rmdir()
        write_fold(root / "target", fold, {"trn": NAMES[:8], "val": NAMES[8:10], "tst": NAMES[10:]})
    raw = MMIN().read(root, lookup("iemocap4"), {})
    assert raw.task == lookup("iemocap4").task
    names = [raw.task.classes[number] for number in raw.target]
    expected = {0: "sad", 1: "angry", 2: "neutral", 3: "happy"}
    assert dict(zip(raw.ids, names, strict=True)) == {name: expected[CLASSES[name]] for name in NAMES}


def test_roots_are_found_below_and_the_target_may_lie_elsewhere(root):
    (root / "target").rename(root.parent / "labels")
    assert MMIN().detects(root.parent)
    assert not MMIN().detects(root)
    assert not MMIN().detects(root / "A" / "comparE.h5")
    assert MMIN().read(root.parent, None, {}).ids == sorted(NAMES)
    with pytest.raises(Refusal, match=r"folders A, V and L, and 1/trn_label.npy.*found no 1/trn_label.npy"):
        MMIN().read(root, None, {})


def test_what_is_not_in_the_h5_is_absent_and_counted(root, tmp_path):
    with h5py.File(root / "V" / "denseface.h5", "a") as file:
        del file[NAMES[0]], file[NAMES[5]]
    raw = MMIN().read(root, None, {})
    absent = {name for name, length in zip(raw.ids, raw.features["vision"].lengths, strict=True) if length == 0}
    assert absent == {NAMES[0], NAMES[5]}
    assert any(note.startswith("2 of 12 utterances have no vision features") for note in raw.notes)
    assert len(raw.features["vision"].packed(0, 12)) == raw.features["vision"].lengths.sum()
    assert write_corpus(raw, tmp_path / "native", "iemocap4").samples == 12


def test_a_fold_may_leave_utterances_out(root):
    for prefix in ("label", "int2name"):
        values = np.load(root / "target" / "2" / f"trn_{prefix}.npy")
        np.save(root / "target" / "2" / f"trn_{prefix}.npy", values[1:])
    raw = MMIN().read(root, None, {})
    assert raw.partitions["fold-2"][raw.ids.index(NAMES[2])] == UNUSED
    assert raw.partitions["fold-1"][raw.ids.index(NAMES[2])] == SPLITS.index("train")


def save(root, name, values):
    np.save(root / "target" / "3" / name, values)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda root: (root / "V/denseface.h5").rename(root / "V/other.h5"), "the vision features; found other.h5"),
        (lambda root: (root / "target/4/val_label.npy").unlink(), r"4/val_label.npy.*copy the whole fold"),
        (lambda root: save(root, "tst_label.npy", np.eye(4)[[0]]), r"labels of shape \(1,\) for 3 names"),
        (lambda root: save(root, "tst_label.npy", np.ones((3, 4))), "one class, or one one-hot row"),
        (lambda root: save(root, "tst_label.npy", np.eye(4)[[3, 3, 3]]), "one label per utterance in all folds"),
        (lambda root: save(root, "tst_int2name.npy", [[b"a"]] * 3), "each utterance in one set; found 'a' in two"),
        (lambda root: (root / "A/comparE.h5").write_bytes(b"junk"), "expected an HDF5 file"),
        (lambda root: h5py.File(root / "A/comparE.h5", "w").close(), "data sets named like 'Ses01F"),
    ],
)
def test_refusals_are_one_line(root, damage, words):
    damage(root)
    with pytest.raises(Refusal, match=words) as refusal:
        MMIN().read(root, None, {})
    assert "\n" not in str(refusal.value)


def test_an_empty_split_is_refused(root):
    for prefix, values in (("label", np.zeros((0, 4))), ("int2name", np.zeros((0, 1), "S19"))):
        save(root, f"val_{prefix}.npy", values)
    with pytest.raises(Refusal, match="samples in split 'valid' of partition 'fold-3'"):
        check(MMIN().read(root, None, {}))


def test_frames_of_another_width_are_refused(root):
    with h5py.File(root / "L" / "bert_large.h5", "a") as file:
        del file[NAMES[3]]
        file[NAMES[3]] = np.ones((2, 9))
    with pytest.raises(Refusal, match=rf"frames \(T, D\) of one width; found shape \(2, 9\) for '{NAMES[3]}'"):
        MMIN().read(root, None, {})


def test_the_wrong_corpus_is_refused(root):
    with pytest.raises(Refusal, match=r"labels of mosi \(regression\); found 4 classes"):
        MMIN().read(root, lookup("mosi"), {})


def test_without_h5py_the_refusal_says_what_to_install(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(Refusal, match=r"pip install 'mer-lightning\[h5\]'"):
        MMIN().read(root, None, {})

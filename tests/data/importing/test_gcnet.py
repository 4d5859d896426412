"""GCNet folders, written as its authors' preprocessing writes them, and read back value by value."""

from __future__ import annotations

import pickle
import pickletools
from pathlib import Path

import numpy as np
import pytest

from mer_lightning.data.catalogue import lookup
from mer_lightning.data.importing.base import detect
from mer_lightning.data.importing.gcnet import FEATURES, GCNet
from mer_lightning.data.raw import SPLITS
from mer_lightning.data.store import check
from mer_lightning.errors import Refusal

MOSI = {"vidB": 2, "vidA": 1, "vidC": 1, "vidD": 2, "unused": 1}  # videos in the order of the file, and utterances


def write_labels(path: Path, content: object) -> None:
    path.write_bytes(pickle.dumps(content, protocol=2))


def as_python_2(content: object) -> bytes:
    """The pickle that Python 2 would write: its strings are bytes, here in Latin-1."""
    data = pickle.dumps(content, protocol=2)
    starts = [(position, code.name, value) for code, value, position in pickletools.genops(data)]
    parts = []
    for (start, code, value), (stop, *_) in zip(starts, [*starts[1:], (len(data),)], strict=True):
        raw = value.encode("latin-1") if code == "BINUNICODE" else b""
        parts.append(b"U" + bytes([len(raw)]) + raw if code == "BINUNICODE" else data[start:stop])
    return b"".join(parts)


def write_mosi(root: Path) -> Path:
    ids = {video: [f"{video}_{i + 1}" for i in range(count)] for video, count in MOSI.items()}
    labels = {video: [np.float64(-1.4 + k + i) for i in range(MOSI[video])] for k, video in enumerate(MOSI)}
    speakers = {video: [""] * count for video, count in MOSI.items()}
    sentences = {video: np.array([f"caf\xe9 {name}" for name in ids[video]]) for video in MOSI}
    write_labels(
        root / "CMUMOSI_features_raw_2way.pkl",
        [ids, labels, speakers, sentences, {"vidD", "vidA"}, {"vidC"}, {"vidB"}],
    )
    for modality, folder in FEATURES.items():
        (root / "features" / folder).mkdir(parents=True)
        for names in ids.values():
            for name in names:
                np.save(root / "features" / folder / f"{name}.npy", mosi_feature(modality, name))
    return root


def mosi_feature(modality: str, name: str) -> np.ndarray:
    seed = sum(map(ord, modality + name))
    draw = np.random.default_rng(seed)
    shape = {"text": (4,), "audio": (3, 6), "vision": (1, 5)}[modality]  # a vector, frames, one frame
    return draw.normal(size=shape).astype(np.float32)


def write_iemocap(root: Path, ways: int = 4) -> Path:
    dialogues = [f"Ses0{session}F_impro0{number}" for session in range(1, 6) for number in (1, 2)]
    ids = {dialogue: [f"{dialogue}_F000", f"{dialogue}_M000"] for dialogue in dialogues}
    labels = {dialogue: [k % ways, (k + 1) % ways] for k, dialogue in enumerate(dialogues)}
    speakers = {dialogue: ["F", "M"] for dialogue in dialogues}
    sentences = {dialogue: ["yes", "tr\xe8s"] for dialogue in dialogues}
    train, test = set(dialogues[:8]), set(dialogues[8:])
    content = [ids, labels, speakers, sentences, train, test]
    (root / f"IEMOCAP_features_raw_{ways}way.pkl").write_bytes(as_python_2(content))
    names = [name for both in ids.values() for name in both]
    for modality, folder in FEATURES.items():
        (root / "features" / folder).mkdir(parents=True, exist_ok=True)
        for number, name in enumerate(names):
            if modality != "vision":
                np.save(root / "features" / folder / f"{name}.npy", np.full(3, number, np.float32))
                continue
            faces = root / "features" / folder / name
            faces.mkdir(exist_ok=True)
            for letter, sign in (("F", 1), ("M", -1)):
                if name != "Ses02F_impro01_M000" or letter == "F":  # one utterance does not show its speaker
                    np.save(faces / f"compress_{letter}.npy", np.full(2, sign * (number + 1), np.float32))
    return root


@pytest.fixture
def mosi(tmp_path):
    return write_mosi(tmp_path)


@pytest.fixture
def iemocap(tmp_path):
    return write_iemocap(tmp_path)


def test_mosi_in_the_order_of_gcnet(mosi):
    assert detect(mosi).name == "gcnet"
    raw = GCNet().read(mosi, lookup("mosi"), {})
    check(raw)
    assert raw.ids == ["vidA_1", "vidD_1", "vidD_2", "vidC_1", "vidB_1", "vidB_2"]
    assert raw.target.tolist() == pytest.approx([-0.4, 1.6, 2.6, 0.6, -1.4, -0.4])
    splits = [SPLITS[number] for number in raw.partitions["official"]]
    assert splits == ["train", "train", "train", "valid", "test", "test"]
    assert raw.groups == ["vidA", "vidD", "vidD", "vidC", "vidB", "vidB"]
    assert raw.columns["sentence"][1] == "caf\xe9 vidD_1"
    assert raw.columns["position"] == ["0", "0", "1", "0", "0", "1"]
    assert (raw.alignment, raw.notes) == ("utterance", [])
    assert raw.feature_set["text"] == "deberta-large-4-UTT 4"


def test_frames_are_averaged_over_time(mosi):
    raw = GCNet().read(mosi, lookup("mosi"), {})
    for modality, sequences in raw.features.items():
        slow = [np.atleast_2d(mosi_feature(modality, name)).mean(axis=0) for name in raw.ids]
        np.testing.assert_allclose(sequences.packed(0, len(raw)), slow, rtol=1e-6)
        np.testing.assert_allclose(sequences.packed(2, 4), slow[2:4], rtol=1e-6)


def test_a_folder_without_vision_is_a_corpus_without_vision(mosi):
    (mosi / "features/manet_UTT").rename(mosi / "features/faces")
    raw = GCNet().read(mosi, lookup("mosi"), {})
    assert list(raw.features) == ["text", "audio"]
    assert raw.notes == ["No manet_UTT is in features/: no vision."]
    assert list(GCNet().read(mosi, lookup("mosi"), {"vision": "faces"}).features) == ["text", "audio", "vision"]
    with pytest.raises(Refusal, match=r"a folder 'manet_UTT'.*faces"):
        GCNet().read(mosi, lookup("mosi"), {"vision": "manet_UTT"})


def test_without_an_entry_the_pickle_says_which_corpus_it_is(mosi):
    assert GCNet().read(mosi, None, {}).task == lookup("mosi").task


def test_other_feature_sets_by_name(mosi):
    (mosi / "features" / "other").mkdir()
    for names in (mosi / "features" / "manet_UTT").iterdir():
        np.save(mosi / "features" / "other" / names.name, np.arange(7.0))
    raw = GCNet().read(mosi, lookup("mosi"), {"audio": "other"})
    assert raw.feature_set["audio"] == "other 7"
    np.testing.assert_array_equal(raw.features["audio"].packed(0, 1), [np.arange(7)])


def test_iemocap_takes_the_face_of_the_speaker(iemocap):
    raw = GCNet().read(iemocap, lookup("iemocap4"), {})
    check(raw)
    vision = raw.features["vision"].packed(0, len(raw))[:, 0]
    number = raw.features["text"].packed(0, len(raw))[:, 0]
    expected = np.where(np.array(raw.columns["speaker"]) == "F", number + 1, -(number + 1))
    expected[raw.ids.index("Ses02F_impro01_M000")] = 0  # its speaker is not seen
    np.testing.assert_array_equal(vision, expected)
    assert raw.features["vision"].lengths.tolist() == [1] * len(raw)
    assert any(note.startswith("1 utterances without vision") for note in raw.notes)
    assert raw.target[:4].tolist() == [0, 1, 1, 2]
    assert raw.columns["sentence"][:2] == ["yes", "tr\xe8s"]


def test_iemocap_folds_leave_one_session_out_and_split_no_dialogue(iemocap):
    raw = GCNet().read(iemocap, lookup("iemocap4"), {})
    assert list(raw.partitions) == [f"fold-{k}" for k in range(1, 6)]
    for k, partition in enumerate(raw.partitions.values(), start=1):
        tested = {name[4] for name, split in zip(raw.ids, partition, strict=True) if split == 2}
        assert tested == {str(k)}
        assert (partition == 2).sum() == 4
        assert sorted(np.bincount(partition).tolist()) == [4, 4, 12]  # 15 % of 16 is met by the second dialogue
        split_of = {}
        for group, split in zip(raw.groups, partition, strict=True):
            assert split_of.setdefault(group, split) == split
    assert any("validation" in note for note in raw.notes)


def test_two_pickles_are_told_apart_by_the_corpus(iemocap):
    write_iemocap(iemocap, ways=6)
    raw = GCNet().read(iemocap, lookup("iemocap6"), {})
    assert raw.target.max() == 5
    with pytest.raises(Refusal, match="import it as iemocap4 or as iemocap6"):
        GCNet().read(iemocap, None, {})


def test_a_folder_of_merbench_is_left_to_its_own_reader(iemocap):
    (iemocap / "label_4way.npz").write_bytes(b"")
    assert not GCNet().detects(iemocap)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda root: (root / "features/manet_UTT/vidD_2.npy").unlink(), "vidD_2.npy or a folder of that name"),
        (lambda root: (root / "features").rename(root / "vectors"), "a folder 'deberta-large-4-UTT'.*nothing"),
        (lambda root: np.save(root / "features/manet_UTT/vidD_2.npy", np.ones(9)), "one width.*5 in.*9 in vidD_2.npy"),
        (lambda root: np.save(root / "features/manet_UTT/vidD_2.npy", "x"), "numbers of shape.*<U1"),
        (lambda root: (root / "features/manet_UTT/vidD_2.npy").write_bytes(b"junk"), "numpy.save"),
        (lambda root: write_labels(root / "CMUMOSI_features_raw_2way.pkl", {"train": 1}), "found a dict of 1"),
        (lambda root: write_labels(root / "CMUMOSI_features_raw_2way.pkl", [1] * 7), "found TypeError"),
        (lambda root: write_labels(root / "CMUMOSI_features_raw_2way.pkl", [{}] * 4 + [{"v"}] * 3), "KeyError 'v'"),
        (lambda root: write_labels(root / "CMUMOSI_features_raw_2way.pkl", [Path("x")]), "one that asks for pathlib"),
    ],
)
def test_refusals_are_one_line(mosi, damage, words):
    damage(mosi)
    with pytest.raises(Refusal, match=words) as refusal:
        GCNet().read(mosi, lookup("mosi"), {})
    assert "\n" not in str(refusal.value)


def test_an_empty_split_is_refused(mosi):
    path = mosi / "CMUMOSI_features_raw_2way.pkl"
    content = pickle.loads(path.read_bytes())
    content[5] = set()
    write_labels(path, content)
    with pytest.raises(Refusal, match="samples in split 'valid' of partition 'official'; found none"):
        check(GCNet().read(mosi, lookup("mosi"), {}))


def test_the_wrong_corpus_or_modality_is_refused(mosi):
    with pytest.raises(Refusal, match=r"the label pickle of iemocap4; found CMUMOSI.*import it as mosi"):
        GCNet().read(mosi, lookup("iemocap4"), {})
    with pytest.raises(Refusal, match="modalities text, audio, vision; found 'video'"):
        GCNet().read(mosi, lookup("mosi"), {"video": "manet_UTT"})

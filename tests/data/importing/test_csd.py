"""Computational sequences, written as the SDK writes them, and aligned to words."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mer_lightning.data.catalogue import lookup
from mer_lightning.data.importing.base import detect
from mer_lightning.data.importing.csd import CSD
from mer_lightning.data.importing.csd_file import word_means
from mer_lightning.data.raw import SPLITS
from mer_lightning.data.store import check, write_corpus
from mer_lightning.errors import Refusal

h5py = pytest.importorskip("h5py")

VIDEOS = ("abc", "-xyz", "42")
SEGMENTS = np.array([[2.0, 4.0], [0.0, 2.0]])  # each video's labels, not in the order of time
WORDS = [(0.0, 0.5, "well"), (0.5, 0.7, "sp"), (0.7, 1.9, "fine"), (2.2, 3.0, "then"), (3.0, 3.4, "sp"),
         (3.4, 4.5, "go")]  # fmt: skip
INTERVALS = np.array([word[:2] for word in WORDS])
SPLIT = {"train": ["abc"], "valid": ["-xyz"], "test": ["42", "unknown"]}


def write_csd(path: Path, root: str, data: dict[str, tuple[np.ndarray, np.ndarray]], **metadata: object) -> None:
    with h5py.File(path, "w") as file:
        for key, (intervals, features) in data.items():
            group = file.create_group(f"{root}/data/{key}")
            group.create_dataset("features", data=features)
            group.create_dataset("intervals", data=intervals)
        for key, value in {"root name": root, **metadata}.items():
            one = file.create_dataset(f"{root}/metadata/{key}", (1,), dtype=h5py.string_dtype())
            one[0] = json.dumps(value)


def frames(video: str, every: float, width: int) -> tuple[np.ndarray, np.ndarray]:
    starts = np.arange(0, 5, every)
    draw = np.random.default_rng(sum(map(ord, video)) + width)
    values = draw.normal(size=(len(starts), width)).astype(np.float32)
    return np.stack([starts, starts + every], axis=1), values


def labels(video: str) -> np.ndarray:
    k = VIDEOS.index(video)
    return np.array([[1.0 + k, 0, 0.3, 0, 0, 2, 0], [-1.0 - k, 1, 0, 0, 0, 0, 0.1]], np.float32)


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "cmumosei"
    root.mkdir()
    tokens = np.array([[word.encode()] for *_, word in WORDS], "S32")
    vectors = {video: (INTERVALS, frames(video, 5 / 6, 4)[1]) for video in VIDEOS}
    write_csd(root / "CMU_MOSEI_TimestampedWords.csd", "words", dict.fromkeys(VIDEOS, (INTERVALS, tokens)))
    write_csd(root / "CMU_MOSEI_TimestampedPhones.csd", "phones", dict.fromkeys(VIDEOS, (INTERVALS, tokens)))
    write_csd(root / "CMU_MOSEI_TimestampedWordVectors.csd", "glove_vectors", vectors)
    write_csd(root / "CMU_MOSEI_COVAREP.csd", "COVAREP", {video: frames(video, 0.1, 3) for video in VIDEOS})
    write_csd(root / "CMU_MOSEI_VisualFacet42.csd", "FACET 4.2", {video: frames(video, 1 / 3, 5) for video in VIDEOS})
    write_csd(root / "CMU_MOSEI_Labels.csd", "All Labels", {video: (SEGMENTS, labels(video)) for video in VIDEOS})
    (root / "splits.json").write_text(json.dumps(SPLIT))
    return root


def slow_mean(word, intervals, values):
    """One word, frame by frame."""
    found = []
    for (start, stop), value in zip(intervals, values, strict=True):
        if min(stop, word[1]) - max(start, word[0]) > 1e-5:
            found.append(value)
    return np.mean(found, axis=0) if found else np.zeros(values.shape[1])


def test_segments_words_and_labels(folder):
    assert detect(folder).name == "csd"
    raw = CSD().read(folder, lookup("mosei"), {})
    check(raw)
    assert raw.ids == ["-xyz[0]", "-xyz[1]", "42[0]", "42[1]", "abc[0]", "abc[1]"]
    assert raw.columns["sentence"] == ["then go", "well fine"] * 3
    assert raw.target.tolist() == [2, -2, 3, -3, 1, -1]
    assert [SPLITS[number] for number in raw.partitions["official"]] == ["valid"] * 2 + ["test"] * 2 + ["train"] * 2
    assert raw.groups == ["-xyz", "-xyz", "42", "42", "abc", "abc"]
    assert raw.alignment == "aligned"
    assert all(sequences.lengths.tolist() == [2] * 6 for sequences in raw.features.values())
    assert raw.feature_set == {"text": "glove_vectors 4", "audio": "COVAREP 3", "vision": "FACET 4.2 5"}


def test_every_word_gets_the_mean_of_the_frames_that_overlap_it(folder):
    raw = CSD().read(folder, lookup("mosei"), {})
    words = [WORDS[3], WORDS[5], WORDS[0], WORDS[2]]  # of both segments, without pauses
    for modality, every, width in (("audio", 0.1, 3), ("vision", 1 / 3, 5)):
        slow = [slow_mean(word, *frames(video, every, width)) for video in ("-xyz", "42", "abc") for word in words]
        np.testing.assert_allclose(raw.features[modality].packed(0, 6), slow, rtol=1e-6, atol=1e-7)
    vectors = [frames(video, 5 / 6, 4)[1][[3, 5, 0, 2]] for video in ("-xyz", "42", "abc")]
    np.testing.assert_array_equal(raw.features["text"].packed(0, 6), np.concatenate(vectors))
    np.testing.assert_array_equal(raw.features["text"].packed(2, 4), vectors[1])


def test_means_by_hand():
    steps = np.array([[0.0, 1.0], [1.0, 2.0], [5.0, 6.0]])
    intervals = np.array([[0.0, 0.5], [0.4, 1.2], [1.0, 1.9], [1.5, 1.6]])
    values = np.array([[2.0, 1.0], [4.0, -np.inf], [np.nan, 7.0], [6.0, np.inf]])
    expected = [[3.0, 0.5], [10 / 3, 7 / 3], [0.0, 0.0]]  # the second word sees frames 2 to 4; the third sees none
    np.testing.assert_allclose(word_means(steps, intervals, values), expected, rtol=1e-6)


def test_emotions_are_those_with_intensity(folder):
    raw = CSD().read(folder, lookup("mosei_emotions"), {})
    assert raw.task.classes == ("happy", "sad", "anger", "surprise", "disgust", "fear")
    assert raw.target[:2].tolist() == [[0, 1, 0, 0, 1, 0], [1, 0, 0, 0, 0, 1]]
    names = ["sentiment", "Sad", "fear", "anger", "surprise", "disgust", "happy"]  # the file's own names prevail
    data = {video: (SEGMENTS, labels(video)) for video in VIDEOS}
    write_csd(folder / "CMU_MOSEI_Labels.csd", "All Labels", data, **{"dimension names": names})
    raw = CSD().read(folder, lookup("mosei_emotions"), {})
    assert raw.target[:2].tolist() == [[0, 0, 0, 0, 1, 1], [1, 1, 0, 0, 0, 0]]


def test_files_that_are_aligned_to_the_labels_already(tmp_path):
    keys = [f"{video}[{clip}]" for video in VIDEOS for clip in (10, 2)]
    inside = {key: np.array([[0.0, 0.5], [0.5, 1.0]]) + i for i, key in enumerate(keys)}
    value = {key: np.full((2, 3), i, np.float32) for i, key in enumerate(keys)}
    for name in ("glove_vectors", "COVAREP", "FACET 4.2"):
        write_csd(tmp_path / f"{name}.csd", name, {key: (inside[key], value[key]) for key in keys})
    whole = {key: (np.array([[i, i + 1.0]]), np.array([[i - 2.5]])) for i, key in enumerate(keys)}
    write_csd(tmp_path / "labels.csd", "Opinion Segment Labels", whole)
    (tmp_path / "splits.yaml").write_text("train: [abc]\nvalid: ['-xyz']\ntest: ['42']\n")
    raw = CSD().read(tmp_path / "labels.csd", lookup("mosi"), {})
    assert raw.ids == ["-xyz[2]", "-xyz[10]", "42[2]", "42[10]", "abc[2]", "abc[10]"]
    numbers = np.array([keys.index(key) for key in raw.ids])
    np.testing.assert_array_equal(raw.target, numbers - 2.5)
    for sequences in raw.features.values():
        np.testing.assert_array_equal(sequences.packed(0, 6)[:, 0], numbers.repeat(2))


def test_words_alone_give_the_steps_but_no_text(folder):
    (folder / "CMU_MOSEI_TimestampedWordVectors.csd").unlink()
    raw = CSD().read(folder, lookup("mosei"), {})
    check(raw)
    assert list(raw.features) == ["audio", "vision"]
    assert raw.columns["sentence"][:2] == ["then go", "well fine"]
    assert raw.features["audio"].lengths.tolist() == [2] * 6


def test_a_video_without_frames_lacks_the_modality_and_a_word_without_frames_is_zero(folder, tmp_path):
    data = {"abc": frames("abc", 0.1, 3), "42": (np.array([[0.0, 0.4]]), np.array([[1.0, -np.inf, 3.0]]))}
    write_csd(folder / "CMU_MOSEI_COVAREP.csd", "COVAREP", data)
    raw = CSD().read(folder, lookup("mosei"), {})
    assert raw.features["audio"].lengths.tolist() == [0, 0, 2, 2, 2, 2]
    assert raw.features["audio"].packed(0, 4).tolist() == [[0, 0, 0], [0, 0, 0], [1, 0, 3], [0, 0, 0]]
    assert "2 of 6 segments have no audio; it counts as missing." in raw.notes
    assert write_corpus(raw, tmp_path / "native", "mosei").cleaned == {}


def test_segments_without_words_are_left_out_and_counted(folder):
    late = np.array([[2.0, 4.0], [90.0, 95.0]])
    write_csd(folder / "CMU_MOSEI_Labels.csd", "All Labels", {video: (late, labels(video)) for video in VIDEOS})
    raw = CSD().read(folder, lookup("mosei"), {})
    assert raw.ids == ["-xyz[0]", "42[0]", "abc[0]"]
    assert "3 labelled segments without words were left out." in raw.notes


def test_a_video_without_words_is_left_out(folder):
    data = {video: (INTERVALS, frames(video, 5 / 6, 4)[1]) for video in ("42", "abc")}
    write_csd(folder / "CMU_MOSEI_TimestampedWordVectors.csd", "glove_vectors", data)
    splits(folder, {"train": ["abc"], "valid": ["42"], "test": ["-xyz"]})
    with pytest.raises(Refusal, match="videos of 'test' that have labels; found none"):
        CSD().read(folder, lookup("mosei"), {})
    splits(folder, {"train": ["abc"], "valid": ["42"], "test": ["42"]})
    with pytest.raises(Refusal, match="'42' in valid and test"):
        CSD().read(folder, lookup("mosei"), {})


def test_two_files_for_one_modality_must_be_told_apart(folder):
    write_csd(folder / "CMU_MOSEI_VisualOpenFace2.csd", "OpenFace_2", {v: frames(v, 1 / 3, 2) for v in VIDEOS})
    with pytest.raises(Refusal, match=r"one .csd with vision; found CMU_MOSEI_VisualFacet42.csd, CMU_MOSEI_VisualOpen"):
        CSD().read(folder, lookup("mosei"), {})
    raw = CSD().read(folder, lookup("mosei"), {"vision": "CMU_MOSEI_VisualOpenFace2"})
    assert raw.feature_set["vision"] == "OpenFace_2 2"
    with pytest.raises(Refusal, match=r"expected nothing.csd; found .*COVAREP"):
        CSD().read(folder, lookup("mosei"), {"vision": "nothing"})
    with pytest.raises(Refusal, match="found alignment"):
        CSD().read(folder, lookup("mosei"), {"alignment": "unaligned"})


def splits(root: Path, content: object) -> None:
    (root / "splits.json").write_text(json.dumps(content))


def misshape(root: Path) -> None:
    with h5py.File(root / "CMU_MOSEI_COVAREP.csd", "a") as file:
        del file["COVAREP/data/abc/intervals"]
        file["COVAREP/data/abc/intervals"] = np.zeros((3, 2))


def without(root: Path, name: str) -> None:
    with h5py.File(root / "CMU_MOSEI_Labels.csd", "a") as file:
        del file[f"All Labels/{name}"]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda root: (root / "splits.json").unlink(), r'neither splits.json nor splits.yaml; write splits.json: {"tr'),
        (lambda root: splits(root, {"train": []}), "lists named train, valid, test; found lists named train;"),
        (lambda root: splits(root, SPLIT | {"valid": ["abc"]}), "'abc' in train and valid"),
        (lambda root: splits(root, SPLIT | {"valid": []}), "videos of 'valid' that have labels; found none"),
        (lambda root: (root / "splits.json").write_text("{"), "lists of videos"),
        (lambda root: splits(root, SPLIT | {"valid": None}), "found lists named test, train;"),
        (lambda root: (root / "CMU_MOSEI_Labels.csd").unlink(), "a .csd with labels"),
        (lambda root: [p.unlink() for p in root.glob("*Word*")], "a .csd with words or their vectors"),
        (lambda root: (root / "CMU_MOSEI_COVAREP.csd").write_bytes(b"junk"), "expected an HDF5 file"),
        (lambda root: without(root, "data/42/features"), "'features' and 'intervals' of '42'; found no 'features'"),
        (lambda root: without(root, "data"), "one root group with something under data; found the groups All Labels"),
        (lambda root: write_csd(root / "CMU_MOSEI_COVAREP.csd", "COVAREP", {"else": frames("a", 1, 3)}),
         "audio of these videos; found none of the segments"),
        (misshape, r"features \(n, 3\) and intervals \(n, 2\); found \(50, 3\) and \(3, 2\) for 'abc'"),
    ],
)  # fmt: skip
def test_refusals_are_one_line(folder, damage, words):
    damage(folder)
    with pytest.raises(Refusal, match=words) as refusal:
        write_corpus(CSD().read(folder, lookup("mosei"), {}), folder.parent / "native", "mosei")
    assert "\n" not in str(refusal.value)


def test_labels_that_the_file_does_not_hold_are_refused(folder):
    emotions = {video: (SEGMENTS, labels(video)[:, 1:]) for video in VIDEOS}
    write_csd(folder / "CMU_MOSEI_Labels.csd", "Emotion Labels", emotions)
    with pytest.raises(Refusal, match="labels for regression; found 6 columns without names"):
        CSD().read(folder, lookup("mosei"), {})
    write_csd(folder / "CMU_MOSEI_Labels.csd", "All Labels", {video: (SEGMENTS, labels(video)) for video in VIDEOS})
    with pytest.raises(Refusal, match="labels for single_label; found columns sentiment, happy"):
        CSD().read(folder, lookup("meld"), {})

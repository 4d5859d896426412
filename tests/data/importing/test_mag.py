"""MAG-BERT pickles: lists of word-level examples, no text features."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mer_lightning.data.catalogue import CatalogueEntry
from mer_lightning.data.corpus import open_corpus
from mer_lightning.data.importing.base import detect
from mer_lightning.data.importing.mag import MAG
from mer_lightning.data.store import write_corpus
from mer_lightning.errors import Refusal
from mer_lightning.tasks import MultiLabel, Regression, SingleLabel

SIZES = {"train": 5, "dev": 3, "test": 4}
EMOTIONS = ("happy", "sad", "anger", "surprise", "disgust", "fear")
MOSI = CatalogueEntry("mosi", "", Regression(3.0).card(), "", "")
MOSEI_EMOTIONS = CatalogueEntry("mosei_emotions", "", MultiLabel(EMOTIONS).card(), "", "")


def mag_file(label_shape: tuple[int, ...] = (1, 1)) -> dict[str, list[Any]]:
    rng = np.random.default_rng(2)
    content: dict[str, list[Any]] = {}
    for split, n in SIZES.items():
        content[split] = []
        for i in range(n):
            words = [f"w{j}" for j in range(rng.integers(1, 9))]
            visual, acoustic = rng.normal(size=(len(words), 47)), rng.normal(size=(len(words), 74))
            acoustic[0, 0] = -np.inf if i == 0 else 1
            label = np.round(rng.uniform(0, 3, label_shape), 2).astype(np.float32)
            if label_shape == ():
                label = float(label)
            elif label.size == 7:
                label[..., 2] = 0
            content[split].append(((words, visual, acoustic), label, f"{split}vid{i // 2}[{i}]"))
    return content


def read(content: Any, tmp_path: Path, entry: CatalogueEntry | None = MOSI) -> Any:
    path = tmp_path / f"mosi-{len(list(tmp_path.iterdir()))}.pkl"  # arrays of an earlier call are views of its file
    path.write_bytes(pickle.dumps(content, protocol=3))
    return MAG().read(path, entry, {})


def examples(content: dict[str, list[Any]]) -> list[Any]:
    return [example for split in content.values() for example in split]


def test_words_and_frames(tmp_path: Path) -> None:
    content = mag_file()
    raw = read(content, tmp_path)
    every = examples(content)
    assert raw.alignment == "aligned"
    assert set(raw.features) == {"audio", "vision"}
    assert raw.feature_set == {"audio": "covarep 74", "vision": "facet 47"}
    assert np.array_equal(raw.features["vision"].packed(0, 12), np.concatenate([e[0][1] for e in every]))
    assert np.array_equal(raw.features["audio"].packed(3, 7), np.concatenate([e[0][2] for e in every[3:7]]))
    assert raw.features["audio"].lengths.tolist() == [len(e[0][0]) for e in every]
    assert raw.columns["sentence"] == [" ".join(e[0][0]) for e in every]
    assert raw.partitions["official"].tolist() == [0] * 5 + [1] * 3 + [2] * 4
    assert raw.groups[:3] == ["trainvid0", "trainvid0", "trainvid1"]
    assert raw.ids[1] == "trainvid0[1]"
    assert any("text encoder" in note for note in raw.notes)


def test_import(tmp_path: Path) -> None:
    content = mag_file()
    card = write_corpus(read(content, tmp_path), tmp_path / "out", "mosi")
    assert card.cleaned == {"audio": {"-inf": 3}}
    assert card.dims == {"audio": 74, "vision": 47}
    corpus = open_corpus(tmp_path / "out")
    assert corpus.everything().present.tolist() == [[False, True, True]] * 12
    assert list(corpus.samples["sentence"]) == [" ".join(e[0][0]) for e in examples(content)]


@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (1, 7)])
def test_label_shapes(tmp_path: Path, shape: tuple[int, ...]) -> None:
    content = mag_file(shape)
    raw = read(content, tmp_path, None)
    assert raw.target.tolist() == [np.ravel(e[1])[0] for e in examples(content)]
    assert raw.task == Regression(3.0)
    assert any("Of 7 labels" in note for note in raw.notes) == (shape == (1, 7))


def test_six_emotions(tmp_path: Path) -> None:
    content = mag_file((1, 7))
    raw = read(content, tmp_path, MOSEI_EMOTIONS)
    assert raw.target.tolist() == [[float(v > 0) for v in e[1][0, 1:]] for e in examples(content)]
    assert not raw.target[:, 1].any()


def test_bytes_and_lists(tmp_path: Path) -> None:
    content = mag_file()
    (words, visual, acoustic), label, segment = content["train"][0]
    expected = read(content, tmp_path)
    content["train"][0] = (([w.encode() for w in words], visual.tolist(), acoustic), label, segment.encode())
    content["dev"] = tuple(content["dev"])
    found = read(content, tmp_path)
    assert found.ids == expected.ids
    assert found.columns == expected.columns
    assert np.array_equal(found.features["vision"].packed(0, 12), expected.features["vision"].packed(0, 12))


def replaced(**parts: Any) -> Any:
    def change(content: Any) -> None:
        (words, visual, acoustic), label, segment = content["dev"][1]
        words, visual = parts.get("words", words), parts.get("visual", visual)
        content["dev"][1] = ((words, visual, acoustic), parts.get("label", label), segment)

    return change


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda c: c["train"].__setitem__(2, ("words", 1)), r"acoustic\), label, segment\) at train\[2\]"),
        (replaced(words=[]), r"0 steps, one per word, in visual of dev\[1\] \('devvid0\[1\]'\)"),
        (replaced(visual=np.zeros(47)), "one per word, in visual of dev"),
        (lambda c: replaced(visual=np.zeros((len(c["dev"][1][0][0]), 46)))(c), "width 47, as in the first sample"),
        (replaced(label=[1, 2]), "1 label, or sentiment and six emotions"),
        (replaced(label=np.zeros(7)), "the same for all samples"),
        (lambda c: c.pop("dev"), "the lists train, dev, test; found the keys train, test"),
        (lambda c: [c[split].clear() for split in c], "at least one sample"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_by_name(tmp_path: Path, change: Any, expected: str) -> None:
    content = mag_file()
    change(content)
    with pytest.raises(Refusal, match=expected):
        read(content, tmp_path)


def test_labels_of_another_corpus_are_refused(tmp_path: Path) -> None:
    other = CatalogueEntry("iemocap4", "", SingleLabel(("a", "b")).card(), "", "")
    with pytest.raises(Refusal, match="the labels of iemocap4"):
        read(mag_file((1, 7)), tmp_path, other)
    with pytest.raises(Refusal, match="the labels of mosei_emotions"):
        read(mag_file(), tmp_path, MOSEI_EMOTIONS)


def test_detection(tmp_path: Path) -> None:
    path = tmp_path / "mosi.pkl"
    path.write_bytes(pickle.dumps(mag_file(), protocol=3))
    assert detect(path).name == "mag"
    path.write_bytes(pickle.dumps({"train": {}, "valid": {}, "test": {}}))
    assert not MAG().detects(path)

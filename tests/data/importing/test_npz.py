"""People's own features: every shape that docs/reference/npz-format.md promises, and the real MOSI file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mer_lightning.data.catalogue import CatalogueEntry
from mer_lightning.data.corpus import open_corpus
from mer_lightning.data.importing import feature_files
from mer_lightning.data.importing.base import detect
from mer_lightning.data.importing.feature_files import NpzFile
from mer_lightning.data.importing.npz import NPZ, open_npz
from mer_lightning.data.store import write_corpus
from mer_lightning.errors import Refusal
from mer_lightning.tasks import MultiLabel, Ratings, Regression, SingleLabel

N = 20
DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "reference" / "npz-format.md"


def arrays(**changes: Any) -> dict[str, Any]:
    """20 samples of 10 videos, utterance-level; a change to None leaves an array out."""
    rng = np.random.default_rng(3)
    values = {
        "ids": np.array([f"clip{i}" for i in range(N)]),
        "video_id": np.array([f"video{i // 2}" for i in range(N)]),
        "text": rng.normal(size=(N, 6)).astype(np.float32),
        "audio": rng.normal(size=(N, 4)),
        "vision": rng.normal(size=(N, 5)).astype(np.float32),
        "label": np.linspace(-3, 3, N),
        "split": np.array(["train"] * 12 + ["valid"] * 4 + ["test"] * 4),
    }
    return {key: value for key, value in (values | changes).items() if value is not None}


def save(tmp_path: Path, **changes: Any) -> Path:
    path = tmp_path / "mine.npz"
    np.savez(path, **arrays(**changes))
    return path


def read(tmp_path: Path, entry: CatalogueEntry | None = None, **changes: Any) -> Any:
    return NPZ().read(save(tmp_path, **changes), entry, {})


def ragged(width: int = 3, longest: int = 7, seed: int = 0) -> tuple[np.ndarray, list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, longest, N)
    lengths[0] = longest
    return lengths, [rng.normal(size=(length, width)) for length in lengths]


def padded(samples: list[np.ndarray]) -> np.ndarray:
    whole = np.zeros((len(samples), max(map(len, samples)), samples[0].shape[1]))
    for row, sample in zip(whole, samples, strict=True):
        row[: len(sample)] = sample
    return whole


def test_utterance_level(tmp_path: Path) -> None:
    values = arrays()
    raw = read(tmp_path, sentence=np.array([f"said {i}" for i in range(N)]))
    assert (raw.alignment, raw.padding, raw.task) == ("utterance", "none", Regression(3.0))
    for modality in ("text", "audio", "vision"):
        assert np.array_equal(raw.features[modality].packed(0, N), values[modality])
    assert raw.ids == list(values["ids"])
    assert raw.groups == list(values["video_id"])
    assert raw.columns == {"sentence": [f"said {i}" for i in range(N)]}
    assert raw.feature_set == {"text": "mine 6", "audio": "mine 4", "vision": "mine 5"}
    assert raw.partitions["official"].tolist() == [0] * 12 + [1] * 4 + [2] * 4
    assert raw.notes == []


def test_three_ways_to_write_the_same_sequences(tmp_path: Path) -> None:
    lengths, samples = ragged()
    for changes in (
        {"audio": padded(samples), "audio_lengths": lengths},
        {"audio": padded(samples)},
        {"audio": np.concatenate(samples), "audio_lengths": lengths},
    ):
        raw = read(tmp_path, **changes)
        assert raw.alignment == "unaligned"
        assert np.array_equal(raw.features["audio"].lengths, lengths)
        assert np.array_equal(raw.features["audio"].packed(0, N), np.concatenate(samples))
        assert np.array_equal(raw.features["audio"].packed(5, 8), np.concatenate(samples[5:8]))


def test_alignment(tmp_path: Path) -> None:
    lengths, samples = ragged()
    packed = {"audio": np.concatenate(samples), "audio_lengths": lengths, "text": None}
    vision = np.concatenate(samples)[:, :2]
    assert read(tmp_path, **packed, vision=vision, vision_lengths=lengths).alignment == "aligned"
    without = lengths * (np.arange(N) > 2)
    fewer = vision[lengths[:3].sum() :]
    assert read(tmp_path, **packed, vision=fewer, vision_lengths=without).alignment == "aligned"
    shifted = np.roll(lengths, 1)
    assert read(tmp_path, **packed, vision=vision, vision_lengths=shifted).alignment == "unaligned"


def test_padded_arrays_of_one_length_stay_aligned(tmp_path: Path) -> None:
    lengths, samples = ragged()
    vision = padded(samples)
    vision[0, -1] = 0  # the last face of the longest sample
    raw = read(tmp_path, text=padded(samples), audio=padded(samples), vision=vision)
    assert raw.alignment == "aligned"
    assert np.array_equal(raw.features["vision"].lengths, lengths)


def test_a_sample_can_lack_a_modality(tmp_path: Path) -> None:
    there = np.arange(N) % 3 > 0
    raw = read(tmp_path, vision_lengths=there.astype(int))
    assert raw.alignment == "utterance"
    assert np.array_equal(raw.features["vision"].packed(0, N), arrays()["vision"][there])
    write_corpus(raw, tmp_path / "out", "mine")
    present = open_corpus(tmp_path / "out").everything().present
    assert present[:, 2].tolist() == there.tolist()
    assert present[:, :2].all()


def test_a_modality_can_be_left_out(tmp_path: Path) -> None:
    assert list(read(tmp_path, vision=None).features) == ["text", "audio"]


def test_tasks(tmp_path: Path) -> None:
    names = np.array(["sad", "glad"])
    single = read(tmp_path, label=np.arange(N) % 2, classes=names)
    assert single.task == SingleLabel(("sad", "glad"))
    assert single.target.tolist() == [0, 1] * 10
    multi = read(tmp_path, label=np.eye(2)[np.arange(N) % 2], classes=names)
    assert multi.task == MultiLabel(("sad", "glad"))
    assert multi.target.shape == (N, 2)
    assert read(tmp_path, label=np.linspace(-1, 1, N)[:, None]).task == Regression(1.0)
    assert read(tmp_path, label=np.linspace(0, 4.5, N)).task == Ratings(("label",), (0.0,), (5.0,))
    assert read(tmp_path, label=np.linspace(-4, 2, N)).task == Ratings(("label",), (-4.0,), (2.0,))
    sims = CatalogueEntry("sims", "", Regression(1.0).card(), "", "")
    assert read(tmp_path, sims).task == Regression(1.0)
    known = CatalogueEntry("c", "", SingleLabel(("sad", "glad")).card(), "", "")
    assert read(tmp_path, known, label=np.arange(N) % 2).task == known.task
    with pytest.raises(
        Refusal, match="the classes of c, sad, glad; found the classes glad, sad; say which is which, --classes"
    ):
        read(tmp_path, known, label=np.arange(N) % 2, classes=names[::-1])


def test_named_targets_on_scales_of_their_own(tmp_path: Path) -> None:
    label = np.column_stack([np.linspace(1.2, 6.8, N), np.linspace(-40, 40, N)])
    unnamed = read(tmp_path, label=label).task
    assert unnamed == Ratings(("label 1", "label 2"), (1.0, -40.0), (7.0, 40.0))
    names, ranges = np.array(["valence", "arousal"]), np.array([[1, 9], [-50, 50]])
    raw = read(tmp_path, label=label, targets=names, ranges=ranges)
    assert raw.task == Ratings(("valence", "arousal"), (1.0, -50.0), (9.0, 50.0))
    assert np.array_equal(raw.target, label)


def test_other_arrays_of_one_value_per_sample_come_along(tmp_path: Path) -> None:
    speakers = np.array([f"s{i % 3}" for i in range(N)])
    raw = read(tmp_path, video_id=None, dialogue=np.arange(N) // 4, speaker=speakers)
    assert raw.columns == {"dialogue": [str(i // 4) for i in range(N)], "speaker": list(speakers)}
    assert raw.groups == raw.columns["dialogue"]


def test_classes_are_no_sentiment(tmp_path: Path) -> None:
    mosi = CatalogueEntry("mosi", "", Regression(3.0).card(), "", "")
    with pytest.raises(Refusal, match="numbers, as mosi has them; found the classes a, b, c; import it under a name"):
        read(tmp_path, mosi, label=np.arange(N) % 3, classes=np.array(["a", "b", "c"]))


def test_partitions(tmp_path: Path) -> None:
    second = np.array(["test"] * 4 + [""] * 2 + ["train"] * 14)
    raw = read(tmp_path, split_second=second)
    assert list(raw.partitions) == ["official", "second"]
    carved = raw.partitions["second"]
    assert carved[:6].tolist() == [2] * 4 + [-1] * 2
    assert (carved[6:] == 1).sum() in (3, 4)
    videos = np.array(raw.groups)
    assert not set(videos[carved == 1]) & set(videos[carved == 0])
    assert raw.notes == [
        "Partition 'second' has no valid split: whole videos with about 15 % of its training samples became one."
    ]
    assert list(read(tmp_path, split=None, split_second=second).partitions) == ["second"]


def test_notes(tmp_path: Path) -> None:
    raw = read(tmp_path, video_id=None, interval=np.zeros((N, 2)), words=np.array(["a"] * 3))
    assert raw.groups == raw.ids
    assert "Arrays that were not read: interval, words." in raw.notes
    assert any("No video_id" in note for note in raw.notes)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"ids": None}, "an array 'ids'; found only audio, label"),
        ({"label": None}, "an array 'label'"),
        ({"split": None}, "an array 'split' or 'split_NAME'"),
        ({"text": None, "audio": None, "vision": None}, "at least one array of text, audio, vision"),
        ({"split": np.array(["train"] * 10 + ["held out"] * 10)}, "found 'held out'"),
        ({"split": np.array(["train"] * 19)}, "20 strings in split"),
        (
            {"ids": np.array([f"clip{i}" for i in range(N)], dtype=object)},
            "ids: expected an array of numbers or strings",
        ),
        ({"label": np.full(N, 0.5), "classes": np.array(["a", "b"])}, "labels 0 to 1"),
        ({"label": np.full(N, 2), "classes": np.array(["a", "b"])}, "labels 0 to 1"),
        ({"label": np.zeros((N, 3)), "classes": np.array(["a", "b"])}, r"labels of shape \(20, 2\)"),
        ({"label": np.zeros((N, 3)), "targets": np.array(["a", "b"])}, "3 names in targets"),
        ({"label": np.zeros((N, 2)), "ranges": np.array([[1, 7], [7, 1]])}, "from a lower to a higher number"),
        ({"label": np.zeros((N, 2, 2))}, r"labels of shape \(20,\) or \(20, C\)"),
        ({"label": np.zeros(19)}, "20 samples in label"),
        ({"label": np.float32(1)}, "one row per sample"),
        ({"text": np.zeros((19, 6))}, "20 samples in text"),
        ({"text": np.zeros(N)}, r"\(N, D\), \(N, L, D\)"),
        ({"text": np.array(["a"] * N)}, "numbers in text"),
        ({"text": np.zeros((N, 5, 6)), "text_lengths": np.full(N, 6)}, "lengths of 0 to 5"),
        ({"text": np.zeros((21, 6)), "text_lengths": np.ones(N, int)}, "20 rows in text, the sum of text_lengths"),
        ({"text": np.zeros((N, 6)), "text_lengths": np.ones(19, int)}, "20 samples in text_lengths"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(tmp_path: Path, changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(Refusal, match=expected) as caught:
        read(tmp_path, **changes)
    assert "mine.npz" in str(caught.value)


def test_pickles_inside_are_not_run(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "canary",)

    path = save(tmp_path, label=np.array([Payload()] * N, dtype=object))
    for action in (lambda: NPZ().read(path, None, {}), lambda: open_npz(path)):
        with pytest.raises(Refusal, match="never as objects"):
            action()
    assert not (tmp_path / "canary").exists()


def test_broken_and_other_files(tmp_path: Path) -> None:
    path = save(tmp_path)
    assert detect(path).name == "npz"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert not NPZ().detects(path)
    with pytest.raises(Refusal, match=r"expected a \.npz file"):
        NPZ().read(path, None, {})
    damaged = bytearray(whole)
    damaged[whole.index(b"text.npy") + 200] ^= 255
    path.write_bytes(damaged)
    with pytest.raises(Refusal, match=r"mine\.npz: text: expected an array"):
        NPZ().read(path, None, {})
    np.savez(tmp_path / "other.npz", train_corpus=np.zeros(3))
    assert not NPZ().detects(tmp_path / "other.npz")


# --- the promises


def test_a_large_array_stays_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path, text=np.random.default_rng(0).normal(size=(len(arrays()["ids"]), 3000)))
    whole = {name: NpzFile(path).array(name) for name in NpzFile(path).names}
    monkeypatch.setattr(feature_files, "_SMALL", 0)
    for name, values in whole.items():
        mapped = NpzFile(path).array(name)
        assert isinstance(mapped, np.memmap)
        np.testing.assert_array_equal(mapped, values)
    damaged = bytearray(path.read_bytes())
    damaged[damaged.index(whole["text"].tobytes()) + whole["text"].nbytes // 2] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(Refusal, match=r"text.*other bytes than were written"):
        NpzFile(path).array("text")


def test_the_example_of_the_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    exec(example, {})
    card = write_corpus(NPZ().read(tmp_path / "mine.npz", None, {}), tmp_path / "out", "mine")
    assert card.dims == {"text": 768, "audio": 74}
    assert card.partitions == {"official": {"train": 70, "valid": 10, "test": 20}}
    assert card.alignment == "unaligned"
    assert card.notes == []


def test_real_mosi(real_data: Path, tmp_path: Path) -> None:
    path = real_data / "mosi_utterance.npz"
    mosi = CatalogueEntry("mosi", "", Regression(3.0).card(), "", "")
    card = write_corpus(detect(path).read(path, mosi, {}), tmp_path / "mosi", "mosi")
    assert card.samples == 2199
    assert card.alignment == "utterance"
    assert card.dims == {"text": 100, "audio": 73, "vision": 100}
    assert card.partitions["official"] == {"train": 1284, "valid": 229, "test": 686}
    declare = card.partitions["declare"]
    assert declare["test"] == 752
    assert declare["train"] + declare["valid"] == 1447
    assert 0.14 < declare["valid"] / 1447 < 0.19
    corpus = open_corpus(tmp_path / "mosi")
    samples = corpus.samples
    assert samples["group"].nunique() == 93
    for partition in ("official", "declare"):
        numbers = corpus.tensors[f"partition.{partition}"].numpy()
        assert (samples.assign(split=numbers).groupby("group")["split"].nunique() == 1).all()
    with np.load(path, allow_pickle=False) as file:
        batch = corpus.everything().batch(torch.arange(2199))
        assert np.array_equal(batch.features["audio"].squeeze(1).numpy(), file["audio"])
        assert np.allclose(batch.target.numpy(), file["label"])
        assert samples["sentence"].tolist() == file["sentence"].tolist()


def test_real_words_packed(real_data: Path, tmp_path: Path) -> None:
    with np.load(real_data / "mosi_words.npz", allow_pickle=False) as words:
        lengths, glove = words["length"], words["glove"]
        np.savez(tmp_path / "words.npz", text=glove, text_lengths=lengths, ids=words["ids"])
    batch = open_npz(tmp_path / "words.npz").everything().batch(torch.tensor([0, 2198]))
    assert np.array_equal(batch.features["text"][0, : lengths[0]].numpy(), glove[: lengths[0]].astype(np.float32))
    assert np.array_equal(batch.features["text"][1, : lengths[-1]].numpy(), glove[-lengths[-1] :].astype(np.float32))

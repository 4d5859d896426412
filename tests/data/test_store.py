"""The native form: what is read equals what was written, and a corpus is written completely or not at all."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mer_lightning.data import store
from mer_lightning.data.corpus import CARD, SAMPLES, TENSORS, open_corpus
from mer_lightning.data.nonfinite import as_float32
from mer_lightning.data.raw import (
    JoinedSequences,
    LoadedSequences,
    PackedSequences,
    PaddedSequences,
    RawCorpus,
    Sequences,
)
from mer_lightning.data.store import write_corpus
from mer_lightning.errors import Refusal
from mer_lightning.tasks import MultiLabel, Regression, SingleLabel

MODALITIES = ("text", "audio", "vision")
MakeRaw = Callable[..., RawCorpus]


def samples_of(sequences: Sequences) -> list[np.ndarray]:
    """One array per sample, read one by one."""
    return [sequences.packed(i, i + 1) for i in range(len(sequences))]


def absent(raw: RawCorpus, modality: str, rows: list[int]) -> RawCorpus:
    raw.features[modality].lengths[rows] = 0
    return raw


# --- sequences


def ragged(n: int = 9, width: int = 4) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    lengths = [3, 0, 5, 1, 1, 0, 4, 2, 5][:n]
    return [rng.normal(size=(length, width)).astype(np.float32) for length in lengths]


def every_form(samples: list[np.ndarray]) -> dict[str, Sequences]:
    lengths = np.array([len(sample) for sample in samples])
    end = np.full((len(samples), 6, 4), 7.0, np.float32)
    front = end.copy()
    for i, sample in enumerate(samples):
        end[i, : len(sample)] = sample
        front[i, 6 - len(sample) :] = sample
    padded = PaddedSequences(end, lengths)
    return {
        "padded at the end": padded,
        "padded in front": PaddedSequences(front, lengths, front=True),
        "packed": PackedSequences(np.concatenate(samples), lengths),
        "loaded": LoadedSequences(samples.__getitem__, list(lengths), 4),
        "joined": JoinedSequences(
            [PaddedSequences(end[:2], lengths[:2]), PaddedSequences(front[2:3], lengths[2:3], front=True),
             PaddedSequences(end[3:], lengths[3:])]
        ),
    }  # fmt: skip


@pytest.mark.parametrize("form", every_form(ragged()))
def test_every_form_packs_the_same_steps(form: str) -> None:
    samples = ragged()
    sequences = every_form(samples)[form]
    assert sequences.width == 4
    assert sequences.lengths.tolist() == [len(sample) for sample in samples]
    for start in range(len(samples)):
        for stop in range(start, len(samples) + 1):
            expected = np.concatenate([np.zeros((0, 4), np.float32), *samples[start:stop]])
            actual = sequences.packed(start, stop)
            assert actual.shape == expected.shape
            assert np.array_equal(actual, expected)


# --- writing and reading


@pytest.mark.parametrize("chunk", [1, 4096, 64 * 2**20])
@pytest.mark.parametrize("alignment", ["aligned", "unaligned", "utterance"])
def test_what_is_written_is_read(
    tiny_raw: MakeRaw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alignment: str, chunk: int
) -> None:
    monkeypatch.setattr("mer_lightning.data.raw._CHUNK_BYTES", chunk)
    raw = tiny_raw(alignment=alignment)
    raw.columns["sentence"] = [f"said {i} é" for i in range(60)]
    raw.extras["token_ids"] = np.arange(180).reshape(60, 3)
    raw.extras["target_text"] = np.linspace(-1, 1, 60)
    raw.extras["large"] = np.array([2**40] * 60)
    raw.notes.append("a note: 'quoted' \N{GRINNING FACE}")
    seen: list[tuple[int, int]] = []
    card = write_corpus(raw, tmp_path / "c", "tiny", progress=lambda done, total: seen.append((done, total)))
    corpus = open_corpus(tmp_path / "c")
    for modality in MODALITIES:
        offsets = corpus.tensors[f"{modality}.offsets"]
        assert offsets.tolist() == [0, *np.cumsum(raw.features[modality].lengths).tolist()]
        values = corpus.tensors[f"{modality}.values"]
        assert values.dtype == torch.float32
        assert np.array_equal(values.numpy(), raw.features[modality].packed(0, 60))
    assert torch.equal(corpus.target, torch.tensor(raw.target, dtype=torch.float32))
    assert corpus.tensors["extra.token_ids"].dtype == torch.int32
    assert corpus.tensors["extra.token_ids"].tolist() == raw.extras["token_ids"].tolist()
    assert corpus.tensors["extra.target_text"].dtype == torch.float32
    assert corpus.tensors["extra.large"][0] == 2**40
    assert corpus.samples["sentence"].tolist() == raw.columns["sentence"]
    assert corpus.samples["group"].tolist() == raw.groups
    assert corpus.everything().ids == raw.ids
    assert corpus.card == card
    assert card.notes == raw.notes
    assert card.sha256 == hashlib.sha256((tmp_path / "c" / TENSORS).read_bytes()).hexdigest()
    assert corpus.split("official", "valid").rows.tolist() == np.flatnonzero(raw.partitions["official"] == 1).tolist()
    assert card.partitions == {"official": {"train": 40, "valid": 10, "test": 10}}
    assert seen[-1] == (180, 180)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_targets_by_task(tiny_raw: MakeRaw, tmp_path: Path) -> None:
    for task, dtype in (
        (Regression(), torch.float32),
        (SingleLabel(("a", "b", "c")), torch.int64),
        (MultiLabel(("a", "b")), torch.float32),
    ):
        raw = tiny_raw(task)
        write_corpus(raw, tmp_path / task.kind, "tiny")
        corpus = open_corpus(tmp_path / task.kind)
        assert corpus.task == task
        assert corpus.target.dtype == dtype
        assert np.array_equal(corpus.target.numpy(), raw.target.astype(corpus.target.numpy().dtype))


def with_holes(raw: RawCorpus) -> RawCorpus:
    """Values that are no numbers in the first steps of three samples of audio."""
    audio, vision = raw.features["audio"], raw.features["vision"]
    audio.values = audio.values.astype(np.float64)
    audio.values[0, 0, :3] = -np.inf, np.inf, np.nan
    audio.values[5, 0, 0] = -np.inf
    audio.values[6, 0, 0] = 1e300  # too large for float32
    vision.values[3, vision.lengths[3] :] = np.nan  # padding, which nobody reads
    return raw


@pytest.mark.parametrize("how", ["median", "zero"])
def test_non_finite_values_are_replaced_and_counted(tiny_raw: MakeRaw, tmp_path: Path, how: str) -> None:
    raw = with_holes(tiny_raw())
    audio = raw.features["audio"]
    card = write_corpus(raw, tmp_path / "c", "tiny", nonfinite=how)
    assert card.cleaned == {"audio": {"-inf": 2, "+inf": 2, "nan": 1}}
    assert card.nonfinite == how
    values = open_corpus(tmp_path / "c").tensors["audio.values"]
    assert torch.isfinite(values).all()
    training = np.flatnonzero(raw.partitions["official"] == 0)
    steps = np.concatenate([audio.values[i, : audio.lengths[i]] for i in training]).astype(np.float32)[:, :3]
    medians = [np.median(column[np.isfinite(column)]) for column in steps.T]
    assert values[0, :3].tolist() == (medians if how == "median" else [0, 0, 0])
    assert values[0, 3] == np.float32(audio.values[0, 0, 3])


def test_steps_that_are_not_finite_can_be_missing(tiny_raw: MakeRaw, tmp_path: Path) -> None:
    raw = with_holes(tiny_raw())
    before = raw.features["audio"].lengths.copy()
    write_corpus(raw, tmp_path / "c", "tiny", nonfinite="missing")
    split = open_corpus(tmp_path / "c").everything()
    lost = before - split.lengths["audio"].numpy()
    assert lost.tolist() == [1, 0, 0, 0, 0, 1, 1, *[0] * 53]
    assert torch.equal(split.present[:, 1], split.lengths["audio"] > 0)
    with pytest.raises(Refusal, match="aligned steps, with which audio has to keep in step"):
        write_corpus(with_holes(tiny_raw(alignment="aligned")), tmp_path / "d", "tiny", nonfinite="missing")


def test_float32_leaves_finite_values_as_they_are() -> None:
    values = np.array([[1, -2], [0, 3.5]], dtype=">f8")
    actual = as_float32(values)
    assert actual.dtype == np.float32
    assert actual.dtype.isnative
    assert actual.tolist() == values.tolist()


def test_the_source_is_named_and_hashed(tiny_raw: MakeRaw, tmp_path: Path) -> None:
    file = tmp_path / "features.pkl"
    file.write_bytes(b"content")
    card = write_corpus(replace(tiny_raw(), source=file), tmp_path / "c", "tiny")
    assert card.source == {
        "file": "features.pkl",
        "format": "test",
        "importer_version": store.IMPORTER_VERSION,
        "sha256": hashlib.sha256(b"content").hexdigest(),
    }
    assert str(tmp_path) not in (tmp_path / "c" / CARD).read_text()


# --- completely or not at all


class Failing(PaddedSequences):
    """Fails in the middle, as a reader does when a file ends early."""

    def packed(self, start: int, stop: int) -> Any:
        if stop > 30:
            raise OSError("the disk went away")
        return super().packed(start, stop)


def failing(raw: RawCorpus) -> RawCorpus:
    raw.features["vision"] = Failing(raw.features["vision"].values, raw.features["vision"].lengths)
    return raw


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_failing_reader_leaves_nothing(tiny_raw: MakeRaw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mer_lightning.data.raw._CHUNK_BYTES", 1)
    with pytest.raises(Refusal, match="the disk went away"):
        write_corpus(failing(tiny_raw()), tmp_path / "c", "tiny")
    assert list(tmp_path.iterdir()) == []


def test_a_failing_reader_leaves_the_old_import(
    tiny_raw: MakeRaw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_corpus(tiny_raw(), tmp_path / "c", "tiny")
    before = content(tmp_path / "c")
    monkeypatch.setattr("mer_lightning.data.raw._CHUNK_BYTES", 1)
    with pytest.raises(Refusal, match="the disk went away"):
        write_corpus(failing(tiny_raw(seed=1)), tmp_path / "c", "tiny")
    assert content(tmp_path / "c") == before
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_a_failing_rename_puts_the_old_import_back(
    tiny_raw: MakeRaw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_corpus(tiny_raw(), tmp_path / "c", "tiny")
    before = content(tmp_path / "c")
    rename = os.replace

    def fails_once(source: Path, target: Path) -> None:
        if target == tmp_path / "c" and source.parent.name.startswith(".c-") and "old" not in source.parent.name:
            raise OSError("no rename")
        rename(source, target)

    monkeypatch.setattr(os, "replace", fails_once)
    with pytest.raises(OSError, match="no rename"):
        write_corpus(tiny_raw(seed=1), tmp_path / "c", "tiny")
    assert content(tmp_path / "c") == before
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_a_new_import_replaces_the_old_one(tiny_raw: MakeRaw, tmp_path: Path) -> None:
    write_corpus(tiny_raw(), tmp_path / "c", "tiny")
    old = open_corpus(tmp_path / "c")
    before = old.target.clone()
    write_corpus(tiny_raw(seed=1), tmp_path / "c", "tiny")
    assert not torch.equal(open_corpus(tmp_path / "c").target, before)
    assert torch.equal(old.target, before), "what is open stays readable"
    assert sorted(content(tmp_path / "c")) == sorted([CARD, TENSORS, SAMPLES])
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_only_a_corpus_is_ever_replaced(tiny_raw: MakeRaw, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("years of work")
    (tmp_path / "file").write_text("also work")
    for name in ("thesis", "file"):
        with pytest.raises(Refusal, match="an empty place or an older import"):
            write_corpus(tiny_raw(), tmp_path / name, "tiny")
    assert (tmp_path / "thesis" / "chapter1.tex").read_text() == "years of work"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "thesis"]
    (tmp_path / "empty").mkdir()
    write_corpus(tiny_raw(), tmp_path / "empty", "tiny")
    assert len(open_corpus(tmp_path / "empty").everything()) == 60


def test_others_may_read_an_import_as_they_may_read_any_folder(tiny_raw: MakeRaw, tmp_path: Path) -> None:
    (tmp_path / "usual").mkdir()
    write_corpus(tiny_raw(), tmp_path / "c", "tiny")
    assert stat.S_IMODE((tmp_path / "c").stat().st_mode) == stat.S_IMODE((tmp_path / "usual").stat().st_mode)

"""The native form: what is written is what is read, whole or not at all, and every bad corpus is refused by name."""

from __future__ import annotations

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mer_lightning.data import store
from mer_lightning.data.corpus import CARD, SAMPLES, TENSORS, open_corpus
from mer_lightning.data.raw import (
    JoinedSequences,
    LoadedSequences,
    PackedSequences,
    PaddedSequences,
    RawCorpus,
    Sequences,
)
from mer_lightning.data.store import carve_valid, clean, partition_from, write_corpus
from mer_lightning.errors import Refusal
from mer_lightning.tasks import MultiLabel, Regression, SingleLabel

MODALITIES = ("text", "audio", "vision")
MakeRaw = Callable[..., RawCorpus]


def samples_of(sequences: Sequences) -> list[np.ndarray]:
    """One array per sample, asked for one by one."""
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
            found = sequences.packed(start, stop)
            assert found.shape == expected.shape
            assert np.array_equal(found, expected)


# --- writing and reading


@pytest.mark.parametrize("chunk", [1, 4096, 64 * 2**20])
@pytest.mark.parametrize("alignment", ["aligned", "unaligned", "utterance"])
def test_what_is_written_is_read(
    tiny_raw: MakeRaw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alignment: str, chunk: int
) -> None:
    monkeypatch.setattr(store, "_CHUNK_BYTES", chunk)
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


def test_non_finite_values_become_zero_and_are_counted(tiny_raw: MakeRaw, tmp_path: Path) -> None:
    raw = tiny_raw()
    audio, vision = raw.features["audio"], raw.features["vision"]
    audio.values = audio.values.astype(np.float64)
    audio.values[0, 0, :3] = -np.inf, np.inf, np.nan
    audio.values[5, 0, 0] = -np.inf
    audio.values[6, 0, 0] = 1e300  # too large for float32
    vision.values[3, vision.lengths[3] :] = np.nan  # padding, which nobody reads
    card = write_corpus(raw, tmp_path / "c", "tiny")
    assert card.cleaned == {"audio": {"-inf": 2, "+inf": 2, "nan": 1}}
    values = open_corpus(tmp_path / "c").tensors["audio.values"]
    assert torch.isfinite(values).all()
    assert values[0, :3].tolist() == [0, 0, 0]
    assert values[0, 3] == np.float32(audio.values[0, 0, 3])


def test_clean_leaves_finite_values_as_they_are() -> None:
    counts: Counter[str] = Counter()
    values = np.array([[1, -2], [0, 3.5]], dtype=">f8")
    found = clean(values, counts)
    assert found.dtype == np.float32
    assert found.dtype.isnative
    assert found.tolist() == values.tolist()
    assert counts == {}


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


# --- whole or not at all


class Failing(PaddedSequences):
    """Breaks in the middle, as a reader does when a file ends early."""

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
    monkeypatch.setattr(store, "_CHUNK_BYTES", 1)
    with pytest.raises(OSError, match="the disk went away"):
        write_corpus(failing(tiny_raw()), tmp_path / "c", "tiny")
    assert list(tmp_path.iterdir()) == []


def test_a_failing_reader_leaves_the_old_import(
    tiny_raw: MakeRaw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_corpus(tiny_raw(), tmp_path / "c", "tiny")
    before = content(tmp_path / "c")
    monkeypatch.setattr(store, "_CHUNK_BYTES", 1)
    with pytest.raises(OSError, match="the disk went away"):
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


# --- refusals


def change(**fields: Any) -> Callable[[RawCorpus], RawCorpus]:
    return lambda raw: replace(raw, **{name: make(raw) for name, make in fields.items()})


def with_feature(modality: str, make: Callable[[PaddedSequences], Sequences]) -> Callable[[RawCorpus], RawCorpus]:
    return change(features=lambda raw: raw.features | {modality: make(raw.features[modality])})


def set_label(row: int, value: float) -> Callable[[RawCorpus], RawCorpus]:
    def changed(raw: RawCorpus) -> RawCorpus:
        target = raw.target.astype(np.float64)
        target[row] = value
        return replace(raw, target=target)

    return changed


THREE, TWO = SingleLabel(("a", "b", "c")), MultiLabel(("a", "b"))


@pytest.mark.parametrize(
    ("task", "spoil", "expected"),
    [
        (None, set_label(7, np.nan), r"a finite label .* 1 of 60 not finite, the first 'video1\$_\$7'"),
        (None, set_label(7, np.inf), "a finite label"),
        (THREE, set_label(7, np.nan), "a finite label"),
        (THREE, set_label(7, 3), "whole labels 0 to 2"),
        (THREE, set_label(7, -1), "whole labels 0 to 2"),
        (THREE, set_label(7, 0.5), "whole labels 0 to 2"),
        (TWO, set_label(7, 2), "0 or 1 for each of 2 classes"),
        (TWO, change(target=lambda raw: raw.target[:, :1]), "0 or 1 for each of 2 classes"),
        (None, change(target=lambda raw: raw.target[:, None]), "one number per sample as label"),
        (None, change(target=lambda raw: raw.target[:59]), "60 labels; found 59"),
        (None, change(ids=lambda raw: [*raw.ids[:59], raw.ids[0]]), r"each id once; found 'video0\$_\$0'"),
        (None, change(ids=lambda raw: [], features=lambda raw: {}), "at least one sample"),
        (None, change(features=lambda raw: {}), "features of at least one modality"),
        (None, change(groups=lambda raw: raw.groups[:59]), "60 values of group; found 59"),
        (None, change(columns=lambda raw: {"sentence": ["x"]}), "60 values of sentence"),
        (None, change(extras=lambda raw: {"tokens": np.zeros(3)}), "60 values of tokens"),
        (None, change(partitions=lambda raw: {"p": np.zeros(60, np.int8)}), "in split 'valid' of partition 'p'"),
        (None, change(partitions=lambda raw: {"p": np.zeros(59, np.int8)}), "60 values of p"),
        (None, with_feature("audio", lambda s: PaddedSequences(s.values[:59], s.lengths[:59])), "60 samples of audio"),
        (None, with_feature("audio", lambda s: PaddedSequences(s.values, s.lengths - 5)), "audio lengths of 0 or more"),
        (None, with_feature("audio", lambda s: PaddedSequences(s.values, s.lengths + 5)), "in audio of samples 0 to"),
        (None, with_feature("audio", lambda s: PackedSequences(s.values[:, 0], s.lengths)), "in audio of samples"),
    ],
)  # fmt: skip
def test_refusals(tiny_raw: MakeRaw, tmp_path: Path, task: Any, spoil: Any, expected: str) -> None:
    with pytest.raises(Refusal, match=expected) as caught:
        write_corpus(spoil(tiny_raw(task)), tmp_path / "c", "tiny")
    assert caught.value.where == "tiny"
    assert list(tmp_path.iterdir()) == []


def test_lengths_that_are_wrong_for_two_samples_but_right_in_sum_are_refused(
    tiny_raw: MakeRaw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = tiny_raw()
    audio = raw.features["audio"]
    pieces = samples_of(audio)
    lengths = audio.lengths.copy()
    lengths[0] += 1
    lengths[1] -= 1
    raw.features["audio"] = LoadedSequences(pieces.__getitem__, list(lengths), audio.width)
    monkeypatch.setattr(store, "_CHUNK_BYTES", 1)
    with pytest.raises(Refusal, match="in audio of samples 0 to 0"):
        write_corpus(raw, tmp_path / "c", "tiny")


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        (CARD, lambda text: b"- no card"),
        (CARD, lambda text: b""),
        (CARD, lambda text: b"\xff\xfe"),
        (CARD, lambda text: text.replace(b"kind: regression", b"kind: guess")),
        (CARD, lambda text: text.replace(b"official", b"unofficial")),
        (CARD, lambda text: text + b"surprise: 1\n"),
        (TENSORS, lambda data: data[:100]),
        (TENSORS, lambda data: b""),
        (TENSORS, lambda data: data.replace(b'"audio.offsets"', b'"audio.offzets"')),
    ],
)
def test_damaged_folders_are_refused(tiny_corpus: Callable[..., Path], name: str, spoil: Any) -> None:
    folder = tiny_corpus()
    (folder / name).write_bytes(spoil((folder / name).read_bytes()))
    with pytest.raises(Refusal, match="import"):
        open_corpus(folder)


def test_unknown_partitions_and_empty_splits_are_refused(tiny_corpus: Callable[..., Path]) -> None:
    corpus = open_corpus(tiny_corpus())
    with pytest.raises(Refusal, match="one of the partitions official; found 'declare'"):
        corpus.split("declare", "train")
    corpus.tensors["partition.official"] = torch.zeros(60, dtype=torch.int8)
    with pytest.raises(Refusal, match="samples in split 'valid'"):
        corpus.split("official", "valid")


# --- carving a validation split


def test_carving_moves_whole_groups_of_train_only() -> None:
    rng = np.random.default_rng(0)
    groups = [f"v{number}" for number in rng.integers(0, 60, 1000)]
    test_groups = {f"v{number}" for number in range(15)}
    before = np.array([2 if group in test_groups else 0 for group in groups], dtype=np.int8)
    before[:5] = -1
    after = carve_valid(before, groups)
    names = np.array(groups)
    assert not set(names[after == 1]) & set(names[after == 0])
    assert np.array_equal(after == 2, before == 2)
    assert np.array_equal(after == -1, before == -1)
    share = (after == 1).sum() / (before == 0).sum()
    assert 0.15 <= share < 0.15 + 1 / 30
    assert (before == 1).sum() == 0, "the argument is left as it was"


def test_carving_depends_on_the_seed_and_the_groups_but_not_on_the_order_of_samples() -> None:
    groups = [f"v{i // 10}" for i in range(400)]
    partition = np.zeros(400, np.int8)
    first = carve_valid(partition, groups)
    assert np.array_equal(first, carve_valid(partition, groups))
    assert not np.array_equal(first, carve_valid(partition, groups, seed=1))
    order = np.random.default_rng(0).permutation(400)
    assert np.array_equal(carve_valid(partition, [groups[i] for i in order]), first[order])


def test_carving_never_takes_all_of_train() -> None:
    for seed in range(20):
        carved = carve_valid(np.zeros(12, np.int8), ["small"] + ["large"] * 11, seed=seed)
        assert (carved == 0).any()
        assert (carved == 1).any()
    assert carve_valid(np.zeros(5, np.int8), ["one"] * 5).tolist() == [0] * 5


def test_partition_from_names() -> None:
    found = partition_from(["train", "", "test", "valid"])
    assert found.tolist() == [0, -1, 2, 1]
    assert found.dtype == np.int8


# --- batches


def slow_batch(raw: RawCorpus, rows: list[int]) -> dict[str, torch.Tensor]:
    """{modality: (B, T, D)}, built sample by sample."""
    found = {}
    for modality in MODALITIES:
        pieces = [torch.tensor(samples_of(raw.features[modality])[row]) for row in rows]
        longest = max(1, *(len(piece) for piece in pieces))
        found[modality] = torch.stack(
            [torch.cat([piece, torch.zeros(longest - len(piece), piece.shape[1])]) for piece in pieces]
        )
    return found


@pytest.mark.parametrize("alignment", ["aligned", "unaligned", "utterance"])
@pytest.mark.parametrize("resident", [False, True])
def test_a_batch_equals_a_slow_and_obvious_one(
    tiny_raw: MakeRaw, tmp_path: Path, alignment: str, resident: bool
) -> None:
    raw = absent(tiny_raw(alignment=alignment), "vision", [1, 4, 5, 10])
    raw = absent(raw, "text", [5, 6, 11])
    write_corpus(raw, tmp_path / "c", "tiny")
    split = open_corpus(tmp_path / "c").split("official", "train")
    if resident:
        split = split.on(torch.device("cpu"))
    rows = np.flatnonzero(raw.partitions["official"] == 0)
    assert split.ids == [raw.ids[row] for row in rows]
    for index in ([0, 1, 2, 3], [5], [1], list(range(len(rows)))[::-1], [3, 3, 0]):
        batch = split.batch(torch.tensor(index))
        expected = slow_batch(raw, list(rows[index]))
        for modality in MODALITIES:
            assert torch.equal(batch.features[modality], expected[modality])
            assert batch.lengths[modality].tolist() == raw.features[modality].lengths[rows[index]].tolist()
        assert torch.equal(batch.target, torch.tensor(raw.target[rows[index]], dtype=torch.float32))
        assert batch.index.tolist() == index
        expected_present = [[bool(raw.features[m].lengths[row]) for m in MODALITIES] for row in rows[index]]
        assert batch.present.tolist() == expected_present
    limited = split.batch(torch.tensor([0, 1]), torch.tensor([[True, False, True], [True, False, True]]))
    assert not limited.present[:, 1].any()
    assert limited.present[0].tolist() == [True, False, True]


def test_a_modality_that_every_sample_of_a_split_lacks(tiny_raw: MakeRaw, tmp_path: Path) -> None:
    write_corpus(absent(tiny_raw(), "vision", list(range(60))), tmp_path / "c", "tiny")
    for split in (open_corpus(tmp_path / "c").everything(), open_corpus(tmp_path / "c").split("official", "test")):
        for held in (split, split.on(torch.device("cpu"))):
            batch = held.batch(torch.tensor([0, 2]))
            assert batch.features["vision"].shape == (2, 1, 7)
            assert not batch.features["vision"].any()
            assert batch.present.tolist() == [[True, True, False]] * 2


def test_a_resident_split_holds_its_own_samples_only(tiny_corpus: Callable[..., Path]) -> None:
    corpus = open_corpus(tiny_corpus())
    split = corpus.split("official", "valid")
    resident = split.on(torch.device("cpu"))
    for modality in MODALITIES:
        assert len(resident.values[modality]) == int(split.lengths[modality].sum())
        assert len(split.values[modality]) > len(resident.values[modality])

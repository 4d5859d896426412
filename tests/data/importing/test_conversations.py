"""Pickles of conversations, as the preprocessing of DialogueRNN and of MMGCN writes them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mer_lightning.data.catalogue import lookup
from mer_lightning.data.importing.base import detect, read_raw
from mer_lightning.data.importing.conversations import Conversations
from mer_lightning.data.raw import SPLITS, RawCorpus
from mer_lightning.data.store import check
from mer_lightning.errors import Refusal

IEMOCAP = [f"Ses0{session}F_impro0{number}" for session in range(1, 6) for number in (1, 2)]
TURNS = 3


def features(dialogues: list[Any], width: int) -> dict[Any, list[np.ndarray]]:
    return {d: [np.full(width, 10 * k + turn, np.float32) for turn in range(TURNS)] for k, d in enumerate(dialogues)}


def iemocap() -> list[Any]:
    ids = {dialogue: [f"{dialogue}_{turn}" for turn in range(TURNS)] for dialogue in IEMOCAP}
    speakers = {dialogue: ["M", "F", "M"] for dialogue in IEMOCAP}
    labels = {dialogue: [(k + turn) % 6 for turn in range(TURNS)] for k, dialogue in enumerate(IEMOCAP)}
    sentences = {dialogue: [f"caf\xe9 {turn}" for turn in range(TURNS)] for dialogue in IEMOCAP}
    three = [features(IEMOCAP, width) for width in (4, 5, 6)]
    return [ids, speakers, labels, *three, sentences, IEMOCAP[:8], set(IEMOCAP[8:])]


def meld() -> tuple[Any, ...]:
    """Numbers as names of dialogues, one-hot speakers, no vision, and a second kind of labels at the end."""
    numbers = list(range(8))
    ids = {dialogue: list(range(TURNS)) for dialogue in numbers}
    speakers = {dialogue: [[0, 1, 0], [1, 0, 0], [0, 0, 1]] for dialogue in numbers}
    labels = {dialogue: [(dialogue + turn) % 7 for turn in range(TURNS)] for dialogue in numbers}
    sentences = {dialogue: ["a", "b", "c"] for dialogue in numbers}
    two = [features(numbers, width) for width in (4, 5)]
    sentiments = {dialogue: [0] * TURNS for dialogue in numbers}
    return (ids, speakers, labels, *two, sentences, numbers[:6], numbers[6:], sentiments)


def read(path: Path, content: Any, corpus: str | None = None, **chosen: str) -> RawCorpus:
    path.write_bytes(pickle.dumps(content, protocol=2))
    reader = detect(path)
    assert reader.name == "conversations"
    raw = read_raw(reader, path, lookup(corpus) if corpus else None, chosen)
    check(raw)
    return raw


def test_iemocap(tmp_path: Path) -> None:
    raw = read(tmp_path / "IEMOCAP_features.pkl", iemocap())
    assert raw.task == lookup("iemocap6").task
    assert raw.ids[:4] == ["Ses01F_impro01_0", "Ses01F_impro01_1", "Ses01F_impro01_2", "Ses01F_impro02_0"]
    assert raw.target[:6].tolist() == [0, 1, 2, 1, 2, 3]
    assert {m: each.width for m, each in raw.features.items()} == {"text": 4, "audio": 5, "vision": 6}
    assert raw.features["audio"].packed(3, 5)[:, 0].tolist() == [10, 11]
    assert raw.columns["turn"][:4] == ["0", "1", "2", "0"]
    assert raw.columns["speaker"][:3] == ["M", "F", "M"]
    assert raw.columns["sentence"][1] == "caf\xe9 1"
    assert raw.columns["dialogue"] == raw.groups
    assert list(raw.partitions) == ["official", "fold-1", "fold-2", "fold-3", "fold-4", "fold-5"]
    of_test = {raw.groups[row] for row in np.flatnonzero(raw.partitions["official"] == SPLITS.index("test"))}
    assert of_test == set(IEMOCAP[8:])


def test_meld_has_no_vision_and_its_classes_are_put_in_the_order_of_the_catalogue(tmp_path: Path) -> None:
    raw = read(tmp_path / "MELD_features_raw.pkl", meld())
    assert list(raw.features) == ["text", "audio"]
    assert raw.ids[:4] == ["0_0", "0_1", "0_2", "1_0"]
    assert raw.columns["speaker"][:3] == ["1", "0", "2"]
    own = ("neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger")
    assert raw.task.classes == own
    named = read(tmp_path / "MELD_features_raw.pkl", meld(), "meld")
    assert named.task == lookup("meld").task
    assert [named.task.classes[number] for number in named.target] == [own[number] for number in raw.target]
    assert read(tmp_path / "renamed.pkl", meld(), "meld").target.tolist() == named.target.tolist()
    assert read(tmp_path / "renamed.pkl", meld()).task.classes == tuple("0123456")


def test_numbers_as_labels(tmp_path: Path) -> None:
    content = iemocap()
    content[2] = {dialogue: [0.25, -0.5, 1.0] for dialogue in IEMOCAP}
    assert read(tmp_path / "AVEC_features.pkl", content).task.card() == {"kind": "regression", "limit": 1.0}


def test_more_features_than_modalities_are_chosen_by_position(tmp_path: Path) -> None:
    content = iemocap()
    content.insert(4, features(IEMOCAP, 7))
    with pytest.raises(Refusal, match="3: 4 wide, 4: 7 wide, 5: 5 wide, 6: 6 wide; say which is which"):
        read(tmp_path / "x.pkl", content)
    raw = read(tmp_path / "x.pkl", content, text="4", audio="5")
    assert {m: each.width for m, each in raw.features.items()} == {"text": 7, "audio": 5}


def test_refusals(tmp_path: Path) -> None:
    content = iemocap()
    content[4]["Ses01F_impro01"] = content[4]["Ses01F_impro01"][:2]
    with pytest.raises(Refusal, match="3 vectors of audio in dialogue Ses01F_impro01; found 2"):
        read(tmp_path / "x.pkl", content)
    with pytest.raises(Refusal, match="the classes of iemocap4, happy, sad, neutral, angry; found happy, sad"):
        read(tmp_path / "IEMOCAP_features.pkl", iemocap(), "iemocap4")
    ids, speakers, labels, *_, sentences, train, test = iemocap()
    (tmp_path / "iemocap.pkl").write_bytes(pickle.dumps([ids, speakers, labels, sentences, train, test]))
    with pytest.raises(Refusal, match="dicts of ids, speakers, labels, features and sentences"):
        read_raw(Conversations(), tmp_path / "iemocap.pkl", None, {})

"""The catalogue against the published facts about each corpus."""

from __future__ import annotations

import pytest

from mer_lightning.data.catalogue import catalogue, lookup
from mer_lightning.data.raw import SPLITS
from mer_lightning.errors import Refusal
from mer_lightning.tasks import MultiLabel, Regression, SingleLabel

TASKS = {
    "mosi": Regression(3.0),
    "mosei": Regression(3.0),
    "mosei_emotions": MultiLabel(("happy", "sad", "anger", "surprise", "disgust", "fear")),
    "sims": Regression(1.0),
    "simsv2": Regression(1.0),
    "iemocap": MultiLabel(("neutral", "happy", "sad", "angry")),
    "iemocap4": SingleLabel(("happy", "sad", "neutral", "angry")),
    "iemocap6": SingleLabel(("happy", "sad", "neutral", "angry", "excited", "frustrated")),
    "meld": SingleLabel(("anger", "joy", "sadness", "neutral", "disgust", "fear", "surprise")),
    "mer2023": SingleLabel(("neutral", "angry", "happy", "sad", "worried", "surprise")),
}


def test_every_corpus_has_its_task_with_the_classes_in_the_order_of_the_files():
    assert {name: entry.task for name, entry in catalogue().items()} == TASKS


def test_counts_are_those_of_the_published_corpora():
    counts = {name: list(entry.counts["official"].values()) for name, entry in catalogue().items() if entry.counts}
    assert counts == {"mosi": [1284, 229, 686], "mosei": [16326, 1871, 4659], "iemocap": [2717, 798, 938]}
    assert (sum(counts["mosi"]), sum(counts["mosei"]), sum(counts["iemocap"])) == (2199, 22856, 4453)
    assert all(tuple(entry.counts.get("official", dict.fromkeys(SPLITS))) == SPLITS for entry in catalogue().values())


def test_every_entry_has_a_source_and_a_licence():
    for entry in catalogue().values():
        assert entry.title
        assert entry.labels
        assert "ask" in entry.obtain.lower()
        assert "http" not in entry.obtain + entry.licence  # links rot; names of people and groups do not
        assert ("USC SAIL" in entry.licence) == entry.name.startswith("iemocap")


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(Refusal, match=r"nothere: expected a corpus among mosi, mosei, .*mer2023"):
        lookup("nothere")

"""Synthetic corpora have the wanted traits, and are made once."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mer_lightning.data.catalogue import lookup
from mer_lightning.data.corpus import open_corpus, read_card
from mer_lightning.data.raw import SPLITS
from mer_lightning.data.synthetic import twins as synthetic
from mer_lightning.data.synthetic.twins import SHAPES, make_corpus, synthetic_corpus
from mer_lightning.errors import Refusal
from mer_lightning.modalities import COMBINATIONS, MODALITIES
from tests.data.synthetic.test_process import drawn


@pytest.fixture(scope="module")
def mosi():
    return make_corpus("mosi", "aligned")


def pooled(raw, modality):
    """(N, D): the mean of each sample's steps."""
    sequences = raw.features[modality]
    values = sequences.packed(0, len(raw))
    starts = np.cumsum(sequences.lengths) - sequences.lengths
    return np.add.reduceat(values, starts) / sequences.lengths[:, None]


# The corpora


def test_ridge_on_mean_frames_lies_between_floor_and_bound(mosi):
    raw, twin = mosi
    bayes = twin.bayes
    train, test = (raw.partitions["official"] == SPLITS.index(split) for split in ("train", "test"))
    features = {letter: pooled(raw, modality) for letter, modality in zip("tav", MODALITIES, strict=True)}
    features["tav"] = np.hstack([features[letter] for letter in "tav"])
    floor = np.abs(raw.target[test] - np.median(raw.target[train])).mean()
    mae = {}
    for combination, values in features.items():
        model = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-1, 5, 13))).fit(values[train], raw.target[train])
        mae[combination] = np.abs(model.predict(values[test]) - raw.target[test]).mean()
        assert bayes[combination]["mae"] + 0.02 < mae[combination] < floor - 0.1, combination
    assert mae["t"] < mae["a"] - 0.05
    assert mae["t"] < mae["v"] - 0.05
    assert bayes["tav"]["mae"] + 0.1 < mae["tav"] < mae["t"] - 0.05
    assert twin.linear["mae"] == pytest.approx(mae["tav"], abs=0.02)  # another way of choosing the penalty


def test_sentiment_labels_are_means_of_raters(mosi):
    labels = mosi[0].target
    assert np.abs(labels).max() <= 3
    assert np.rint(labels * 5) / 5 == pytest.approx(labels, abs=1e-12)
    assert len(np.unique(labels)) == 31
    assert 0.03 < (labels == 0).mean() < 0.06
    assert 1.25 < np.abs(labels - np.median(labels)).mean() < 1.45
    mosei = drawn(SHAPES["mosei"].rule())[0]
    assert np.rint(mosei * 3) / 3 == pytest.approx(mosei, abs=1e-12)
    assert (mosei == 0).mean() == pytest.approx(0.22, abs=0.01)
    for labels in (mosi[0].target, mosei):
        assert (np.sign(labels) == 0).any()  # true zeros, not nearly


@pytest.mark.parametrize(
    ("name", "shares"),
    [
        ("iemocap4", {"happy": 0.296, "sad": 0.196, "neutral": 0.309, "angry": 0.199}),
        ("iemocap", {"neutral": 0.408, "happy": 0.144, "sad": 0.206, "angry": 0.242}),
        (
            "mosei_emotions",
            {"happy": 0.537, "sad": 0.242, "anger": 0.230, "surprise": 0.095, "disgust": 0.173, "fear": 0.083},
        ),
    ],
)
def test_classes_have_the_shares_of_the_real_corpus(name, shares):
    assert tuple(shares) == lookup(name).task.classes
    raw, _ = make_corpus(name, "aligned", samples=2000)
    one_hot = np.eye(4)[raw.target] if raw.task.kind == "single_label" else raw.target
    assert one_hot.mean(0) == pytest.approx(list(shares.values()), abs=0.04)
    if name == "iemocap":
        assert (raw.target.sum(1) == 1).all()
    if name == "mosei_emotions":
        assert 0.1 < (raw.target.sum(1) == 0).mean() < 0.25  # no emotion at all, as in life


def test_shapes_are_those_of_the_real_corpora(mosi):
    raw, _ = mosi
    assert [raw.features[m].width for m in MODALITIES] == [768, 5, 20]
    assert np.bincount(raw.partitions["official"]).tolist() == [1284, 229, 686]
    assert [
        len({g for g, p in zip(raw.groups, raw.partitions["official"], strict=True) if p == s}) for s in range(3)
    ] == [
        52,
        10,
        31,
    ]
    for name in SHAPES:
        expected = lookup(name).counts.get("official")
        if expected:
            assert {b.split: b.samples for b in SHAPES[name].blocks if b.split != "train"}.items() <= expected.items()
            assert sum(b.samples for b in SHAPES[name].blocks if b.split == "train") == expected["train"]
    raw, _ = make_corpus("mosei", "unaligned", samples=100)
    assert [raw.features[m].width for m in MODALITIES] == [768, 74, 35]
    assert np.bincount(raw.partitions["official"]).tolist() == [72, 8, 20]


@pytest.mark.parametrize("name", ["mosi", "iemocap4"])
def test_no_video_or_dialogue_is_in_two_splits(name):
    raw, _ = make_corpus(name, "aligned", samples=600)
    assert len(set(raw.ids)) == 600
    assert list(raw.partitions) == ["official"] + [f"fold-{k}" for k in range(1, 6) if name == "iemocap4"]
    groups = np.array(raw.groups)
    for partition in raw.partitions.values():
        assert sorted(np.unique(partition)) == [0, 1, 2]
        assert len(set(zip(groups, partition.tolist(), strict=True))) == len(set(groups))


def test_each_session_is_the_test_of_one_fold():
    raw, _ = make_corpus("iemocap4", "aligned", samples=600)
    sessions = np.array([group.split("_")[0] for group in raw.groups])
    for k in range(1, 6):
        fold = raw.partitions[f"fold-{k}"]
        assert ((fold == 2) == (sessions == f"session{k}")).all()
        assert 0.1 < (fold == 1).sum() / (fold != 2).sum() < 0.3


@pytest.mark.parametrize(("alignment", "longest"), [("aligned", (50, 50, 50)), ("unaligned", (50, 375, 500))])
def test_lengths_are_true_and_varied(alignment, longest):
    raw, _ = make_corpus("mosi", alignment, samples=1000)
    text, audio, vision = (raw.features[m].lengths for m in MODALITIES)
    for lengths, most in zip((text, audio, vision), longest, strict=True):
        assert lengths.min() >= 2
        assert most / 2 < lengths.max() <= most
        assert 0.4 < lengths.std() / lengths.mean() < 1
    if alignment == "aligned":
        assert (text == audio).all()
        assert (text == vision).all()
    else:
        assert 0.8 < np.corrcoef(text, audio)[0, 1] < 0.99
        assert 0.8 < np.corrcoef(text, vision)[0, 1] < 0.99
        assert not np.array_equal(audio, vision)


def test_bounds_are_of_the_test_rows(mosi):
    """Shares of correct decisions count the test samples, and its non-zero ones, and nothing else."""
    raw, twin = mosi
    target = raw.target[raw.partitions["official"] == SPLITS.index("test")]
    assert (target == 0).any()
    for scores in twin.bayes.values():
        assert scores["has0_acc2"] * 686 == pytest.approx(round(scores["has0_acc2"] * 686), abs=1e-9)
        correct = scores["non0_acc2"] * (target != 0).sum()
        assert correct == pytest.approx(round(correct), abs=1e-9)


def test_splits_come_from_the_same_process(mosi):
    raw, _ = mosi
    partition = raw.partitions["official"]
    contradicts = np.array([bool(who) for who in raw.columns["contradicts"]])
    spread = {"label": raw.target, "contradiction": contradicts.astype(float), "length": raw.features["text"].lengths}
    for name, values in spread.items():
        for split in (1, 2):
            here = values[partition == split]
            error = values.std() / np.sqrt(len(here))
            assert abs(here.mean() - values[partition == 0].mean()) < 4 * error, name


def test_alignments_of_one_seed_differ_in_frames_only():
    aligned, twin = make_corpus("mosi", "aligned", samples=200, seed=4)
    unaligned, same = make_corpus("mosi", "unaligned", samples=200, seed=4)
    assert (aligned.target == unaligned.target).all()
    assert aligned.ids == unaligned.ids
    assert aligned.columns == unaligned.columns
    assert (twin.bayes, twin.ceiling) == (same.bayes, same.ceiling)
    assert (aligned.features["text"].lengths == unaligned.features["text"].lengths).all()


# The cache


def test_a_seed_makes_the_same_bytes_in_another_process_with_more_threads(tmp_path):
    here = read_card(synthetic_corpus("mosi", "unaligned", tmp_path / "one", samples=150, seed=1))
    program = (
        "import sys; from pathlib import Path; from mer_lightning.data.synthetic.twins import synthetic_corpus;"
        "synthetic_corpus('mosi', 'unaligned', Path(sys.argv[1]), samples=150, seed=1)"
    )
    threads = {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "two")], check=True, env=os.environ | threads)
    (there,) = (tmp_path / "two").iterdir()
    assert read_card(there) == here
    other = read_card(synthetic_corpus("mosi", "unaligned", tmp_path / "one", samples=150, seed=2))
    assert other.sha256 != here.sha256
    assert other.bayes != here.bayes


def test_a_corpus_is_written_once_and_says_what_it_is(tmp_path, monkeypatch):
    folder = synthetic_corpus("iemocap", "aligned", tmp_path, samples=100)
    written = (folder / "card.yaml").stat().st_mtime_ns
    monkeypatch.setattr(synthetic, "make_corpus", None)  # a second making would fail
    assert synthetic_corpus("iemocap", "aligned", tmp_path, samples=100) == folder
    assert (folder / "card.yaml").stat().st_mtime_ns == written

    corpus = open_corpus(folder)
    assert corpus.card.label == "iemocap-aligned (synthetic)"
    assert corpus.card.synthetic
    assert set(corpus.card.bayes) == set(COMBINATIONS)
    assert corpus.card.source["sha256"] is None
    assert '"contradicting": 0.15' in " ".join(corpus.card.notes)
    assert set(corpus.samples["contradicts"]) <= {"", *MODALITIES}
    assert corpus.task == lookup("iemocap").task


def test_other_arguments_or_constants_are_another_folder(tmp_path, monkeypatch):
    folders = {
        synthetic_corpus("mosi", alignment, tmp_path, samples, seed)
        for alignment, samples, seed in (
            ("aligned", 60, 0),
            ("unaligned", 60, 0),
            ("aligned", 61, 0),
            ("aligned", 60, 1),
        )
    }
    folders |= {
        synthetic_corpus("mosi", "aligned", tmp_path, 60, 0, process) for process in ("default", "default,cue=2")
    }
    assert len(folders) == 5
    monkeypatch.setattr(synthetic, "CARD_VERSION", 0)
    folders.add(synthetic_corpus("mosi", "aligned", tmp_path, 60, 0))
    assert len(folders) == 6


def test_of_two_makers_at_once_the_second_takes_what_the_first_made(tmp_path, monkeypatch):
    write, inner = synthetic.write_corpus, []

    def overtaken(*args, **kwargs):
        if not inner:  # while the outer call is about to write, another one starts and finishes
            inner.append(None)
            inner[0] = synthetic_corpus("mosi", "aligned", tmp_path, samples=60)
            (inner[0] / "mark").touch()
        return write(*args, **kwargs)

    monkeypatch.setattr(synthetic, "write_corpus", overtaken)
    assert synthetic_corpus("mosi", "aligned", tmp_path, samples=60) == inner[0]
    assert (inner[0] / "mark").exists()
    assert list(tmp_path.iterdir()) == [inner[0]]


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (("sims", "aligned"), "another name"),
        (("mosi", "utterance"), "found utterance"),
        (("mosi", "aligned", 39), "found 39"),
    ],
)
def test_refusals_name_what_was_found(tmp_path, arguments, found):
    name, alignment, *samples = arguments
    with pytest.raises(Refusal, match=found):
        synthetic_corpus(name, alignment, tmp_path / "cache", *samples)
    assert not (tmp_path / "cache").exists()

"""Synthetic corpora: the shapes of known corpora, features from a known process, and the best possible scores.

They need no download and no licence, are made from a seed in seconds, and the best possible scores on them are known.
docs/explanation/synthetic-corpora.md explains what they can be used for, and what not.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mer_lightning.data.catalogue import lookup, refuse_no_twin
from mer_lightning.data.corpus import CARD, TwinFacts
from mer_lightning.data.linear import linear_score, pooled
from mer_lightning.data.raw import SPLITS, LoadedSequences, RawCorpus, Sequences
from mer_lightning.data.store import carve_valid, write_corpus
from mer_lightning.data.synthetic.bayes import bayes_scores, filtered_scores
from mer_lightning.data.synthetic.labels import Exclusive, Graded, Independent, LabelRule
from mer_lightning.data.synthetic.named import DEFAULT, process_named
from mer_lightning.data.synthetic.process import draw_carrying, draw_evidence, draw_frames, draw_lengths
from mer_lightning.errors import Refusal
from mer_lightning.modalities import MODALITIES
from mer_lightning.randomness import name_key

GENERATOR_VERSION = 1  # raise it whenever the same seed makes other data
CARD_VERSION = 2  # raise it whenever the card of the same data says more
SMALLEST = 40  # below this some split of some corpus would be empty


@dataclass(frozen=True)
class Block:
    """Samples that stay together in every partition's test split: a split of MOSI, a session of IEMOCAP."""

    samples: int
    groups: int  # videos or dialogues
    split: str  # in the partition `official`


@dataclass(frozen=True)
class Shape:
    """Sizes and counts of the real corpus, which its synthetic twin has, too."""

    rule: Callable[[], LabelRule]
    dims: tuple[int, int, int]
    aligned: int  # longest sequence
    unaligned: tuple[int, int, int]
    words: tuple[float, float]  # mean and deviation of the logarithm of the text's length
    blocks: tuple[Block, ...]
    default_samples: int | None = None  # None: as many as the real corpus
    folds: bool = False  # leave one block out, for each block

    @property
    def samples(self) -> int:
        return self.default_samples or sum(block.samples for block in self.blocks)


def _two_humps(step: float, zero_share: float, humps: tuple[tuple[float, float, float], ...]) -> Graded:
    """Sentiment at multiples of ``step``, like the mean of a few raters.

    A share of the labels is 0. The density of all others is a sum of Gaussians ``humps`` (height, centre, width).
    """
    most = round(3 / step)
    values = np.arange(-most, most + 1) / (1 / step)
    density = sum(height * np.exp(-0.5 * ((values - centre) / width) ** 2) for height, centre, width in humps)
    density = np.where(values == 0, 0.0, density)
    return Graded(values, np.where(values == 0, zero_share, (1 - zero_share) * density / density.sum()))


# Classes in the order of the catalogue.
EMOTION_SHARES = {"happy": 0.537, "sad": 0.242, "anger": 0.230, "surprise": 0.095, "disgust": 0.173, "fear": 0.083}
IEMOCAP4_COUNTS = {"happy": 1636, "sad": 1084, "neutral": 1708, "angry": 1103}
IEMOCAP_COUNTS = {"neutral": 383, "happy": 135, "sad": 193, "angry": 227}


def _shares(counts: dict[str, int]) -> NDArray[np.float64]:
    return np.array(list(counts.values())) / sum(counts.values())


def _sessions(sizes: tuple[int, ...]) -> tuple[Block, ...]:
    dialogues, splits = (28, 30, 32, 30, 31), ("train", "train", "train", "valid", "test")
    return tuple(Block(*block) for block in zip(sizes, dialogues, splits, strict=True))


_MOSEI: dict[str, Any] = {
    "dims": (768, 74, 35),
    "aligned": 50,
    "unaligned": (50, 500, 500),
    "words": (2.8, 0.6),
    "blocks": (Block(16326, 2249, "train"), Block(1871, 300, "valid"), Block(4659, 676, "test")),
    "default_samples": 4200,
}
_IEMOCAP_SHAPE: dict[str, Any] = {
    "dims": (300, 74, 35),
    "aligned": 20,
    "unaligned": (20, 400, 500),
    "words": (2.3, 0.6),
    "folds": True,
}

SHAPES: dict[str, Shape] = {
    "mosi": Shape(
        rule=lambda: _two_humps(0.2, 0.044, ((1.0, -1.25, 1.0), (1.05, 1.4, 0.95))),
        dims=(768, 5, 20),
        aligned=50,
        unaligned=(50, 375, 500),
        words=(2.36, 0.61),
        blocks=(Block(1284, 52, "train"), Block(229, 10, "valid"), Block(686, 31, "test")),
    ),
    "mosei": Shape(
        rule=lambda: _two_humps(1 / 3, 0.22, ((0.8, -0.6, 0.9), (1.3, 0.8, 0.9))),
        **_MOSEI,
    ),
    "mosei_emotions": Shape(
        rule=lambda: Independent(np.array(list(EMOTION_SHARES.values()))),
        **_MOSEI,
    ),
    "iemocap4": Shape(
        rule=lambda: Exclusive(_shares(IEMOCAP4_COUNTS)),
        blocks=_sessions((1085, 1023, 1151, 1031, 1241)),
        **_IEMOCAP_SHAPE,
    ),
    "iemocap": Shape(
        rule=lambda: Exclusive(_shares(IEMOCAP_COUNTS)),
        blocks=_sessions((906, 906, 905, 798, 938)),
        **_IEMOCAP_SHAPE,
    ),
}


def synthetic_corpus(
    name: str, alignment: str, cache: Path, samples: int | None = None, seed: int = 0, process: str = DEFAULT
) -> Path:
    """The folder of a synthetic corpus under ``cache``. The first call makes it, and later calls use it again.

    If two processes call at the same time, both make the corpus, one of them moves it into place, and both use that.
    """
    shape, named = _shape(name, alignment, samples), process_named(process)
    facts = (named.constants, shape.dims, shape.unaligned, shape.words, shape.blocks, CARD_VERSION)
    version = f"v{GENERATOR_VERSION}-{hashlib.sha256(repr(facts).encode()).hexdigest()[:6]}"
    kind = "synthetic" if named.base == DEFAULT else f"{named.base}-synthetic"
    count = samples or named.samples or shape.samples
    folder = cache / f"{name}-{alignment}-{kind}-{count}-seed{seed}-{version}"
    if (folder / CARD).exists():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=cache) as staging:
        raw, twin = make_corpus(name, alignment, samples, seed, process)
        made = Path(staging) / "corpus"
        write_corpus(raw, made, name, twin=twin)
        try:
            os.rename(made, folder)
        except OSError:
            if not (folder / CARD).exists():
                raise
    return folder


def make_corpus(
    name: str, alignment: str, samples: int | None = None, seed: int = 0, process: str = DEFAULT
) -> tuple[RawCorpus, TwinFacts]:
    """A corpus shaped as ``name``, and what can be reached on the test split of `official`.

    The same seed gives the same labels, evidence and text lengths to the aligned and the unaligned corpus.
    """
    shape = _shape(name, alignment, samples)
    named = process_named(process)
    constants = named.constants
    task, rule = lookup(name).task, shape.rule()
    asked = samples or named.samples or shape.samples
    counts = _scaled(np.array([block.samples for block in shape.blocks]), asked)
    n = int(counts.sum())

    def random(purpose: str) -> np.random.Generator:
        return np.random.default_rng([seed, name_key(name), name_key(purpose)])

    latent, evidence, contradicting = draw_evidence(constants, n, rule.latent_dims, random("evidence"))
    target = rule.labels(latent)
    if task.kind == "multi_label" and target.ndim == 1:  # IEMOCAP's four binaries, of which exactly one is 1
        target = np.eye(task.outputs, dtype=np.int64)[target]
    block = np.repeat(np.arange(len(counts)), counts)
    group, within = _groups(shape, counts, random("groups"))
    prefix = "session" if shape.folds else "part"
    groups = [f"{prefix}{b + 1}_{g:04d}" for b, g in zip(block, group, strict=True)]

    official = np.array([SPLITS.index(b.split) for b in shape.blocks], np.int8)[block]
    partitions = {"official": official}
    for left_out in range(len(counts)) if shape.folds else ():
        fold = np.where(block == left_out, SPLITS.index("test"), SPLITS.index("train")).astype(np.int8)
        partitions[f"fold-{left_out + 1}"] = carve_valid(fold, groups)
    test = official == SPLITS.index("test")
    of_test = (constants, task, rule, evidence.rows(test), target[test])

    aligned = alignment == "aligned"
    longest = (shape.aligned,) * 3 if aligned else shape.unaligned
    lengths = draw_lengths(n, shape.words, longest, aligned, random("lengths"))
    features: dict[str, Sequences] = {}
    means = []
    for m, modality in enumerate(MODALITIES):
        stream = random(f"{alignment} {modality}")
        carries = draw_carrying(constants, lengths[m], stream)
        coordinates = evidence.coordinates(constants, m)
        values = draw_frames(constants, coordinates, lengths[m], group, carries, shape.dims[m], stream)
        features[modality] = _sequences(values, lengths[m])
        means.append(pooled(values, lengths[m]))

    raw = RawCorpus(
        format="synthetic",
        source=Path("synthetic"),
        task=task,
        alignment="aligned" if aligned else "unaligned",
        features=features,
        feature_set={m: f"synthetic {width}" for m, width in zip(MODALITIES, shape.dims, strict=True)},
        target=target,
        ids=[f"{group}_{number:03d}" for group, number in zip(groups, within, strict=True)],
        partitions=partitions,
        groups=groups,
        columns={"contradicts": [("", *MODALITIES)[who + 1] for who in contradicting]},
        notes=[
            f"Synthetic: nothing in it was measured. Generator version {GENERATOR_VERSION}, seed {seed}.",
            f"Generating process: {json.dumps(asdict(constants))}",
            "The bayes scores are those of the best decision from the evidence in the frames, on the test split of "
            "partition official; a model sees the frames only, so no model is better but by chance. The ceiling is "
            "the same for who knows which modality contradicts and masks it; linear is ridge or logistic regression "
            "on mean features.",
        ],
    )
    facts = TwinFacts(
        process=named.name,
        bayes=bayes_scores(*of_test),
        ceiling=filtered_scores(*of_test, contradicting[test]),
        linear=linear_score(task, np.hstack(means), target, official),
    )
    return raw, facts


def _shape(name: str, alignment: str, samples: int | None) -> Shape:
    refuse_no_twin(name)
    if alignment not in ("aligned", "unaligned"):
        raise Refusal(name, "alignment aligned or unaligned for a synthetic corpus", alignment, "choose one of the two")
    if samples is not None and samples < SMALLEST:
        raise Refusal(name, f"{SMALLEST} synthetic samples or more", str(samples), "ask for more samples")
    return SHAPES[name]


def _scaled(counts: NDArray[np.int64], samples: int) -> NDArray[np.int64]:
    """Whole numbers in the proportions of ``counts`` with the sum ``samples`` (largest remainder method)."""
    exact = counts * samples / counts.sum()
    whole = np.floor(exact).astype(np.int64)
    whole[np.argsort(whole - exact, kind="stable")[: samples - whole.sum()]] += 1
    return whole


def _groups(
    shape: Shape, counts: NDArray[np.int64], random: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(N,) the number of each sample's video or dialogue, counted through all blocks, and its number within it."""
    parts, first = [], 0
    for block, count in zip(shape.blocks, counts, strict=True):
        groups = max(round(block.groups * count / block.samples), 1)
        drawn = np.concatenate([np.arange(groups), random.integers(0, groups, count - groups)])
        parts.append(first + np.sort(drawn))
        first += groups
    group = np.concatenate(parts)
    starts = np.searchsorted(group, group)
    return group, np.arange(len(group)) - starts


def _sequences(values: NDArray[np.float32], lengths: NDArray[np.int64]) -> LoadedSequences:
    ends = np.cumsum(lengths)
    return LoadedSequences(lambda i: values[ends[i] - lengths[i] : ends[i]], lengths.tolist(), values.shape[1])

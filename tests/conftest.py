"""What several test files share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from mer_lightning.batch import Batch
from mer_lightning.data.raw import PaddedSequences, RawCorpus
from mer_lightning.data.store import write_corpus
from mer_lightning.tasks import MultiLabel, Ratings, Regression, SingleLabel, Task

REAL_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
DIMS = {"text": 12, "audio": 5, "vision": 7}
TASKS: dict[str, Task] = {
    "regression": Regression(),
    "single_label": SingleLabel(("happy", "sad", "neutral", "angry")),
    "multi_label": MultiLabel(("happy", "sad", "anger")),
    "ratings": Ratings(("valence", "arousal"), (1.0, -50.0), (7.0, 50.0)),
}


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The cache of the user is neither read nor written: what another program left there changes no test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def real_data() -> Path:
    if not REAL_DATA.is_dir():
        pytest.skip(f"real features are not there: {REAL_DATA.name}/ beside the project")
    return REAL_DATA


def make_batch(alignment: str = "unaligned", task: Task | None = None, samples: int = 6, seed: int = 0) -> Batch:
    """Random features with true lengths; every step beyond a length is zero."""
    draw = torch.Generator().manual_seed(seed)
    longest = {"aligned": (6, 6, 6), "unaligned": (6, 9, 11), "utterance": (1, 1, 1)}[alignment]
    shared = torch.randint(1, 7, (samples,), generator=draw)
    features, lengths = {}, {}
    for (m, dim), steps in zip(DIMS.items(), longest, strict=True):
        own = torch.randint(1, steps + 1, (samples,), generator=draw)
        lengths[m] = shared if alignment == "aligned" else own
        lengths[m][0] = steps
        values = torch.randn(samples, steps, dim, generator=draw)
        features[m] = values * (torch.arange(steps) < lengths[m][:, None])[..., None]
    target = None
    if task is not None:
        if task.kind == "regression":
            target = torch.randn(samples, generator=draw)
        elif task.kind == "single_label":
            target = torch.randint(0, task.outputs, (samples,), generator=draw)
        elif isinstance(task, Ratings):
            low, high = torch.tensor(task.low), torch.tensor(task.high)
            target = low + (high - low) * torch.rand(samples, task.outputs, generator=draw)
        else:
            target = torch.randint(0, 2, (samples, task.outputs), generator=draw).float()
    return Batch(features, lengths, torch.ones(samples, 3, dtype=torch.bool), target, torch.arange(samples))


def make_raw(task: Task | None = None, alignment: str = "unaligned", samples: int = 60, seed: int = 0) -> RawCorpus:
    """60 samples, 12 videos; text carries the label."""
    task = task or Regression()
    rng = np.random.default_rng(seed)
    longest = {"aligned": (6, 6, 6), "unaligned": (6, 9, 11), "utterance": (1, 1, 1)}[alignment]
    shared = rng.integers(1, 7, samples)
    if task.kind == "regression":
        target = np.round(rng.uniform(-3, 3, samples), 1)
        evidence = target
    elif task.kind == "single_label":
        target = rng.integers(0, task.outputs, samples)
        target[: task.outputs] = np.arange(task.outputs)
        evidence = target - target.mean()
    elif isinstance(task, Ratings):
        target = rng.uniform(task.low, task.high, (samples, task.outputs))
        evidence = target[:, 0] - target[:, 0].mean()
    else:
        target = rng.integers(0, 2, (samples, task.outputs))
        evidence = target[:, 0] * 2.0 - 1
    features = {}
    for (m, dim), steps in zip(DIMS.items(), longest, strict=True):
        lengths = shared if alignment == "aligned" else rng.integers(1, steps + 1, samples)
        values = rng.normal(size=(samples, steps, dim)).astype(np.float32)
        values[:, :, 0] += evidence[:, None]
        features[m] = PaddedSequences(values, np.minimum(lengths, steps))
    split = np.array([0, 0, 0, 0, 1, 2] * (samples // 6) + [0] * (samples % 6), dtype=np.int8)
    return RawCorpus(
        format="test",
        source=Path("tiny"),
        task=task,
        alignment=alignment,  # type: ignore[arg-type]
        features=features,
        feature_set={m: f"random {dim}" for m, dim in DIMS.items()},
        target=target,
        ids=[f"video{i // 5}$_${i}" for i in range(samples)],
        partitions={"official": split},
        groups=[f"video{i // 5}" for i in range(samples)],
    )


@pytest.fixture
def tiny_raw():
    """The function that makes a small RawCorpus."""
    return make_raw


@pytest.fixture
def tiny_corpus(tiny_raw, tmp_path):
    """A function that writes such a corpus and gives its folder."""

    def make(task: Task | None = None, alignment: str = "unaligned", samples: int = 60, seed: int = 0) -> Path:
        kind = (task or Regression()).kind
        folder = tmp_path / f"{kind}-{alignment}"
        write_corpus(tiny_raw(task, alignment, samples, seed), folder, kind)
        return folder

    return make

"""What several test files share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mer_lightning.contract import DIMS
from mer_lightning.data.raw import PaddedSequences, RawCorpus
from mer_lightning.data.store import write_corpus
from mer_lightning.tasks import Ratings, Regression, Task

REAL_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


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

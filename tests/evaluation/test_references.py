"""The linear model beside every score: right answers, of the right split, kept by content, and never for frames."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from mer_lightning.contract import TASKS
from mer_lightning.data import linear
from mer_lightning.data.corpus import Corpus, open_corpus
from mer_lightning.data.store import write_corpus
from mer_lightning.evaluation import references as module
from mer_lightning.evaluation.floors import best_floor, floors
from mer_lightning.evaluation.metrics import evaluate
from mer_lightning.evaluation.protocols import Protocol, freeze
from mer_lightning.evaluation.references import References, linear_model, references
from mer_lightning.modalities import COMBINATIONS
from mer_lightning.tasks import Ratings, Regression, Task
from tests.conftest import make_raw


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "mer_lightning" / "linear"


def corpus(folder: Path, task: Task | None = None, samples: int = 120, **changes: object) -> Corpus:
    write_corpus(replace(make_raw(task, samples=samples), **changes), folder, "tiny", allow_missing_labels=True)
    return open_corpus(folder)


def of_test(here: Corpus, *names: str) -> References:
    split = here.split("official", "test")
    return references(here.task, here, "official", "test", freeze(Protocol(names), split))


def test_penalties_are_those_of_ridge_regression():
    draw = np.random.default_rng(0)
    for samples, width in ((80, 5), (20, 50)):
        features, target = draw.normal(size=(samples, width)) + 3, draw.normal(size=samples) - 1
        lines = linear._ridge(features, target)
        for penalty, (weight, bias) in zip(linear._RIDGE_PENALTIES, lines, strict=True):
            peer = Ridge(alpha=penalty).fit(features, target)
            np.testing.assert_allclose(weight[:, 0], peer.coef_, atol=1e-8)
            assert bias[0] == pytest.approx(peer.intercept_)


@pytest.mark.parametrize("kind", TASKS)
def test_it_beats_the_constant_where_a_mean_feature_tells_the_label(kind, tmp_path):
    task = TASKS[kind]
    here = corpus(tmp_path / "corpus", task, samples=240)
    found, target = of_test(here, "t", "tav"), here.split("official", "test").target
    metric, direction = task.score
    floor = found.floor(task, target)
    constants = floors(task, here.split("official", "train").target, target)
    assert floor == pytest.approx(best_floor(task, constants), nan_ok=True)
    for k in range(2):
        score = found.linear_scores(task, k, target)
        assert score == pytest.approx(evaluate(task, found.linear[k], target), nan_ok=True)
        assert (score[metric] < floor[metric]) if direction == "min" else (score[metric] > floor[metric])


def test_each_sample_is_predicted_by_the_model_of_what_is_shown(tmp_path):
    here = corpus(tmp_path / "corpus")
    split = here.split("official", "test")
    frozen = freeze(Protocol(["fixed-7", "rate-cpm-0.5", "rmfm_same-0.5"]), split)
    found = references(here.task, here, "official", "test", frozen).linear
    of_combination = dict(zip(COMBINATIONS, found, strict=False))
    for sample, present in enumerate(frozen.present[7].tolist()):
        shown = "".join(letter for letter, is_shown in zip("tav", present, strict=True) if is_shown)
        assert found[7, sample] == of_combination[shown][sample]
    assert len(frozen.present[7].unique(dim=0)) > 3
    assert found[8].isnan().all(), "frames are masked: there is none"
    assert References({}, found).linear_scores(here.task, 8, split.target) == {}


def test_the_test_split_changes_no_model_and_validation_chooses_the_penalty(tmp_path):
    raw = make_raw(samples=120)
    _, valid, test = (raw.partitions["official"] == number for number in range(3))
    weights = []
    for number, changed in enumerate((np.zeros_like(test), test, valid)):
        target = np.where(changed, -raw.target, raw.target)
        here = corpus(tmp_path / str(number), target=target)
        weights.append(linear_model(here.task, here, "official", "t").weight)
    np.testing.assert_array_equal(weights[0], weights[1])
    assert np.abs(weights[2]).max() < np.abs(weights[0]).max() / 2, "turned around, the smallest weights are best"


def test_a_model_is_kept_by_content_and_a_damaged_one_is_made_again(tmp_path, own_cache, monkeypatch):
    here = corpus(tmp_path / "corpus")
    first = of_test(here, "tav").linear
    (kept,) = own_cache.iterdir()

    def fail(*_: object) -> None:
        raise AssertionError("fitted again")

    with monkeypatch.context() as patch:
        patch.setattr(module, "fitted", fail)
        assert torch.equal(of_test(here, "tav").linear, first)
        for damage in (b"", b"not a tensor", kept.read_bytes()[:-8]):
            kept.write_bytes(damage)
            with pytest.raises(AssertionError, match="fitted again"):
                of_test(here, "tav")
    assert torch.equal(of_test(here, "tav").linear, first)
    of_test(corpus(tmp_path / "other", samples=121), "tav")
    of_test(here, "t")
    assert len(list(own_cache.iterdir())) == 3


def test_what_a_sample_lacks_is_as_on_average(tmp_path):
    raw = make_raw(samples=120)
    text = raw.features["text"]
    text.lengths[np.arange(120) % 5 == 0] = 0
    write_corpus(raw, tmp_path / "gaps", "gaps")
    gaps = open_corpus(tmp_path / "gaps")
    split = gaps.split("official", "test")
    lacking = split.lengths["text"] == 0
    assert 0 < int(lacking.sum()) < len(split)
    model = linear_model(gaps.task, gaps, "official", "t")
    logits = of_test(gaps, "t").linear[0, :, 0]
    np.testing.assert_allclose(logits[lacking], model.bias[0], rtol=1e-6)
    assert logits[~lacking].std() > 0.1


def test_missing_ratings_are_no_labels(tmp_path):
    task = Ratings(("valence", "arousal"), (1.0, -50.0), (7.0, 50.0))
    target = make_raw(task, samples=240).target.copy()
    target[::2, 1] = np.nan
    here = corpus(tmp_path / "corpus", task, samples=240, target=target)
    found, truth = of_test(here, "t"), here.split("official", "test").target
    assert found.linear_scores(task, 0, truth)["valence_mae"] < found.floor(task, truth)["valence_mae"] / 2
    assert found.linear.isfinite().all()


def test_splits_are_joined_each_beside_its_own_constants():
    task = Regression()
    one = References({"train mean": torch.zeros(2, 1), "always positive": torch.ones(2, 1)}, torch.zeros(1, 2, 1))
    two = References({"train mean": torch.ones(3, 1)}, torch.ones(1, 3, 1))
    both = References.joined([one, two])
    assert both.constants["train mean"].flatten().tolist() == [0, 0, 1, 1, 1]
    assert list(both.constants) == ["train mean"]
    assert both.floor(task, torch.zeros(5))["mae"] == pytest.approx(0.6)
    assert both.linear.flatten().tolist() == [0, 0, 1, 1, 1]
    assert References.joined([one, References({"train mean": torch.ones(3, 1)})]).linear is None


def test_a_large_split_is_read_at_even_distances(tmp_path, monkeypatch):
    here = corpus(tmp_path / "corpus", samples=240)
    train = here.split("official", "train")
    monkeypatch.setattr(module, "_ENOUGH", len(train) // 2)
    features, labels = module._evenly_spaced(train, "ta")
    assert len(labels) == len(train) // 2 + len(train) % 2
    assert (labels == train.target[::2].numpy()).all()
    assert features.shape == (len(labels), here.dims["text"] + here.dims["audio"])
    assert of_test(here, "ta").linear.isfinite().all()

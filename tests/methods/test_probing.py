"""What probes are given: the vectors or codes of whole splits, by the method as it is evaluated."""

from __future__ import annotations

import pytest
import torch

from mer_lightning.backbones.early import Early
from mer_lightning.contract import DIMS, TASKS
from mer_lightning.data.corpus import open_corpus
from mer_lightning.data.store import write_corpus
from mer_lightning.evaluation.probes import probe
from mer_lightning.methods import probing
from mer_lightning.methods.supervised import Supervised
from tests.data.test_corpus import absent


def make(kind: str = "regression") -> Supervised:
    torch.manual_seed(0)
    return Supervised(DIMS, TASKS[kind].card(), Early)


@pytest.mark.parametrize("kind", TASKS)
def test_vectors_of_a_method_without_codes(kind: str, tiny_corpus) -> None:
    corpus, method = open_corpus(tiny_corpus(task=TASKS[kind])), make(kind)
    split = corpus.split("official", "test")
    found = probing.probes_of(method, corpus.split("official", "train"), split)
    assert not method.training
    assert list(found) == ["vectors"]
    (given,) = probing._representations(method, split).values()
    batch = method.inputs(split.batch(torch.arange(len(split))))
    with torch.no_grad():
        vectors = method.backbone.encode(batch).vectors
    for m in DIMS:
        assert torch.equal(given.codes[m], vectors[m])
    outputs = TASKS[kind].outputs
    assert given.target.shape == (len(split), outputs)
    if kind == "single_label":
        assert given.target.argmax(1).tolist() == batch.target.tolist()
        assert given.target.sum(1).eq(1).all()
    fitted = probing._representations(method, corpus.split("official", "train"))["vectors"]
    assert found["vectors"] == probe(fitted, given)


def test_a_modality_that_nobody_has_is_left_out(tiny_raw, tmp_path) -> None:
    write_corpus(absent(tiny_raw(), "audio", range(60)), tmp_path / "corpus", "corpus")
    split = open_corpus(tmp_path / "corpus").split("official", "train")
    (given,) = probing._representations(make().eval(), split).values()
    assert list(given.codes) == list(given.present) == ["text", "vision"]


def test_of_many_samples_evenly_spaced_ones(tiny_corpus) -> None:
    split = open_corpus(tiny_corpus()).split("official", "train")
    assert len(split) == 40
    for most, every in ((40, 1), (39, 2), (20, 2), (19, 3)):
        index = torch.cat([batch.index for batch, _ in probing.encoded_split(make(), split, most, 8)])
        assert index.tolist() == list(range(0, 40, every))

"""Named processes: what they are for, constants of one's own, ceilings and linear floors, and how results name them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from mer_lightning.cli import main
from mer_lightning.data.catalogue import lookup
from mer_lightning.data.corpus import open_corpus, read_card
from mer_lightning.data.datamodule import MERData
from mer_lightning.data.linear import linear_score, pooled
from mer_lightning.data.raw import SPLITS
from mer_lightning.data.synthetic.bayes import bayes_scores, filtered_scores
from mer_lightning.data.synthetic.named import process_named
from mer_lightning.data.synthetic.process import Process, draw_evidence
from mer_lightning.data.synthetic.twins import SHAPES, make_corpus, synthetic_corpus
from mer_lightning.errors import Refusal
from mer_lightning.tasks import MultiLabel, Regression, SingleLabel

MOSI = (lookup("mosi").task, SHAPES["mosi"].rule())
MANY = 8000


def drawn(process: str | Process, samples: int = MANY):
    """(constants, evidence, labels, who contradicts) of a MOSI-shaped corpus."""
    constants = process_named(process).constants if isinstance(process, str) else process
    latent, evidence, contradicting = draw_evidence(constants, samples, 1, np.random.default_rng(0))
    return constants, evidence, MOSI[1].labels(latent), contradicting


def best(process: str) -> dict[str, float]:
    """{combination: best possible MAE}"""
    constants, evidence, labels, _ = drawn(process)
    return {name: scores["mae"] for name, scores in bayes_scores(constants, *MOSI, evidence, labels).items()}


# What the processes are for


def test_the_default_is_what_it_always_was() -> None:
    """Numbers of the generator before processes had names; another machine may differ in last bits."""
    raw, twin = make_corpus("mosi", "aligned", samples=150, seed=3)
    assert twin.process == "default"
    assert raw.target[:6] == pytest.approx([-2.0, -0.2, -0.2, 2.6, 0.8, -1.0])
    values = raw.features["audio"].packed(0, 150)
    assert float(np.abs(values).mean()) == pytest.approx(1.2081308, abs=1e-6)
    assert raw.columns["contradicts"][:12] == ["", "", "", "", "", "", "", "", "", "vision", "", ""]


def test_contradiction_is_frequent_and_clearly_announced() -> None:
    named = process_named("contradiction")
    assert (named.constants.contradicting, named.constants.cue, named.samples) == (0.30, 3.0, 5136)
    _, evidence, _, contradicting = drawn("contradiction")
    here = contradicting >= 0
    assert here.mean() == pytest.approx(0.30, abs=0.015)
    cue = evidence.cue[here]
    assert (cue.argmax(1) == contradicting[here]).mean() > 0.95  # the cue alone tells which one


def test_redundant_modalities_stand_in_for_each_other_and_complementary_ones_do_not() -> None:
    redundant, complementary = best("redundant"), best("complementary")
    for alone in "tav":
        assert redundant[alone] < 0.75
        assert complementary[alone] > 1.0
    assert complementary["tav"] < 0.55 < min(complementary[pair] for pair in ("ta", "tv", "av")) - 0.2
    assert (drawn("redundant")[3] == -1).all()
    assert (drawn("complementary")[3] == -1).all()


# Ceilings


def test_the_ceiling_is_the_best_possible_where_nothing_contradicts() -> None:
    constants, evidence, labels, contradicting = drawn("redundant", 500)
    ceiling = filtered_scores(constants, *MOSI, evidence, labels, contradicting)
    assert ceiling == bayes_scores(constants, *MOSI, evidence, labels)["tav"]


def test_the_ceiling_masks_what_contradicts_and_nothing_else() -> None:
    """Sample by sample: what is masked cannot change it, and the rest is judged as if nobody contradicted."""
    constants, evidence, labels, contradicting = drawn("default", 600)
    ceiling = filtered_scores(constants, *MOSI, evidence, labels, contradicting)
    of_m = {m: contradicting == m for m in range(3)}
    for m, here in of_m.items():
        evidence.shared[here, m], evidence.private[here, m], evidence.cue[here, m] = 7.0, -7.0, 9.0
    assert filtered_scores(constants, *MOSI, evidence, labels, contradicting) == ceiling
    errors = 0.0
    nobody = Process(contradicting=0.0)
    for who, combination in ((-1, "tav"), (0, "av"), (1, "tv"), (2, "ta")):
        here = contradicting == who
        score = bayes_scores(nobody, *MOSI, evidence.rows(here), labels[here])[combination]["mae"]
        errors += score * here.sum()
    assert ceiling["mae"] == pytest.approx(errors / len(labels))


def test_what_knowing_is_worth_depends_on_how_clearly_it_is_announced() -> None:
    """A weak cue: masking what one is told to mask gains. A clear one: turning it around beats masking it."""

    def gain(process: str) -> float:
        constants, evidence, labels, contradicting = drawn(process)
        told = filtered_scores(constants, *MOSI, evidence, labels, contradicting)["mae"]
        return bayes_scores(constants, *MOSI, evidence, labels)["tav"]["mae"] - told

    assert gain("default,contradicting=0.3,cue=0") > gain("default") + 0.02 > 0.02
    assert gain("contradiction") < 0


# The linear floor


def test_pooled_is_a_mean_of_each_sample() -> None:
    values = np.arange(12, dtype=np.float32).reshape(6, 2)
    assert pooled(values, np.array([1, 3, 2])).tolist() == [[0, 1], [4, 5], [9, 10]]


@pytest.mark.parametrize("task", [Regression(), SingleLabel(("a", "b", "c")), MultiLabel(("a", "b"))])
def test_the_linear_score_is_of_the_test_rows_alone(task) -> None:
    """Labels that one direction carries, except that those of the test rows are shuffled in part."""
    random = np.random.default_rng(0)
    features = random.normal(size=(400, 5)) * [1, 10, 1, 1, 0]  # one is constant
    partition = np.repeat([0, 1, 2], [250, 50, 100]).astype(np.int8)
    graded = features[:, 1] / 10
    target = {
        "regression": graded,
        "single_label": np.digitize(graded, [-0.5, 0.5]),
        "multi_label": np.column_stack([graded > 0, graded < 1]).astype(np.int64),
    }[task.kind]
    metric = task.score[0]
    clean = linear_score(task, features, target, partition)[metric]
    assert clean == pytest.approx(0, abs=0.02) if task.kind == "regression" else clean > 0.9
    broken = target.copy()
    broken[-50:] = random.permutation(broken[-50:])
    found = linear_score(task, features, broken, partition)[metric]
    assert abs(found - clean) > 0.05
    if task.kind == "regression":
        assert found == pytest.approx(np.abs(broken - target)[-100:].mean(), abs=0.02)


def test_the_card_holds_what_a_twin_can_show(tmp_path: Path) -> None:
    card = read_card(synthetic_corpus("iemocap4", "aligned", tmp_path, samples=600, process="contradiction"))
    assert card.process == "contradiction"
    assert set(card.linear) == {"wf1"}
    assert 0.3 < card.linear["wf1"] < card.ceiling["wf1"] < 1
    assert set(card.ceiling) == set(card.bayes["tav"])


def test_the_linear_score_is_above_the_best_constants() -> None:
    raw, twin = make_corpus("mosei_emotions", "aligned", samples=400)
    test = raw.partitions["official"] == SPLITS.index("test")
    always = np.ones_like(raw.target[test]) * (raw.target.mean(0) > 0.5)
    assert twin.linear["micro_f1"] > f1_score(raw.target[test], always, average="micro")


# Names


def test_constants_of_ones_own_have_one_name() -> None:
    assert process_named("default, cue = 2, contradicting=.3").name == "default,contradicting=0.3,cue=2.0"
    assert process_named("default,contradicting=.15").name == "default"  # changes nothing
    assert process_named("redundant,private=0.1:0.02:0").constants.private == (0.1, 0.02, 0.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("contradicton", "did you mean contradiction"),
        ("default,cues=1", "did you mean cue"),
        ("default,cue=big", "a number; found 'big'"),
        ("default,private=0.1", "three numbers; found '0.1'; write private=0.2:0.13:0.09"),
        ("default,shared=0.9", "shares of at most 1 together"),
        ("default,contradicting=1.5", "a share, 0 to 1"),
        ("default,shared_noise=0:1:1", "numbers above 0"),
        ("default,contradicting_odds=1:1:1", "three shares with the sum 1"),
    ],
)
def test_what_is_no_process_is_refused(text: str, message: str) -> None:
    with pytest.raises(Refusal, match=message):
        process_named(text)


def test_results_name_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setenv("MER_DATA", str(tmp_path))
    data = MERData(synthetic=True, samples=60, process="contradiction,cue=2")
    assert data.corpus.card.label == "mosi-aligned-contradiction,cue=2.0 (synthetic)"
    assert MERData(synthetic=True, samples=60).corpus.card.label == "mosi-aligned (synthetic)"
    given = ["data", "synthesize", "mosi", "--process", "redundant", "--samples", "60", "-o", str(tmp_path / "mine")]
    assert main(given) == 0
    assert "mosi-aligned-redundant (synthetic): 60 samples" in capsys.readouterr().out
    mine = open_corpus(tmp_path / "mine")
    cached = MERData(synthetic=True, samples=60, process="redundant").corpus
    assert mine.card == cached.card
    assert torch.equal(mine.tensors["text.values"], cached.tensors["text.values"])


def test_a_process_is_of_twins_only() -> None:
    with pytest.raises(Refusal, match=r"add --data\.synthetic true"):
        MERData(corpus="mosi", process="contradiction")

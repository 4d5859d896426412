"""Predictions of other systems: scored as runs are, and nothing is dropped in silence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from mer_lightning.cli import main
from mer_lightning.contract import TASKS
from mer_lightning.data.corpus import open_corpus
from mer_lightning.data.store import write_corpus
from mer_lightning.evaluation.metrics import evaluate
from mer_lightning.tasks import SingleLabel
from tests.conftest import make_raw

CLASSES = ("a", "b", "c")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpora") / "three"
    write_corpus(make_raw(SingleLabel(CLASSES), samples=120), folder, "three")
    return folder


def answers(corpus: Path) -> pd.DataFrame:
    """Of the test split in another order: every third one is wrong."""
    split = open_corpus(corpus).split("official", "test")
    said = [(target + (row % 3 == 0)) % 3 for row, target in enumerate(split.target.tolist())]
    return pd.DataFrame({"id": split.ids, "prediction": [CLASSES[number] for number in said]}).iloc[::-1]


def score(table: pd.DataFrame, corpus: Path, tmp_path: Path, *more: str) -> tuple[int, Path]:
    path, folder = tmp_path / "answers.csv", tmp_path / "scored"
    table.to_csv(path, index=False)
    code = main(["score", str(path), "--corpus", str(corpus), "--name", "gpt-4.1", "--output", str(folder), *more])
    return code, folder


def value(folder: Path, metric: str, condition: str = "tav", seed: int = 0, column: str = "value") -> float:
    rows = pd.read_csv(folder / f"seed-{seed}" / "results.csv").set_index(["condition", "metric"])
    return rows.loc[(condition, metric), column]


def test_answers_are_scored_beside_the_constant_and_the_linear_model(corpus, tmp_path, capsys):
    code, folder = score(answers(corpus), corpus, tmp_path)
    assert code == 0
    samples = len(answers(corpus))
    assert value(folder, "wa") == pytest.approx(1 - np.ceil(samples / 3) / samples, abs=1e-5)
    assert 0.1 < value(folder, "wa", column="floor") < value(folder, "wa", column="linear") < 1
    shown = " ".join(capsys.readouterr().out.split())
    assert "gpt-4.1 (not ours), seed 0" in shown
    assert "beside the linear model under tav (higher is better)" in shown


def test_it_stands_in_one_table_with_runs_and_is_called_not_ours(corpus, tmp_path):
    fit = ["fit", "--model", "supervised", "--model.backbone", "early", "--data.corpus", str(corpus)]
    assert main([*fit, "--trainer.max_epochs", "1", "--run_dir", str(tmp_path / "run")]) == 0
    table = answers(corpus)
    _, folder = score(pd.concat([table.assign(seed=seed) for seed in (1, 2)]), corpus, tmp_path)
    report = ["report", str(tmp_path / "run"), str(folder), "--output", str(tmp_path / "report")]
    assert main([*report, "--baseline", "supervised"]) == 0
    text = (tmp_path / "report" / "report.md").read_text()
    assert text.count("\n## ") == 1
    (row,) = [line for line in text.split("### WA")[1].split("###")[0].splitlines() if "(not ours)" in line]
    cells = [cell.strip() for cell in row.strip("| ").split("|")]
    assert cells[0] == "gpt-4.1 (not ours)"
    assert [cell for cell in cells[1:] if cell] == [f"{value(folder, 'wa', seed=1):.3f}"[1:] + "±.000"]
    assert "unknown" in text
    assert "### Differences from supervised" in text


def test_what_is_missing_is_refused_until_one_says_what_it_counts_as(corpus, tmp_path, capsys):
    table = answers(corpus)
    table.iloc[0, 1] = ""
    some = table.iloc[:-2]
    assert score(some, corpus, tmp_path)[0] == 2
    line = capsys.readouterr().err
    assert "3 of 20 samples have no prediction" in line
    assert "--missing constant" in line
    code, folder = score(some, corpus, tmp_path, "--missing", "leave-out")
    assert code == 0
    assert value(folder, "wa", column="samples") == 17
    assert "3 of 20 samples have no prediction" in " ".join(capsys.readouterr().out.split())


def test_a_constant_answers_what_is_missing(corpus, tmp_path):
    here = open_corpus(corpus)
    most = int(here.split("official", "train").target.bincount().argmax())
    test = here.split("official", "test")
    right = answers(corpus).set_index("id")["prediction"].reindex(test.ids)
    right.iloc[:5] = CLASSES[most]
    _, folder = score(answers(corpus).iloc[:-5], corpus, tmp_path, "--missing", "constant")
    expected = np.mean([CLASSES[target] == said for target, said in zip(test.target.tolist(), right, strict=True)])
    assert value(folder, "wa") == pytest.approx(expected, abs=1e-5)


def test_extra_ids_are_said_and_an_id_twice_is_refused(corpus, tmp_path, capsys):
    table = answers(corpus)
    more = pd.concat([table, pd.DataFrame({"id": ["stranger"], "prediction": ["a"]})])
    code, folder = score(more, corpus, tmp_path)
    assert code == 0
    assert "1 ids are not in the test split of official and not scored: stranger" in " ".join(
        capsys.readouterr().out.split()
    )
    assert value(folder, "wa", column="samples") == len(table)
    assert score(pd.concat([table, table.iloc[:1]]), corpus, tmp_path / "..", "--missing", "constant")[0] == 2
    assert "each id once" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        ({"prediction": "d"}, "predictions among a, b, c"),
        ({"condition": "tva"}, "conditions among"),
        ({"seed": "x"}, "whole numbers in column 'seed'"),
        ({"probability a": 0.2, "probability b": 0.2}, "a column 'probability c'"),
        ({"probability a": 0.2, "probability b": 1.2, "probability c": 0.3}, "probabilities from 0 to 1"),
        ({"prediction": "a", "probability a": 0.2, "probability b": 0.5, "probability c": 0.3}, "that follow from"),
    ],
)
def test_what_cannot_be_read_is_refused(corpus, tmp_path, capsys, change, fragment):
    assert score(answers(corpus).assign(**change), corpus, tmp_path)[0] == 2
    assert fragment in capsys.readouterr().err
    assert not (tmp_path / "scored").exists()


@pytest.mark.parametrize("kind", TASKS)
def test_the_predictions_of_a_run_have_the_scores_of_the_run(kind, tmp_path):
    """What `fit` stored of its own run, read as somebody else's."""
    task = TASKS[kind]
    write_corpus(make_raw(task, samples=120), tmp_path / "corpus", "own")
    fit = ["fit", "--model", "supervised", "--model.backbone", "early", "--data.corpus", str(tmp_path / "corpus")]
    assert main([*fit, "--trainer.max_epochs", "1", "--run_dir", str(tmp_path / "run")]) == 0
    table = pd.read_parquet(tmp_path / "run" / "predictions.parquet")
    _, folder = score(table.drop(columns=[c for c in table if c.startswith("logit")]), tmp_path / "corpus", tmp_path)
    own = pd.read_csv(tmp_path / "run" / "results.csv")
    other = pd.read_csv(folder / "seed-0" / "results.csv")
    same = ["condition", "metric", "floor", "linear", "corpus_sha256", "protocol", "mask_hash", "samples"]
    pd.testing.assert_frame_equal(own[same], other[same])
    np.testing.assert_allclose(own["value"], other["value"], atol=2e-5)


def test_probabilities_alone_are_enough(corpus, tmp_path):
    table = answers(corpus)[["id"]]
    draw = np.random.default_rng(0).dirichlet(np.ones(3), len(table))
    _, folder = score(table.assign(**{f"probability {c}": draw[:, n] for n, c in enumerate(CLASSES)}), corpus, tmp_path)
    here = open_corpus(corpus).split("official", "test")
    order = [table["id"].tolist().index(name) for name in here.ids]
    expected = evaluate(SingleLabel(CLASSES), torch.tensor(draw[order]).log(), here.target)
    assert value(folder, "wf1") == pytest.approx(expected["wf1"], abs=1e-5)

"""Every fold as one result: pooled predictions, one row, the same after a kill."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from mer_lightning.cli import main
from mer_lightning.data.corpus import open_corpus
from mer_lightning.data.store import write_corpus
from mer_lightning.errors import Refusal
from mer_lightning.evaluation.metrics import evaluate
from mer_lightning.studies.folds import in_folds, several_partitions
from mer_lightning.studies.jobs import Job
from mer_lightning.studies.ledger import open_ledger
from mer_lightning.studies.pooled_folds import pool_done
from mer_lightning.tasks import SingleLabel
from tests.conftest import make_raw

FOLDS = 3


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three folds, and a partition that is none."""
    raw = make_raw(SingleLabel(("a", "b", "c")), samples=90)
    session = np.arange(90) // 5 % FOLDS
    for fold in range(FOLDS):
        part = np.where(session == fold, 2, 0).astype(np.int8)
        part[np.flatnonzero(part == 0)[::6]] = 1
        raw.partitions[f"fold-{fold + 1}"] = part
    raw.columns["speaker"] = [f"s{number}" for number in session]
    folder = tmp_path_factory.mktemp("corpora") / "folded"
    write_corpus(raw, folder, "folded")
    return folder


def job(corpus: Path, folder: Path, partition: str = "all", seed: int = 1) -> Job:
    arguments = ["--model", "supervised", "--model.backbone", "early", "--data.corpus", str(corpus)]
    arguments += ["--data.partition", partition, "--seed_everything", str(seed), "--trainer.max_epochs", "1"]
    return Job(folder, tuple(arguments), group="study")


@pytest.fixture(scope="module")
def study(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study") / "seed-1"
    (study,) = in_folds([job(corpus, folder)])
    for part in study.parts:
        part.run()
    pool_done([study])
    return folder


def test_each_fold_is_a_job_of_its_own(corpus, tmp_path):
    (study,) = in_folds([job(corpus, tmp_path / "x")])
    assert [part.folder for part in study.parts] == [tmp_path / "x" / "folds" / f"fold-{n}" for n in (1, 2, 3)]
    assert [part.arguments[-2:] for part in study.parts] == [("--data.partition", f"fold-{n}") for n in (1, 2, 3)]
    for asked in ("fold-3, fold-1", "[fold-3,fold-1]"):
        (some,) = in_folds([job(corpus, tmp_path / "x", asked)])
        assert [part.folder.name for part in some.parts] == ["fold-3", "fold-1"]
    single = job(corpus, tmp_path / "x", "fold-2")
    (alone,) = in_folds([single])
    assert alone.parts == (single,)
    assert not alone.pooled


def test_what_asks_for_several(tmp_path):
    (tmp_path / "a.yaml").write_text("data: {corpus: x, partition: all}")
    assert several_partitions(["--config", str(tmp_path / "a.yaml")])
    assert not several_partitions(["--config", str(tmp_path / "a.yaml"), "--data.partition=fold-1"])
    assert not several_partitions(["--data.bucket", "true"])
    assert several_partitions(["--print_config", "--data.partition", "[fold-1, fold-2]"])


@pytest.mark.parametrize("asked", ["fold-1,fold-9", "fold-1,fold-1"])
def test_folds_that_are_none_are_refused(corpus, tmp_path, asked):
    with pytest.raises(Refusal, match="official, fold-1, fold-2, fold-3"):
        in_folds([job(corpus, tmp_path / "x", asked)])


def test_the_score_is_that_of_all_predictions_together(study, corpus):
    parts = [pd.read_parquet(study / "folds" / f"fold-{n}" / "run" / "predictions.parquet") for n in (1, 2, 3)]
    complete = pd.concat([part[part["condition"] == "tav"] for part in parts])
    task = open_corpus(corpus).task
    logits = torch.tensor(complete[[f"logit {n}" for n in range(3)]].to_numpy())
    target = torch.tensor([task.classes.index(name) for name in complete["target"]])
    expected = evaluate(task, logits, target)
    rows = pd.read_csv(study / "run" / "results.csv").set_index(["condition", "metric"])
    of_folds = [pd.read_csv(study / "folds" / f"fold-{n}" / "run" / "results.csv") for n in (1, 2, 3)]
    for metric in ("wf1", "wa"):
        row = rows.loc[("tav", metric)]
        assert row["value"] == pytest.approx(expected[metric], abs=1e-5)
        single = pd.concat(of_folds).query(f"condition == 'tav' and metric == '{metric}'")["value"]
        assert row["fold_mean"] == pytest.approx(single.mean())
        assert row["fold_std"] == pytest.approx(single.std())
        # Folds of one size have the mean accuracy of all; no such law holds for F1.
        assert (row["value"] == pytest.approx(single.mean(), abs=1e-4)) == (metric == "wa")
    assert rows["samples"].unique().tolist() == [90]
    assert rows["folds"].unique().tolist() == [FOLDS]
    pooled = pd.read_parquet(study / "run" / "predictions.parquet")
    assert pooled.groupby("condition")["id"].nunique().unique().tolist() == [90]


def test_a_report_has_one_table_with_one_row(study, tmp_path, capsys):
    ledger = open_ledger([study.parent])
    assert [run.folder for run in ledger.runs] == [study / "run"]
    assert main(["report", str(study.parent), "--output", str(tmp_path / "report"), "--by", "speaker"]) == 0
    text = (tmp_path / "report" / "report.md").read_text()
    assert text.count("\n## ") == 1
    assert text.count("| supervised | .") == text.count("### ") - 1  # one row for each metric; groups have others
    assert "[." in text
    assert text.count("in brackets, mean ± deviation over folds") == 1
    assert "fold-1 + fold-2 + fold-3, pooled" in text


def test_a_study_that_was_killed_ends_with_the_same_table(study, corpus, tmp_path):
    """Only its first fold was over, and the pooled run was not there."""
    again = tmp_path / "seed-1"
    shutil.copytree(study, again)
    shutil.rmtree(again / "run")
    shutil.rmtree(again / "folds" / "fold-2")
    (again / "folds" / "fold-3" / "run" / "results.csv").unlink()
    (killed,) = in_folds([job(corpus, again)])
    pool_done([killed])
    assert not (again / "run").exists(), "nothing is pooled before all folds are over"
    assert [part.done for part in killed.parts] == [True, False, False]
    shutil.rmtree(again / "folds" / "fold-3")
    for part in killed.parts:
        part.run()
    pool_done([killed])
    first, second = (pd.read_csv(folder / "run" / "results.csv") for folder in (study, again))
    pd.testing.assert_frame_equal(first, second)


def test_fit_runs_and_shows_them(study, corpus, tmp_path, capsys):
    """What is done is not run again: only the table is made."""
    arguments = list(job(corpus, study).arguments)
    folder = tmp_path / "seed-1"
    shutil.copytree(study, folder)
    assert main(["fit", *arguments, "--run_dir", str(folder), "--workers", "1"]) == 0
    shown = capsys.readouterr().out
    assert "fold-1 + fold-2 + fold-3, pooled" in " ".join(shown.split())
    assert "mean ± deviation over folds" in shown


def test_folds_that_test_a_sample_twice_are_refused_before_any_runs(corpus, tmp_path):
    with pytest.raises(Refusal, match="test each sample once"):
        in_folds([job(corpus, tmp_path / "x", "fold-1,official")])

"""The report of a sweep keeps to validation; that of an ablation has the names of its parts and a forest plot."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from mer_lightning.cli import main
from mer_lightning.errors import Refusal
from mer_lightning.studies.ledger import open_ledger
from mer_lightning.studies.marks import MARK, Study, mark, places
from mer_lightning.studies.report.charts import forest_line
from mer_lightning.studies.report.findings import answers
from mer_lightning.studies.report.settings import Setting, settings_of
from mer_lightning.studies.report.trials_drawn import trial_figure
from tests.studies.report.reading import Read

QUICK = ["--model.backbone", "early", "--model.backbone.width", "8", "--data.synthetic", "true", "--data.samples", "90"]
QUICK += ["--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false", "--trainer.accelerator", "cpu"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run, from which others are made by hand."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MER_DATA", str(folder / "data"))
        given = ["fit", "--model", "supervised", *QUICK, "--data.corpus", "mosi", "--run_dir", str(folder / "run")]
        assert main(given) == 0
    return folder / "run"


def like(run: Path, folder: Path, lr: float, seed: int, validation: float, test: float, shift: float = 0.0) -> None:
    """A run with these options and scores; its predictions are moved by ``shift``."""
    shutil.copytree(run, folder)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["model"]["init_args"]["optimizer"]["init_args"]["lr"], config["seed_everything"] = lr, seed
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    results = pd.read_csv(folder / "results.csv", dtype={"seed": int})
    results.assign(seed=seed, value=test).to_csv(folder / "results.csv", index=False)
    log = pd.DataFrame({"epoch": [0, 1], "valid/score": [validation - 1, validation], "valid/mae": [9.0, -validation]})
    log.to_csv(folder / "logs" / "metrics.csv", index=False)
    predictions = pd.read_parquet(folder / "predictions.parquet")
    predictions["logit 0"] += shift
    predictions.to_parquet(folder / "predictions.parquet", index=False)


@pytest.fixture
def sweep(finished: Path, tmp_path: Path) -> Path:
    """Three trials of two runs; the second is best on validation, the third would be on the test split."""
    folder = tmp_path / "sweeps" / "rates"
    mark(folder, Study("sweep", "rates", "valid/score", True))
    for trial, (lr, validation, test) in enumerate([(0.1, -1.2, 1.234), (0.2, -1.0, 1.345), (0.3, -1.1, 0.0123)]):
        for seed in (1, 2):
            like(finished, folder / f"trial-{trial:04d}-{seed}" / "run", lr, seed, validation + seed / 100, test)
    return folder


def one(folder: Path) -> Setting:
    (setting,) = settings_of(open_ledger([folder]))
    return setting


def test_validation_chooses_and_only_the_winner_is_tested(sweep: Path, tmp_path: Path) -> None:
    assert main(["report", str(sweep), "--output", str(tmp_path / "out")]) == 0
    scores = pd.read_csv(tmp_path / "out" / "scores.csv")
    assert set(scores["label"]) == {"supervised (lr 0.2)"}
    for name in ("report.html", "report.md", "report.tex", "scores.csv"):
        text = (tmp_path / "out" / name).read_text()
        assert "1.345" in text
        assert ".012" not in text.replace(".0125", "")  # the best test score belongs to a loser
        assert "1.234" not in text
    rows = [line for line in (tmp_path / "out" / "report.md").read_text().splitlines() if " supervised | " in line]
    assert rows[:3] == [
        "| 1. supervised | -.985±.007 | 2 | 0.2 |",
        "| 2. supervised | -1.085±.007 | 2 | 0.3 |",
        "| 3. supervised | -1.185±.007 | 2 | 0.1 |",
    ]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<h1>6 runs of 3 trials on 1 corpus</h1>" in page
    (answer,) = answers(one(sweep), pd.DataFrame())
    assert answer == (
        "Sweep rates: of 3 trials, supervised (lr 0.2) has the best valid/score on validation, -.985. "
        "Test scores are shown for it alone."
    )
    assert answer in page


def test_trials_stand_in_the_order_of_their_validation_scores(sweep: Path) -> None:
    (trials,) = one(sweep).sweeps
    assert {label: trials.mean(label) for label in trials.trials} == pytest.approx(
        {"supervised (lr 0.2)": -0.985, "supervised (lr 0.3)": -1.085, "supervised (lr 0.1)": -1.185}
    )
    assert list(trials.trials) == ["supervised (lr 0.2)", "supervised (lr 0.3)", "supervised (lr 0.1)"]
    figure = trial_figure(trials)
    assert figure is not None
    (panel,) = figure.panels
    read = Read(panel)
    assert read.dots() == [pytest.approx((0.2, -0.985), abs=0.003)]
    assert sorted(read.dots("other")) == [
        pytest.approx((0.1, -1.185), abs=0.003),
        pytest.approx((0.3, -1.085), abs=0.003),
    ]


def test_a_sweep_may_choose_the_lowest_of_another_metric(sweep: Path) -> None:
    """Here the error of the trial with lr 0.2 is the lowest; and without a log nobody wins."""
    mark(sweep, Study("sweep", "rates", "valid/mae", False))
    (trials,) = one(sweep).sweeps
    assert trials.label == "supervised (lr 0.2)"
    assert trials.mean(trials.label) == pytest.approx(0.985)
    shutil.rmtree(sweep / "trial-0001-1" / "run" / "logs")
    (trials,) = one(sweep).sweeps
    assert trials.label != "supervised (lr 0.2)"
    assert np.isnan(trials.mean("supervised (lr 0.2)"))


def test_other_runs_stand_beside_the_winner(sweep: Path, finished: Path, tmp_path: Path) -> None:
    like(finished, tmp_path / "sweeps" / "own", 0.7, 1, -1.0, 1.5)
    assert sorted(one(tmp_path / "sweeps").contenders) == ["supervised (lr 0.2)", "supervised (lr 0.7)"]


def test_a_run_finds_its_study(sweep: Path, tmp_path: Path) -> None:
    run, other = sweep / "trial-0000-1" / "run", tmp_path / "elsewhere" / "run"
    found = places([run, other])
    assert set(found) == {run}
    assert found[run].study == Study("sweep", "rates", "valid/score", True)
    assert (found[run].folder, found[run].group) == (sweep, "trial-0000-1")
    for strange in ('{"kind": "party", "name": "x"}', "[]", "{", '{"kind": "sweep"}', '{"kind": "sweep", "name": 3}'):
        (sweep / MARK).write_text(strange)
        with pytest.raises(Refusal, match=MARK):
            places([run])


def test_an_ablation_has_the_names_of_its_parts(finished: Path, tmp_path: Path) -> None:
    """What is compared with comes first, whatever the folders are called, and is the baseline without being asked."""
    folder = tmp_path / "parts"
    mark(folder, Study("ablation", "parts"))
    variants = {"a part": (0.2, 1.1, 0.9), "full": (0.1, 1.0, 0.0), "noise": (0.3, 1.0, 0.0)}
    for variant, (lr, test, shift) in variants.items():
        for seed in (1, 2):
            like(finished, folder / variant / str(seed) / "run", lr, seed, -1.0, test, shift)
    shown = one(folder)
    assert shown.full == "parts, full"
    assert list(shown.contenders) == ["parts, full", "without a part", "without noise"]
    assert main(["report", str(folder), "--output", str(tmp_path / "out")]) == 0
    differences = pd.read_csv(tmp_path / "out" / "differences.csv").set_index(["label", "condition"])
    assert set(differences["baseline"]) == {"parts, full"}
    assert differences.loc[("without noise", "tav"), "difference"] == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<h1>6 runs of 3 variants on 1 corpus</h1>" in page
    assert "<h3>Differences from parts, full</h3>" in page
    assert page.count('class="dot sure"') + page.count('class="dot unsure"') == len(differences)


def test_a_line_of_a_forest_plot_is_sure_where_it_leaves_out_zero() -> None:
    scale = (-0.1, 0.1)
    assert 'class="line sure" d="M114.0 10H164.0"' in forest_line(0.03, 0.01, 0.06, scale)
    for low, high, kind in (
        (0.01, 0.06, "sure"),
        (-0.06, -0.01, "sure"),
        (0.0, 0.06, "unsure"),
        (-0.01, 0.06, "unsure"),
    ):
        assert f'class="dot {kind}"' in forest_line((low + high) / 2, low, high, scale)
    endless = forest_line(0.0, -np.inf, np.inf, scale)
    assert 'd="M4.0 10H204.0"' in endless  # to the ends of the scale, and no further
    assert 'cx="154.0"' in forest_line(0.05, 0.0, 0.1, scale)

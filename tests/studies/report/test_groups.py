"""Scores of groups of samples, and reports of runs that are legal and unusual."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from mer_lightning.cli import main
from mer_lightning.errors import Refusal
from mer_lightning.studies.comparing import Contender
from mer_lightning.studies.finished import Facts
from mer_lightning.studies.report.groups import ENOUGH, GAP, OTHERS, group_scores
from mer_lightning.tasks import SingleLabel
from tests.studies.report_fakes import FakeRun, predictions, setting

TASK = SingleLabel(("sad", "glad"))
N = 70
RNG = np.random.default_rng(0)
TRUTH = RNG.integers(0, 2, N)
SPEAKERS = np.array(["ann"] * 30 + ["bob"] * 30 + ["cat"] * 6 + ["dan"] * 4)


@dataclass(frozen=True)
class Spoken(FakeRun):
    def samples(self) -> pd.DataFrame:
        return pd.DataFrame({"id": [f"clip{i}" for i in range(N)], "speaker": SPEAKERS})[::-1]


def contender(seeds: int) -> tuple[Contender, list[np.ndarray]]:
    """Right for all of ann, for about half of the others; (contender, decisions of each seed)."""
    runs, decisions = [], []
    for _ in range(seeds):
        decision = np.where(SPEAKERS == "ann", TRUTH, RNG.integers(0, 2, N))
        logits = np.stack([-decision, decision], 1).tolist()
        table = predictions(np.array(TASK.classes)[TRUTH].tolist(), {"tv": logits, "t": logits, "v": logits})
        table["id"] = [f"clip{i}" for i in range(N)] * 3
        config = {"model": {"class_path": "mer_lightning.methods.supervised.Supervised"}}
        facts = Facts(config, TASK.card(), {}, [], {})
        runs.append(Spoken(Path("run"), facts, TASK, table))
        decisions.append(decision)
    return Contender(tuple(runs)), decisions


def test_each_group_the_worst_and_the_gap() -> None:
    mine, decisions = contender(seeds=2)
    rows = group_scores(setting({"a": mine}, {"wf1": {"a": {"tv": [0.5, 0.6]}}}), "speaker")
    assert rows["condition"].unique().tolist() == ["tv", "mean-3"]
    rows = rows[rows["condition"] == "tv"].set_index("group")
    assert list(rows.index) == ["ann", "bob", OTHERS.format(ENOUGH), f"{GAP}: ann minus bob"]
    assert rows["samples"].tolist() == [30, 30, 10, 60]
    expected = {}
    for name in ("ann", "bob"):
        here = name == SPEAKERS
        expected[name] = np.mean([f1_score(TRUTH[here], d[here], average="weighted") for d in decisions])
        assert rows.loc[name, "score"] == pytest.approx(expected[name])
        assert rows.loc[name, "low"] <= expected[name] <= rows.loc[name, "high"]
    gap = rows.iloc[-1]
    assert gap["score"] == pytest.approx(expected["ann"] - expected["bob"])
    assert 0 < gap["low"] < gap["score"] < gap["high"] < 1


def test_a_column_that_is_not_there_is_refused_with_those_that_are() -> None:
    mine, _ = contender(seeds=1)
    with pytest.raises(Refusal, match="a column of the samples of run: speaker; found 'sex'"):
        group_scores(setting({"a": mine}, {"wf1": {"a": {"tv": [0.5]}}}), "sex")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One modality, one class in the test split, one test sample, conditions without the complete input: all legal."""
    folder = tmp_path_factory.mktemp("unusual")
    rng = np.random.default_rng(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        quick = ["--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false", "--trainer.accelerator", "cpu"]
        for name, test, protocols in (
            ("one_sample", 1, ["combinations"]),
            ("one_class", 9, ["combinations", "a", "rate-cpm-0.4", "[rmfm, t]"]),
            ("one_modality", 9, ["combinations", "complete"]),
        ):
            label = np.r_[np.arange(30) % 2, np.zeros(test, int)]
            n = len(label)
            features = {m: rng.normal(size=(n, 3)) for m in ("text", "audio")[: 1 if name == "one_modality" else 2]}
            split = np.array(["train"] * 20 + ["valid"] * 10 + ["test"] * test)
            ids = np.array([f"clip{i}" for i in range(n)])
            np.savez(f"{name}.npz", ids=ids, label=label, classes=np.array(["sad", "glad"]), split=split, **features)
            assert main(["data", "import", f"{name}.npz", "--as", name, "-o", name]) == 0
            for number, protocol in enumerate(protocols):
                given = ["fit", "--model", "supervised", "--model.backbone", "early", "--data.corpus", name, *quick]
                assert main([*given, "--protocol", protocol, "--run_dir", f"runs/{name}/{number}"]) == 0
    return folder / "runs"


@pytest.mark.parametrize("below", [".", "one_class/1", "one_modality/1"])
def test_a_report_of_legal_runs_is_written(runs: Path, below: str, tmp_path: Path) -> None:
    assert main(["report", str(runs / below), "--output", str(tmp_path)]) == 0
    assert (tmp_path / "report.html").stat().st_size > 10_000
    assert len(pd.read_csv(tmp_path / "scores.csv"))

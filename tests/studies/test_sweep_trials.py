"""The trials of a sweep as jobs: one for each repetition, and a score when the last of them has ended."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import yaml

from mer_lightning.errors import Refusal
from mer_lightning.studies import sweep_trials
from mer_lightning.studies.search import Search
from mer_lightning.studies.sweep_file import Sweep, read_sweep
from mer_lightning.studies.sweep_storage import FileStorage
from mer_lightning.studies.sweep_trials import SweepTrials, TrialResult, best_value, trials_table

pytest.importorskip("optuna")

CONTENT = {
    "method": "grid",
    "metric": {"name": "valid/score", "goal": "maximize"},
    "command": ["mer-lightning", "fit", "--config", "${args_json_file}"],
    "parameters": {"x": {"values": [5, 6]}, "seed_everything": {"values": [1, 2, 3]}},
}


def read(folder: Path, **content) -> Sweep:
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(CONTENT | content))
    return read_sweep(path)


@pytest.fixture
def results() -> list[TrialResult]:
    return []


@pytest.fixture
def trials(tmp_path: Path, results: list[TrialResult], monkeypatch: pytest.MonkeyPatch) -> SweepTrials:
    """A grid of two trials with three runs each; the score of a run is x times its seed."""

    def score(run: Path, metric: str, maximize: bool) -> float:
        assert (metric, maximize) == ("valid/score", True)
        options = yaml.safe_load(run.parent.with_suffix(".json").read_text())
        return float(options["x"] * options["seed_everything"])

    monkeypatch.setattr(sweep_trials, "best_value", score)
    return SweepTrials(Search(read(tmp_path), FileStorage(tmp_path), 2), tmp_path, results.append)


def scores(results: list[TrialResult]) -> list[tuple[int, float | None]]:
    return [(result.trial.number, result.score) for result in results]


def test_a_score_is_the_mean_of_all_repetitions(trials: SweepTrials, results: list[TrialResult]) -> None:
    """The two trials overlap, and their runs end in another order than they began."""
    jobs = trials.jobs()
    first = [next(jobs) for _ in range(3)]
    assert [job.folder.name for job in first] == ["trial-0000-0", "trial-0000-1", "trial-0000-2"]
    assert {job.group for job in first} == {"trial-0000"}
    trials.ended(first[2], 1.0)
    second = [next(jobs)]
    trials.ended(first[0], 1.0)
    assert results == []
    trials.ended(first[1], 1.0)
    assert scores(results) == [(0, 10.0)]
    second += list(jobs)
    for job in reversed(second):
        trials.ended(job, 1.0)
    assert scores(results) == [(0, 10.0), (1, 12.0)]
    assert trials_table(trials.search)["valid/score"].tolist() == [12.0, 10.0]


def test_after_a_failure_no_more_repetitions_begin(trials: SweepTrials, results: list[TrialResult]) -> None:
    jobs = trials.jobs()
    first = next(jobs)
    trials.failed(first, "no such backbone")
    assert [(result.score, result.failure) for result in results] == [(None, "no such backbone")]
    assert next(jobs).group == "trial-0001"


def test_a_failed_trial_is_over_when_its_other_runs_have_ended(trials: SweepTrials, results: list[TrialResult]) -> None:
    jobs = trials.jobs()
    first, other = next(jobs), next(jobs)
    trials.failed(first, "no such backbone")
    assert next(jobs).group == "trial-0001"
    assert results == []
    trials.ended(other, 1.0)
    assert [(result.trial.number, result.failure) for result in results] == [(0, "no such backbone")]
    states = [state for _, state, _ in trials.search.all_trials()]
    assert states == ["fail", "running"]


def test_a_metric_that_was_not_logged_fails_the_trial(tmp_path: Path, results: list[TrialResult]) -> None:
    sweep = read(tmp_path, metric={"name": "valid/other"}, parameters={"x": {"values": [5]}})
    trials = SweepTrials(Search(sweep, FileStorage(tmp_path), 1), tmp_path, results.append)
    (job,) = trials.jobs()
    trials.ended(job, 1.0)
    assert results[0].score is None
    assert "expected the metric valid/other; found none" in str(results[0].failure)


@pytest.mark.parametrize(("goal", "expected"), [("maximize", 3.0), ("minimize", -1.0)])
def test_the_best_epoch_counts(goal: str, expected: float, tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    pd.DataFrame({"valid/mae": [2.0, None, 3.0, -1.0, 0.0]}).to_csv(tmp_path / "logs" / "metrics.csv")
    assert best_value(tmp_path, "valid/mae", goal == "maximize") == expected
    with pytest.raises(Refusal, match="valid/score"):
        best_value(tmp_path, "valid/score", True)

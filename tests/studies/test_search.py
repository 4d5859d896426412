"""The trials of a sweep: each once, in spite of kills, with the values that its number and its method ask for."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from mer_lightning.errors import Refusal
from mer_lightning.studies import search as search_module
from mer_lightning.studies.search import Search
from mer_lightning.studies.sweep_file import Sweep, read_sweep
from mer_lightning.studies.sweep_storage import FileStorage

pytest.importorskip("optuna")

COMMAND = ["${env}", "mer-lightning", "fit", "--config", "base.yaml", "--config", "${args_json_file}"]
METRIC = {"name": "valid/score", "goal": "maximize"}
RATE = {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-1}


def sweep(folder: Path, **content) -> Sweep:
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({"command": COMMAND, "metric": METRIC} | content))
    return read_sweep(path)


def test_another_content_of_the_file_is_another_sweep(tmp_path: Path) -> None:
    first = sweep(tmp_path, method="random", run_cap=1, parameters={"model.optimizer.lr": RATE})
    Search(first, FileStorage(tmp_path / "study"), 1)
    Search(first, FileStorage(tmp_path / "study"), 1)
    changed = sweep(tmp_path, method="random", run_cap=2, parameters={"model.optimizer.lr": RATE})
    with pytest.raises(Refusal, match="another content"):
        Search(changed, FileStorage(tmp_path / "study"), 1)


def run_until_killed(search: Search, scores: dict[int, float], trials: int) -> list[int]:
    """Records a score for each trial, except for the last of ``trials``: its numbers, in order."""
    numbers = []
    for trial in search.trials_to_run():
        numbers.append(trial.number)
        if len(numbers) == trials:
            return numbers
        search.record(trial, scores.setdefault(trial.number, -((trial.overrides["x"] - 0.3) ** 2)), pruned=False)
    return numbers


@pytest.mark.parametrize("method", ["random", "bayes"])
def test_thirty_trials_none_twice(tmp_path: Path, method: str) -> None:
    """Killed at every seventh trial, which has no score then."""
    tiny = sweep(tmp_path, method=method, run_cap=30, parameters={"x": {"min": 0.0, "max": 1.0}})
    scores: dict[int, float] = {}
    numbers: list[int] = []
    for _ in range(15):
        numbers += run_until_killed(Search(tiny, FileStorage(tmp_path / "study"), 30), scores, trials=7)
    trials = Search(tiny, FileStorage(tmp_path / "study"), 30).all_trials()
    assert [trial.number for trial, _, _ in trials] == list(range(30))
    assert {state for _, state, _ in trials} == {"complete"}
    assert {trial.number: score for trial, _, score in trials} == scores
    # A killed trial runs a second time, under its own number and with its own values.
    assert len(numbers) > 30
    assert len({trial.overrides["x"] for trial, _, _ in trials}) == 30


def test_random_trials_are_the_same_after_a_kill(tmp_path: Path) -> None:
    tiny = sweep(tmp_path, method="random", run_cap=9, parameters={"x": {"min": 0.0, "max": 1.0}})
    whole = Search(tiny, FileStorage(tmp_path / "whole"), 9)
    run_until_killed(whole, {}, trials=99)
    for _ in range(4):
        broken = Search(tiny, FileStorage(tmp_path / "broken"), 9)
        run_until_killed(broken, {}, trials=4)
    values = [[trial.overrides["x"] for trial, _, _ in search.all_trials()] for search in (whole, broken)]
    assert values[0] == values[1] == [tiny.random_point(n)["x"] for n in range(9)]


def test_bayes_draws_the_same_for_one_command_and_for_two_in_turn(tmp_path: Path) -> None:
    """What a trial draws depends on its number and on the scores before it, not on who has drawn the last one."""
    both = {"x": {"min": 0.0, "max": 1.0}, "y": {"min": 0.0, "max": 1.0}}
    tiny = sweep(tmp_path, method="bayes", run_cap=24, parameters=both)
    whole = Search(tiny, FileStorage(tmp_path / "whole"), 24)
    run_until_killed(whole, {}, trials=99)
    two = [Search(tiny, FileStorage(tmp_path / "shared"), 24) for _ in range(2)]
    for number in range(24):
        trial = next(two[number % 2].trials_to_run())
        two[number % 2].record(trial, -((trial.overrides["x"] - 0.3) ** 2), pruned=False)
    values = [[trial.overrides for trial, _, _ in search.all_trials()] for search in (whole, two[0])]
    assert len(values[0]) == 24
    assert values[0] == values[1]


def test_bayes_reads_the_newest_trials_and_the_best_before_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_module, "_NEWEST", 4)
    monkeypatch.setattr(search_module, "_BEST", 2)
    tiny = sweep(tmp_path, method="bayes", run_cap=12, parameters={"x": {"min": 0.0, "max": 1.0}})
    search = Search(tiny, FileStorage(tmp_path / "study"), 12)
    scores = dict(enumerate([0.0, 9.0, 1.0, 2.0, 8.0, 3.0, 4.0, 5.0, 6.0, 7.0, 1.5, 2.5]))
    run_until_killed(search, scores, trials=99)
    seen = search_module._SomeTrials(search.study)._get_trials(deepcopy=False)
    assert [trial.number for trial in seen] == [1, 4, 8, 9, 10, 11]


def test_bayes_draws_more_where_the_score_is_high(tmp_path: Path) -> None:
    tiny = sweep(tmp_path, method="bayes", run_cap=60, parameters={"x": {"min": 0.0, "max": 1.0}})
    search = Search(tiny, FileStorage(tmp_path / "study"), 60)
    run_until_killed(search, {}, trials=99)
    late = [trial.overrides["x"] for trial, _, _ in search.all_trials()][40:]
    assert sum(abs(x - 0.3) < 0.1 for x in late) > 10  # 4 by chance


def test_every_kind_of_parameter_survives_the_storage(tmp_path: Path) -> None:
    parameters = {
        "list": {"values": [[1, 2], [3]]},
        "nothing": {"values": [None]},
        "flag": {"values": [True, False]},
        "whole": {"min": 1, "max": 5},
        "step": {"distribution": "q_uniform", "min": 0.0, "max": 1.0, "q": 0.25},
        "power": {"distribution": "q_log_uniform_values", "min": 16, "max": 256, "q": 16},
        "rate": RATE,
        "normal": {"distribution": "normal", "mu": 1.0, "sigma": 0.1},
    }
    tiny = sweep(tmp_path, method="random", run_cap=8, parameters=parameters)
    search = Search(tiny, FileStorage(tmp_path / "study"), 8)
    points = [trial.overrides for trial in search.trials_to_run()]
    assert points == [tiny.random_point(number) for number in range(8)]
    assert all(isinstance(point["power"], int) for point in points)


def test_bayes_draws_multiples_of_a_step_on_a_logarithmic_scale(tmp_path: Path) -> None:
    """Optuna has no such distribution: the values are rounded."""
    power = {"distribution": "q_log_uniform_values", "min": 16, "max": 256, "q": 16}
    search = Search(sweep(tmp_path, method="bayes", run_cap=8, parameters={"power": power}), FileStorage(tmp_path), 8)
    drawn = [trial.overrides["power"] for trial in search.trials_to_run()]
    assert all(isinstance(value, int) and value % 16 == 0 and 16 <= value <= 256 for value in drawn)
    assert len(set(drawn)) > 2

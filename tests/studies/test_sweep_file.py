"""W&B's sweep grammar: what is read, in which order a grid runs, and what is refused by the name of its key."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from mer_lightning.errors import Refusal
from mer_lightning.studies.sweep_file import Parameter, Sweep, read_sweep

COMMAND = ["${env}", "mer-lightning", "fit", "--config", "base.yaml", "--config", "${args_json_file}"]


def sweep(tmp_path: Path, **content) -> Sweep:
    path = tmp_path / "tiny.yaml"
    content = {"method": "grid", "command": COMMAND, "parameters": {"a": {"values": [1, 2]}}} | content
    path.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))
    return read_sweep(path)


def test_grid_runs_in_the_order_of_wandb(tmp_path: Path) -> None:
    """Names sorted, the last one fastest (checked against the package sweeps 0.3.0)."""
    grid = sweep(tmp_path, parameters={"z": {"values": [1, 2]}, "a": {"values": ["x", "y"]}, "m": {"min": 0, "max": 1}})
    assert grid.trials == 8
    points = [grid.grid_point(number) for number in range(4)]
    assert [(p["a"], p["m"], p["z"]) for p in points] == [("x", 0, 1), ("x", 0, 2), ("x", 1, 1), ("x", 1, 2)]
    assert len({str(grid.grid_point(number)) for number in range(8)}) == 8


def test_nested_parameters_become_dotted_names(tmp_path: Path) -> None:
    nested = {"model": {"parameters": {"init_args": {"parameters": {"weight": {"value": 3}}}}}}
    assert sweep(tmp_path, parameters=nested).grid_point(0) == {"model.init_args.weight": 3}


def test_a_draw_depends_on_its_number_and_name_only(tmp_path: Path) -> None:
    few = sweep(tmp_path, method="random", parameters={"a": {"min": 0.0, "max": 1.0}})
    more = sweep(tmp_path, method="random", parameters={"b": {"min": 0.0, "max": 1.0}, "a": {"min": 0.0, "max": 1.0}})
    assert [few.random_point(n)["a"] for n in range(5)] == [more.random_point(n)["a"] for n in range(5)]
    assert len({few.random_point(n)["a"] for n in range(50)}) == 50
    assert few.random_point(0, seed=1) != few.random_point(0)


@pytest.mark.parametrize(
    ("parameter", "share", "value"),
    [
        (Parameter("x", "uniform", low=2, high=4), 0.25, 2.5),
        (Parameter("x", "int_uniform", low=1, high=4), 0.999, 4),
        (Parameter("x", "int_uniform", low=1, high=4), 0.0, 1),
        (Parameter("x", "log_uniform_values", low=0.01, high=100), 0.5, 1.0),
        (Parameter("x", "q_uniform", low=0, high=1, step=0.25), 0.6, 0.5),
        (Parameter("x", "q_log_uniform_values", low=1, high=100, step=1), 0.5, 10),
        (Parameter("x", "normal", low=3, high=2), 0.5, 3.0),
        (Parameter("x", "choice", ("a", "b", "c"), (0.5, 0.3, 0.2)), 0.79, "b"),
        (Parameter("x", "choice", ("a", "b", "c"), (0.5, 0.3, 0.2)), 0.81, "c"),
        (Parameter("x", "choice", (1, 2)), 0.5, 2),
    ],
)
def test_quantiles(parameter: Parameter, share: float, value) -> None:
    assert parameter.quantile(share) == pytest.approx(value)
    assert isinstance(parameter.quantile(share), type(value))


def test_arguments_of_a_trial(tmp_path: Path) -> None:
    tiny = sweep(tmp_path)
    file = tmp_path / "trial.json"
    assert tiny.arguments({"a": 1}, file) == ["--config", "base.yaml", "--config", str(file)]
    spelled = sweep(tmp_path, command=["${env}", "${interpreter}", "mer-lightning", "fit", "${args}"])
    assert spelled.arguments({"a": 1, "b.c": "x"}, file) == ["--a=1", "--b.c=x"]


def test_repeats_are_all_combinations(tmp_path: Path) -> None:
    seeds, folds = {"values": [1, 2]}, {"values": ["fold-1", "fold-2"]}
    nested = {"model.weight": {"value": 3}, "seed_everything": seeds, "data": {"parameters": {"partition": folds}}}
    tiny = sweep(tmp_path, parameters=nested)
    assert [each.name for each in tiny.parameters] == ["model.weight"]
    assert len(tiny.repeat) == 4
    assert {"seed_everything": 1, "data.partition": "fold-2"} in tiny.repeat
    assert sweep(tmp_path).repeat == ({},)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"method": "annealing"}, "method"),
        ({"metric": {"name": "test/tav/mae", "goal": "minimize"}}, "validation"),
        ({"parameters": {"a": {"distribution": "log_uniform", "min": 0, "max": 1}}}, "log_uniform_values"),
        ({"parameters": {"a": {"distribution": "beta"}}}, "parameters.a"),
        ({"parameters": {"a": {"distribution": "uniform", "min": 2, "max": 1}}}, "min and max"),
        ({"parameters": {"a": 3}}, "value: ..."),
        ({"parameters": None}, "parameters"),
        ({"command": None}, "command"),
        ({"command": [*COMMAND, "${args_no_hyphens}"]}, "args_no_hyphens"),
        ({"early_terminate": {"type": "median"}}, "hyperband"),
        ({"paramters": {}}, "paramters"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, content: dict, message: str) -> None:
    with pytest.raises(Refusal, match=message):
        sweep(tmp_path, **content)


def test_a_grid_over_a_continuum_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="random"):
        _ = sweep(tmp_path, parameters={"a": {"min": 0.0, "max": 1.0}}).trials

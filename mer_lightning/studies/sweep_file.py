"""Sweep files in the grammar of W&B: the same file runs here, on a Ray cluster, and under `wandb agent`.

method: grid | random | bayes
metric: {name: valid/score, goal: maximize}
run_cap: 60
early_terminate: {type: hyperband, min_iter: 3, eta: 3}
command: ["${env}", mer-lightning, fit, --config, experiments/cdat_mosi.yaml, --config, "${args_json_file}"]
parameters:
  model.weight: {distribution: log_uniform_values, min: 0.1, max: 1000}
  data.batch_size: {values: [32, 64]}
  seed_everything: {values: [1111, 1112, 1113]}

Seeds and folds are no hyperparameters: here each trial runs with every value of `seed_everything` and
`data.partition`, and its score is the mean of these runs. W&B treats the two like other parameters: in a grid it runs
all their values, with the other methods it draws one value for each run.
"""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mer_lightning.errors import Refusal
from mer_lightning.plain_values import expect, fits, refuse_path
from mer_lightning.yaml_text import read_yaml

Method = Literal["grid", "random", "bayes"]

_KNOWN = {"method", "metric", "run_cap", "early_terminate", "command", "parameters", "name", "description"}
_KNOWN |= {"program", "project", "entity"}
_DISTRIBUTIONS = ("uniform", "int_uniform", "log_uniform_values", "q_uniform", "q_log_uniform_values", "normal")
_REPEATED = ("seed_everything", "data.partition")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_SEE = "see mer-lightning docs sweeps"
_LARGEST_GRID = 10_000  # values of one parameter
_MACROS = ("${args_json_file}", "${args}")


@dataclass(frozen=True)
class Parameter:
    """One hyperparameter: a choice among values, or a distribution between two bounds."""

    name: str
    kind: str  # "choice" or a distribution
    values: tuple[Any, ...] = ()
    probabilities: tuple[float, ...] = ()
    low: float = 0.0  # the mean of a normal distribution
    high: float = 1.0  # the deviation of a normal distribution
    step: float | None = None

    def quantile(self, share: float) -> Any:
        """The value below which ``share`` of the distribution lies; 0 <= share < 1."""
        if self.kind == "choice":
            weights = self.probabilities or (1 / len(self.values),) * len(self.values)
            ends = itertools.accumulate(weights)
            return next((v for v, end in zip(self.values, ends, strict=True) if share < end), self.values[-1])
        if self.kind == "int_uniform":
            return int(self.low) + int(share * (int(self.high) - int(self.low) + 1))
        if self.kind == "normal":
            from statistics import NormalDist

            return NormalDist(self.low, self.high).inv_cdf(min(max(share, 1e-12), 1 - 1e-12))
        if self.kind in ("log_uniform_values", "q_log_uniform_values"):
            value = math.exp(math.log(self.low) + share * (math.log(self.high) - math.log(self.low)))
        else:
            value = self.low + share * (self.high - self.low)
        return self.rounded(value)

    def rounded(self, value: Any) -> Any:
        """The nearest multiple of the step, where there is a step, within the bounds."""
        if self.step is None:
            return value
        rounded = min(max(round(value / self.step) * self.step, self.low), self.high)
        return int(rounded) if float(self.step).is_integer() else rounded

    def grid(self) -> tuple[Any, ...]:
        """All values, in the order in which a grid runs them."""
        if self.kind == "choice":
            return self.values
        step = 1 if self.kind == "int_uniform" else self.step if self.kind == "q_uniform" else None
        if step is not None:
            count = int((self.high - self.low) / step + 1e-9) + 1
            if count > _LARGEST_GRID:
                raise Refusal(
                    self.name, f"at most {_LARGEST_GRID} values in a grid", str(count), "choose method random"
                )
            return tuple(self.low + n * step for n in range(count))
        raise Refusal(self.name, "values, whole numbers or q_uniform in a grid", self.kind, "choose method random")


@dataclass(frozen=True)
class Sweep:
    """A sweep file that was read and checked."""

    name: str
    path: Path
    method: Method
    metric: str
    maximize: bool
    parameters: tuple[Parameter, ...]
    command: tuple[str, ...]  # the arguments of `mer-lightning fit`, with macros
    run_cap: int | None
    early_terminate: dict[str, Any] | None
    repeat: tuple[dict[str, Any], ...]  # options of each run of a trial; one empty entry if it runs once

    @property
    def trials(self) -> int | None:
        """Their number; None where the file does not say."""
        if self.method != "grid":
            return self.run_cap
        points = math.prod(len(parameter.grid()) for parameter in self.parameters)
        return min(points, self.run_cap or points)

    def grid_point(self, number: int) -> dict[str, Any]:
        """In W&B's order: parameters sorted by name, the last one varies fastest."""
        parameters = sorted(self.parameters, key=lambda parameter: parameter.name)
        point = next(itertools.islice(itertools.product(*(p.grid() for p in parameters)), number, None))
        return dict(zip((p.name for p in parameters), point, strict=True))

    def random_point(self, number: int, seed: int = 0) -> dict[str, Any]:
        """Each value depends on (seed, number, name) only: neither resuming nor a new parameter changes the others."""
        from mer_lightning.randomness import name_key, uniform

        return {p.name: p.quantile(float(uniform(seed, number, name_key(p.name)))) for p in self.parameters}

    def arguments(self, overrides: dict[str, Any], file: Path) -> list[str]:
        """Those of `mer-lightning fit`; ``file`` holds the overrides as flat JSON."""
        arguments: list[str] = []
        for token in self.command:
            if token == "${args}":
                arguments += [f"--{name}={value}" for name, value in overrides.items()]
            else:
                arguments.append(str(file) if token == "${args_json_file}" else token)
        return arguments


def read_sweep(path: Path) -> Sweep:
    """A sweep file, or a Refusal that names the key which is wrong."""
    expected = "a mapping with method, parameters and command"
    content = expect(path, read_yaml(path, "a sweep file", _SEE), dict[str, Any], expected, _SEE)
    for key in content:
        if key not in _KNOWN:
            raise Refusal(path, f"keys among {', '.join(sorted(_KNOWN))}", f"'{key}'", "remove it or mend its spelling")
    method = content.get("method")
    if method not in ("grid", "random", "bayes"):
        raise Refusal(f"{path}: method", "grid, random or bayes", f"'{method}'", "choose one")
    metric = content.get("metric") or {"name": "valid/score", "goal": "maximize"}
    expect(f"{path}: metric", metric, dict[str, str], "name and goal", _SEE)
    if not {"name"} <= metric.keys() or metric.get("goal", "minimize") not in ("minimize", "maximize"):
        raise Refusal(f"{path}: metric", "name, and goal minimize or maximize", str(metric), _SEE)
    if metric["name"].startswith("test"):
        remedy = "choose by a validation score, valid/score"
        raise Refusal(f"{path}: metric", "a metric of the validation split", f"'{metric['name']}'", remedy)
    parameters = _parameters(path, content.get("parameters") or {}, "")
    if len({each.name for each in parameters}) < len(parameters):
        raise Refusal(f"{path}: parameters", "each parameter once", "one of them twice", "remove one")
    if not parameters:
        raise Refusal(f"{path}: parameters", "one parameter or more", "none", "add what is to be varied")
    early = content.get("early_terminate")
    if early is not None:
        _check_early(f"{path}: early_terminate", early)
    run_cap = expect(f"{path}: run_cap", content.get("run_cap"), int | None, "a number of trials", "write one")
    if run_cap is not None and run_cap < 1:
        raise Refusal(f"{path}: run_cap", "1 or more", str(run_cap), "write one")
    name = expect(f"{path}: name", content.get("name") or path.stem, str, "a name", "write one")
    return Sweep(
        name=refuse_path(f"{path}: name", name),
        path=path,
        method=method,
        metric=metric["name"],
        maximize=metric.get("goal", "minimize") == "maximize",
        parameters=tuple(each for each in parameters if not _is_repeated(each)),
        command=_command(path, content.get("command")),
        run_cap=run_cap,
        early_terminate=early,
        repeat=_repeats({each.name: each.values for each in parameters if _is_repeated(each)}),
    )


def _parameters(path: Path, content: dict[str, Any], prefix: str) -> list[Parameter]:
    """All parameters; those of a nested mapping get dotted names."""
    parameters = []
    expect(f"{path}: parameters", content, dict[str, Any], "names of parameters", _SEE)
    for key, entry in content.items():
        name, where = f"{prefix}{key}", f"{path}: parameters.{prefix}{key}"
        if not _NAME.fullmatch(str(key)):
            raise Refusal(where, "a name of letters, digits, dots and dashes", f"'{key}'", "rename it")
        if not isinstance(entry, dict):
            raise Refusal(where, "values, value, or min and max", repr(entry), "write {value: ...} for a constant")
        if "parameters" in entry:
            parameters += _parameters(path, entry["parameters"], f"{name}.")
        else:
            parameters.append(_parameter(where, name, entry))
    return parameters


def _parameter(where: str, name: str, entry: dict[str, Any]) -> Parameter:
    if "value" in entry:
        return Parameter(name, "choice", (entry["value"],))
    if "values" in entry:
        values = expect(where, entry["values"], list[Any], "values: [...]", _SEE)
        shares = expect(where, entry.get("probabilities", []), list[float], "probabilities: [...]", _SEE)
        if not values or (shares and (len(shares) != len(values) or min(shares) < 0 or abs(sum(shares) - 1) > 1e-6)):
            raise Refusal(where, "values, and as many probabilities that add up to 1", str(entry), "mend them")
        return Parameter(name, "choice", tuple(values), tuple(shares))
    kind = entry.get("distribution")
    if kind is None and {"min", "max"} <= entry.keys():
        kind = "int_uniform" if all(isinstance(entry[end], int) for end in ("min", "max")) else "uniform"
    if kind == "log_uniform":
        raise Refusal(
            where, "log_uniform_values", "log_uniform, whose bounds are exponents", "state the values themselves"
        )
    if kind not in _DISTRIBUTIONS:
        raise Refusal(where, f"values, or a distribution among {', '.join(_DISTRIBUTIONS)}", f"'{kind}'", "choose one")
    for key in ("min", "max", "q", "mu", "sigma"):
        expect(where, entry.get(key, 1), float, f"a number as {key}", "write one")
    if kind == "normal":
        return Parameter(name, kind, low=float(entry.get("mu", 0.0)), high=float(entry.get("sigma", 1.0)))
    if not {"min", "max"} <= entry.keys() or entry["min"] > entry["max"]:
        raise Refusal(where, "min and max, in this order", str(entry), "state both")
    if "log" in kind and entry["min"] <= 0:
        raise Refusal(where, "bounds above 0 for a logarithm", str(entry), "state other ones")
    step = entry.get("q", 1) if kind.startswith("q_") else None
    if step is not None and step <= 0:
        raise Refusal(where, "a step q above 0", str(step), "state another one")
    return Parameter(name, kind, low=entry["min"], high=entry["max"], step=step)


def _check_early(where: str, early: Any) -> None:
    expect(where, early, dict[str, int | str | bool], "type hyperband, with min_iter or max_iter", _SEE)
    if early.get("type") != "hyperband":
        raise Refusal(where, "type hyperband", f"'{early.get('type')}'", "choose it or remove it")
    numbers = {key: early[key] for key in ("min_iter", "max_iter", "eta", "s") if key in early}
    if not {"min_iter", "max_iter"} & early.keys() or not all(
        fits(n, int) and 1 <= n < 10**6 for n in numbers.values()
    ):
        raise Refusal(where, "whole numbers from 1: min_iter or max_iter, eta, s", str(early), "mend them")
    if early.get("eta", 3) < 2 or early.get("min_iter", 1) > early.get("max_iter", 10**6):
        raise Refusal(where, "eta of 2 or more, and min_iter up to max_iter", str(early), "mend them")


def _command(path: Path, tokens: Any) -> tuple[str, ...]:
    """What follows the word `fit`."""
    words = [str(token) for token in tokens] if isinstance(tokens, list) else []
    if "fit" not in words or not set(_MACROS) & set(words):
        remedy = 'write command: ["${env}", mer-lightning, fit, --config, FILE, --config, "${args_json_file}"]'
        raise Refusal(f"{path}: command", "a call of mer-lightning fit with ${args_json_file}", str(tokens), remedy)
    arguments = words[words.index("fit") + 1 :]
    unknown = [token for token in arguments if token.startswith("${") and token not in _MACROS]
    if unknown:
        raise Refusal(f"{path}: command", f"macros among {', '.join(_MACROS)}", unknown[0], "use one of them")
    return tuple(arguments)


def _is_repeated(parameter: Parameter) -> bool:
    return parameter.name in _REPEATED and parameter.kind == "choice"


def _repeats(content: dict[str, tuple[Any, ...]]) -> tuple[dict[str, Any], ...]:
    """Every combination of seeds and partitions; a single empty one where nothing is repeated."""
    return tuple(dict(zip(content, values, strict=True)) for values in itertools.product(*content.values()))

"""Which trial comes next, and what became of it: an Optuna study in SQLite, which a kill cannot lose or double.

Grid and random trials are functions of their number; `bayes` is Optuna's TPE. A trial that was running when the study
was killed is handed out again under its own number.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mer_lightning.errors import Refusal
from mer_lightning.studies.sweep_file import Parameter, Sweep

if TYPE_CHECKING:
    import optuna

_FILE = "study.db"
_SAID = "sweep file"


@dataclass(frozen=True)
class Trial:
    number: int
    id: int  # in the storage
    overrides: dict[str, Any]


class Search:
    """The trials of one sweep."""

    def __init__(self, sweep: Sweep, folder: Path, trials: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        folder.mkdir(parents=True, exist_ok=True)
        self.sweep, self.trials, self.storage = sweep, trials, f"sqlite:///{folder / _FILE}"
        self.study = optuna.create_study(
            storage=self.storage,
            study_name=sweep.name,
            direction="maximize" if sweep.maximize else "minimize",
            pruner=_pruner(sweep),
            load_if_exists=True,
        )
        # Seeded by how many there are: a sweep that goes on must not draw again what it has drawn.
        self.study.sampler = optuna.samplers.TPESampler(
            seed=len(self.study.trials), constant_liar=True, n_startup_trials=min(10, trials)
        )
        said = sweep.path.read_text()
        if self.study.user_attrs.setdefault(_SAID, said) != said:
            raise Refusal(
                folder, "the sweep that was begun here", "another content of its file", "choose another --runs"
            )
        self.study.set_user_attr(_SAID, said)

    def waiting(self) -> Iterator[Trial]:
        """First those that were running when the study was killed, then new ones until there are enough."""
        from optuna.trial import TrialState

        for frozen in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            yield Trial(frozen.number, frozen._trial_id, self._overrides(frozen.params))
        while True:
            trials = self.study.get_trials(deepcopy=False)
            queued = sum(trial.state is TrialState.WAITING for trial in trials)  # when the study was killed
            if len(trials) - queued >= self.trials:
                return
            if not queued and self.sweep.method != "bayes":
                point = self.sweep.grid_point if self.sweep.method == "grid" else self.sweep.random_point
                values = point(len(trials))
                self.study.enqueue_trial({name: _stored(self._parameter(name), v) for name, v in values.items()})
            trial = self.study.ask({p.name: _distribution(p, self.sweep.method) for p in self.sweep.parameters})
            yield Trial(trial.number, trial._trial_id, self._overrides(trial.params))

    def tell(self, trial: Trial, value: float | None, pruned: bool) -> None:
        """``value`` None: the trial failed."""
        from optuna.trial import TrialState

        state = TrialState.FAIL if value is None else TrialState.PRUNED if pruned else TrialState.COMPLETE
        self.study.tell(trial.number, value if state is TrialState.COMPLETE else None, state)

    def finished(self) -> list[tuple[Trial, str, float | None]]:
        """(trial, state, score) of all, in their order."""
        said = []
        for frozen in self.study.get_trials(deepcopy=False):
            trial = Trial(frozen.number, frozen._trial_id, self._overrides(frozen.params))
            said.append((trial, frozen.state.name.lower(), frozen.value))
        return said

    def _parameter(self, name: str) -> Parameter:
        return next(parameter for parameter in self.sweep.parameters if parameter.name == name)

    def _overrides(self, params: dict[str, Any]) -> dict[str, Any]:
        return {name: _restored(self._parameter(name), value) for name, value in params.items()}


def _pruner(sweep: Sweep) -> optuna.pruners.BasePruner:
    import optuna

    early = sweep.early_terminate
    if early is None:
        return optuna.pruners.NopPruner()
    least, eta = early.get("min_iter"), early.get("eta", 3)
    if least is None:  # W&B's other form: at most max_iter, in s brackets
        least = max(int(early["max_iter"] / eta ** early.get("s", 1)), 1)
    return optuna.pruners.HyperbandPruner(
        min_resource=least, max_resource=early.get("max_iter", "auto"), reduction_factor=eta
    )


def _distribution(parameter: Parameter, method: str) -> optuna.distributions.BaseDistribution:
    import optuna

    kind, low, high = parameter.kind, parameter.low, parameter.high
    if kind == "choice":
        return optuna.distributions.CategoricalDistribution([_stored(parameter, value) for value in parameter.values])
    if kind == "normal":
        if method == "bayes":
            raise Refusal(parameter.name, "bounds, for method bayes", "a normal distribution", "use uniform or random")
        return optuna.distributions.FloatDistribution(low - 8 * high, low + 8 * high)
    if kind == "int_uniform":
        return optuna.distributions.IntDistribution(int(low), int(high))
    logarithmic = "log" in kind
    if parameter.step is None or logarithmic:  # Optuna has no steps on a logarithmic scale
        return optuna.distributions.FloatDistribution(low, high, log=logarithmic)
    return optuna.distributions.FloatDistribution(low, high, step=parameter.step)


def _stored(parameter: Parameter, value: Any) -> Any:
    """Optuna's categories are plain: a list or a mapping is kept as JSON."""
    return json.dumps(value) if parameter.kind == "choice" else value


def _restored(parameter: Parameter, value: Any) -> Any:
    if parameter.kind == "choice":
        return json.loads(value)
    if parameter.step is None:
        return value
    rounded = min(max(round(value / parameter.step) * parameter.step, parameter.low), parameter.high)
    return int(rounded) if float(parameter.step).is_integer() else rounded

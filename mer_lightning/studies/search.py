"""The trials of a sweep in an Optuna study: which one comes next, and the score of each that is over.

The study is in an SQLite file, so that a sweep that is killed loses no trial and runs none twice. Grid and random
trials are functions of their number; `bayes` is Optuna's TPE.
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
_SWEEP_FILE = "sweep file"  # the attribute of the study with the content of that file


@dataclass(frozen=True)
class Trial:
    """One choice of values for the parameters of a sweep."""

    number: int
    id: int  # in the storage
    overrides: dict[str, Any]


class Search:
    """The trials of one sweep, until there are ``trials``; a single process works on them."""

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
        # The seed is the number of trials: a sweep that is resumed must not draw the same values again.
        self.study.sampler = optuna.samplers.TPESampler(
            seed=len(self.study.get_trials(deepcopy=False)), constant_liar=True, n_startup_trials=min(10, trials)
        )
        content = sweep.path.read_text()
        if self.study.user_attrs.get(_SWEEP_FILE, content) != content:
            raise Refusal(
                folder, "the sweep that was begun here", "another content of its file", "choose another --runs"
            )
        self.study.set_user_attr(_SWEEP_FILE, content)

    def trials_to_run(self) -> Iterator[Trial]:
        """Interrupted trials again, each under its own number, then new ones."""
        yield from self._interrupted()
        yield from self._new()

    def _interrupted(self) -> Iterator[Trial]:
        """Trials that were running when the study was killed: nobody else can be running them."""
        from optuna.trial import TrialState

        for frozen in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            yield self._trial(frozen)

    def _new(self) -> Iterator[Trial]:
        from optuna.trial import TrialState

        while True:
            trials = self.study.get_trials(deepcopy=False)
            # One was enqueued and not asked for if the study was killed between these two calls.
            queued = sum(trial.state is TrialState.WAITING for trial in trials)
            if len(trials) - queued >= self.trials:
                return
            if not queued and self.sweep.method != "bayes":
                point = self.sweep.grid_point if self.sweep.method == "grid" else self.sweep.random_point
                values = point(len(trials))
                self.study.enqueue_trial({name: _stored(self._parameter(name), v) for name, v in values.items()})
            trial = self.study.ask({p.name: _distribution(p, self.sweep.method) for p in self.sweep.parameters})
            yield self._trial(trial)

    def record(self, trial: Trial, score: float | None, pruned: bool) -> None:
        """Store that a trial is over; without a score it failed."""
        from optuna.trial import TrialState

        state = TrialState.FAIL if score is None else TrialState.PRUNED if pruned else TrialState.COMPLETE
        self.study.tell(trial.number, score if state is TrialState.COMPLETE else None, state)

    def all_trials(self) -> list[tuple[Trial, str, float | None]]:
        """(trial, state, score) of all, in the order of their numbers."""
        trials = self.study.get_trials(deepcopy=False)
        return [(self._trial(frozen), frozen.state.name.lower(), frozen.value) for frozen in trials]

    def pruning_arguments(self, trial: Trial) -> list[str]:
        """Options of `fit` with which Hyperband can stop the trial."""
        options = {"storage": self.storage, "study": self.sweep.name, "trial": trial.id}
        callback = "--trainer.callbacks+=mer_lightning.studies.pruning.Pruning"
        return [callback, *(f"--trainer.callbacks.{option}={value}" for option, value in options.items())]

    def was_pruned(self, trial: Trial) -> bool:
        from mer_lightning.studies.pruning import PRUNED

        return PRUNED in self.study.get_trials(deepcopy=False)[trial.number].user_attrs

    def _trial(self, stored: optuna.Trial | optuna.trial.FrozenTrial) -> Trial:
        overrides = {name: _restored(self._parameter(name), value) for name, value in stored.params.items()}
        return Trial(stored.number, stored._trial_id, overrides)

    def _parameter(self, name: str) -> Parameter:
        return next(parameter for parameter in self.sweep.parameters if parameter.name == name)


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
    """A parameter as Optuna knows it."""
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
    """A value as it is in the study: Optuna's categories are numbers and strings only, hence the JSON."""
    return json.dumps(value) if parameter.kind == "choice" else value


def _restored(parameter: Parameter, value: Any) -> Any:
    if parameter.kind == "choice":
        return json.loads(value)
    return parameter.rounded(value)

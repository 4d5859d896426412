"""The trials of a sweep in an Optuna study: which one comes next, and the score of each that is over.

The study is in a file or a database, so that a sweep that is killed loses no trial and runs none twice. Grid and random
trials are functions of their number; `bayes` is Optuna's TPE.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mer_lightning.errors import Refusal
from mer_lightning.studies.sweep_file import Parameter, Sweep
from mer_lightning.studies.sweep_storage import SweepStorage

if TYPE_CHECKING:
    import optuna

_SWEEP_FILE = "sweep file"  # the attribute of the study with the content of that file
_COMMAND = "command"  # the attribute of a trial with the number of the command that works on it
_POLL_SECONDS = 2.0
_NEWEST, _BEST = 500, 25  # trials that TPE reads


@dataclass(frozen=True)
class Trial:
    """One choice of values for the parameters of a sweep."""

    number: int
    id: int  # in the storage
    overrides: dict[str, Any]


class Search:
    """The trials of one sweep, until there are ``trials`` of all commands together that work on its storage."""

    def __init__(self, sweep: Sweep, storage: SweepStorage, trials: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.sweep, self.trials, self.storage = sweep, trials, storage
        self._mine: set[int] = set()  # numbers of the trials that this command has drawn
        self.study = optuna.create_study(
            storage=storage.optuna(),
            study_name=sweep.name,
            direction="maximize" if sweep.maximize else "minimize",
            pruner=_pruner(sweep),
            load_if_exists=True,
        )
        content = sweep.path.read_text()
        if self.study.user_attrs.get(_SWEEP_FILE, content) != content:
            remedy = "choose another --runs" if not storage.shared else "give the sweep another name"
            raise Refusal(storage.place, "the sweep that was begun here", "another content of its file", remedy)
        self.study.set_user_attr(_SWEEP_FILE, content)

    def trials_to_run(self) -> Iterator[Trial]:
        """Trials that a command left behind, each under its own number, and new ones, as long as there are any."""
        while (trial := self._next()) is not None:
            yield trial

    def wait_for_others(self) -> bool:
        """Until all trials are over (False), or one was left behind that has to be run again (True)."""
        while running := self._running():
            if any(self._left_behind(trial) for trial in running):
                return True
            time.sleep(_POLL_SECONDS)
        return False

    def _next(self) -> Trial | None:
        import optuna

        with self.storage.drawing():
            for frozen in self._running():
                if self._left_behind(frozen):
                    return self._taken(optuna.trial.Trial(self.study, frozen._trial_id))
            number = len(self.study.get_trials(deepcopy=False))
            if number >= self.trials:
                return None
            return self._taken(self.study.ask())

    def _running(self) -> list[optuna.trial.FrozenTrial]:
        from optuna.trial import TrialState

        return self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))

    def _left_behind(self, trial: optuna.trial.FrozenTrial) -> bool:
        return trial.number not in self._mine and not self.storage.is_at_work(trial.user_attrs.get(_COMMAND))

    def _taken(self, trial: optuna.Trial) -> Trial:
        """The trial with a value of every parameter: those that it has already, where it was left behind."""
        # A function of the number alone: neither a kill nor another machine changes what is drawn.
        self.study.sampler = _sampler(self.sweep, trial.number, self.trials)
        trial.set_user_attr(_COMMAND, self.storage.command)
        self._mine.add(trial.number)
        values = {p.name: _restored(p, _suggested(trial, p, self.sweep.method)) for p in self.sweep.parameters}
        return Trial(trial.number, trial._trial_id, values)

    def record(self, trial: Trial, score: float | None, pruned: bool) -> None:
        """Store that a trial is over; without a score it failed. Not if another command has taken it over."""
        from optuna.trial import TrialState

        state = TrialState.FAIL if score is None else TrialState.PRUNED if pruned else TrialState.COMPLETE
        with self.storage.drawing():
            if self._stored(trial).user_attrs[_COMMAND] == self.storage.command:
                self.study.tell(trial.number, score if state is TrialState.COMPLETE else None, state)

    def all_trials(self) -> list[tuple[Trial, str, float | None]]:
        """(trial, state, score) of all, in the order of their numbers."""
        trials = self.study.get_trials(deepcopy=False)
        parameters = {parameter.name: parameter for parameter in self.sweep.parameters}

        def values(frozen: optuna.trial.FrozenTrial) -> dict[str, Any]:
            return {name: _restored(parameters[name], value) for name, value in frozen.params.items()}

        return [
            (Trial(frozen.number, frozen._trial_id, values(frozen)), frozen.state.name.lower(), frozen.value)
            for frozen in trials
        ]

    def pruning_arguments(self, trial: Trial) -> list[str]:
        """Options of `fit` with which Hyperband can stop the trial."""
        options = {"storage": self.storage.url, "study": self.sweep.name, "trial": trial.id}
        callback = "--trainer.callbacks+=mer_lightning.studies.pruning.Pruning"
        return [callback, *(f"--trainer.callbacks.{option}={value}" for option, value in options.items())]

    def was_pruned(self, trial: Trial) -> bool:
        from mer_lightning.studies.pruning import PRUNED

        return PRUNED in self._stored(trial).user_attrs

    def _stored(self, trial: Trial) -> optuna.trial.FrozenTrial:
        return self.study.get_trials(deepcopy=False)[trial.number]


def _sampler(sweep: Sweep, number: int, trials: int) -> optuna.samplers.BaseSampler:
    """TPE for `bayes`; otherwise a trial's values are a function of its number."""
    import optuna

    if sweep.method == "bayes":

        class OfSomeTrials(optuna.samplers.TPESampler):
            def infer_relative_search_space(self, study: Any, *asked: Any) -> Any:
                return super().infer_relative_search_space(_some_trials(study), *asked)

            def sample_relative(self, study: Any, *asked: Any) -> Any:
                return super().sample_relative(_some_trials(study), *asked)

            def sample_independent(self, study: Any, *asked: Any) -> Any:
                return super().sample_independent(_some_trials(study), *asked)

        return OfSomeTrials(seed=number, constant_liar=True, n_startup_trials=min(10, trials))
    point = sweep.grid_point(number) if sweep.method == "grid" else sweep.random_point(number)
    parameters = {parameter.name: parameter for parameter in sweep.parameters}

    class ByNumber(optuna.samplers.RandomSampler):
        def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
            return _stored(parameters[param_name], point[param_name])

    return ByNumber()


class _SomeTrials:
    """A study as TPE sees it: the newest trials, and the best of those before them.

    TPE compares the best 25 trials with all others, which weigh less the older they are. Without a limit each draw
    takes longer than the one before.
    """

    def __init__(self, study: Any) -> None:
        self._study = study

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    def _get_trials(self, *given: Any, **options: Any) -> list[Any]:
        trials = self._study._get_trials(*given, **options)
        older = [trial for trial in trials[:-_NEWEST] if trial.value is not None]
        sign = -1 if self._study.direction.name == "MAXIMIZE" else 1
        best = sorted(older, key=lambda trial: sign * trial.value)[:_BEST]
        return [*sorted(best, key=lambda trial: trial.number), *trials[-_NEWEST:]]


def _some_trials(study: Any) -> Any:
    return study if isinstance(study, _SomeTrials) else _SomeTrials(study)


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


def _suggested(trial: optuna.Trial, parameter: Parameter, method: str) -> Any:
    """The value that the study has or draws for a parameter, as it is stored."""
    kind, low, high = parameter.kind, parameter.low, parameter.high
    if kind == "choice":
        return trial.suggest_categorical(parameter.name, [_stored(parameter, value) for value in parameter.values])
    if kind == "normal":
        if method == "bayes":
            raise Refusal(parameter.name, "bounds, for method bayes", "a normal distribution", "use uniform or random")
        return trial.suggest_float(parameter.name, low - 8 * high, low + 8 * high)
    if kind == "int_uniform":
        return trial.suggest_int(parameter.name, int(low), int(high))
    logarithmic = "log" in kind
    step = None if logarithmic else parameter.step  # Optuna has no steps on a logarithmic scale
    return trial.suggest_float(parameter.name, low, high, step=step, log=logarithmic)


def _stored(parameter: Parameter, value: Any) -> Any:
    """A value as it is in the study: Optuna's categories are numbers and strings only, hence the JSON."""
    return json.dumps(value) if parameter.kind == "choice" else value


def _restored(parameter: Parameter, value: Any) -> Any:
    if parameter.kind == "choice":
        return json.loads(value)
    return parameter.rounded(value)

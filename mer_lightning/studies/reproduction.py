"""The jobs of a reproduction: every experiment with every seed, all with the same budget.

Where a corpus is not there, its synthetic twin takes its place, and every such result is labelled synthetic. A corpus
without a twin is left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mer_lightning.data.catalogue import TWINS
from mer_lightning.errors import Refusal
from mer_lightning.studies.jobs import Job
from mer_lightning.yaml_text import from_yaml


@dataclass(frozen=True)
class Budget:
    """The same for all compared methods (rule 8)."""

    epochs: int  # of all phases of a method together
    seeds: int
    options: tuple[str, ...]  # of every run
    twin_options: tuple[str, ...]  # of every run on a synthetic twin
    seconds: float  # of one run on one core, as measured; only for the estimate that is printed


# One condition chooses the checkpoints of all methods.
_SELECTION = ("--model.select_under", "combinations")
# A backbone and a twin on which a few minutes are enough to learn more than a linear model does.
_QUICK = (*_SELECTION, "--model.backbone", "early", "--model.optimizer.lr", "1e-3")
BUDGETS = {
    "quick": Budget(12, 3, _QUICK, ("--data.process", "contradiction"), seconds=15),
    "paper": Budget(40, 5, _SELECTION, (), seconds=160),
}
_FIRST_SEED = 1111
_NOT_QUICK = ("_unaligned", "_iemocap", "_mosei", "_mosei_emotions")


@dataclass(frozen=True)
class Experiment:
    """One experiment file, and whether it runs on a synthetic twin."""

    path: Path
    synthetic: bool

    @property
    def group(self) -> str:
        return f"{self.path.stem}{'-synthetic' if self.synthetic else ''}"


def find_experiments(names: list[str], folder: Path, budget: str) -> list[Experiment]:
    """Those named, as files or by their names in ``folder``; without names all that the budget has room for."""
    paths = [_path(name, folder) for name in names] or _all(folder, budget)
    if not paths:
        raise Refusal(folder, "experiments (*.yaml)", "none", "run from the project's folder or name one")
    experiments = []
    for path in paths:
        corpus, is_here = _corpus(path)
        if is_here or corpus in TWINS:
            experiments.append(Experiment(path, synthetic=not is_here))
        elif names:
            remedy = f"import it, see mer-lightning data list {corpus}"
            raise Refusal(path, f"the corpus {corpus}", "no such corpus here, and no synthetic twin of it", remedy)
    return experiments


def plan(experiments: Iterable[Experiment], budget: str, runs: Path, partition: str | None = None) -> list[Job]:
    """All jobs, grouped by experiment; the first seed of every experiment comes before the second of any."""
    seeds = range(_FIRST_SEED, _FIRST_SEED + BUDGETS[budget].seeds)
    return [_job(experiment, seed, budget, runs, partition) for seed in seeds for experiment in experiments]


def _job(experiment: Experiment, seed: int, budget: str, runs: Path, partition: str | None) -> Job:
    given = BUDGETS[budget]
    arguments = ["--config", str(experiment.path), "--seed_everything", str(seed)]
    arguments += ["--trainer.max_epochs", str(given.epochs), *given.options]
    if experiment.synthetic:
        arguments += ["--data.synthetic", "true", *given.twin_options]
    group = experiment.group
    if partition:
        arguments += ["--data.partition", partition]
        group += f"-{partition}"
    return Job(runs / budget / group / f"seed-{seed}", tuple(arguments), (experiment.path,), group)


def _all(folder: Path, budget: str) -> list[Path]:
    """Every experiment; the quick budget has one of each method on a corpus of sentiment and on one of emotions."""
    paths = sorted(folder.glob("*.yaml"))
    if budget == "quick":
        paths = [path for path in paths if not path.stem.endswith(_NOT_QUICK)]
    return paths


def _path(name: str, folder: Path) -> Path:
    for path in (Path(name), folder / f"{name}.yaml"):
        if path.is_file():
            return path
    known = ", ".join(path.stem for path in sorted(folder.glob("*.yaml")))
    raise Refusal(name, f"an experiment among {known}", "nothing of that name", f"see {folder}/")


def _corpus(experiment: Path) -> tuple[str, bool]:
    """(the corpus of an experiment, whether it is here)"""
    from mer_lightning.data.places import find_corpus

    data = from_yaml(experiment.read_text())["data"]
    try:
        find_corpus(data["corpus"], data.get("alignment"))
    except Refusal:
        return data["corpus"], False
    return data["corpus"], True

"""Every fold of a corpus as one result: a fit for each fold, and their test predictions together.

    FOLDER/folds/fold-1   the job of one fold
    FOLDER/run/           like the folder of a run: what the folds predicted, in one table, and its scores

A corpus with sessions to leave out, such as IEMOCAP, tests each sample in one fold. The field joins these predictions
and scores them once per seed. Beside each such score stand the mean and deviation of the scores of single folds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mer_lightning.errors import Refusal
from mer_lightning.studies.jobs import Job
from mer_lightning.training.given import DEFAULT_CORPUS, data_options, is_twin

if TYPE_CHECKING:
    from mer_lightning.data.corpus import Corpus

_ALL = "all"
_OPTION = "--data.partition"
_FOLD = "fold"


@dataclass(frozen=True)
class Folds:
    """What becomes one run: a job for each of several folds, or the job itself where one partition was asked for."""

    job: Job
    parts: tuple[Job, ...]

    @property
    def pooled(self) -> bool:
        return self.parts != (self.job,)


def in_folds(jobs: Iterable[Job]) -> list[Folds]:
    """Each job, and the jobs of its folds."""
    return [Folds(job, tuple(_parts(job))) for job in jobs]


def parts_of(studies: Iterable[Folds]) -> list[Job]:
    return [part for study in studies for part in study.parts]


def several_partitions(arguments: Sequence[str]) -> bool:
    """Whether the arguments of a fit ask for more than one partition, as far as they tell without the corpus."""
    asked = data_options(arguments).get("partition")
    return isinstance(asked, list) or (isinstance(asked, str) and (asked == _ALL or "," in asked))


def _parts(job: Job) -> Iterable[Job]:
    if not several_partitions(job.arguments):
        return [job]
    options = data_options(job.arguments)
    corpus = opened(options)
    known = list(corpus.card.partitions)
    asked = options["partition"]
    if asked in known:  # somebody's partition has this name
        return [job]
    names = _chosen(asked, known)
    _refuse_overlap(corpus, names)
    return [Job(job.folder / "folds" / name, (*job.arguments, _OPTION, name), job.configs, job.label) for name in names]


def _chosen(asked: str | list[str], known: list[str]) -> list[str]:
    if asked == _ALL:
        names = [name for name in known if name.startswith(_FOLD)] or known
        if len(names) < 2:
            found, remedy = ", ".join(names), f"leave out {_OPTION} {_ALL}"
            raise Refusal(_OPTION, "a corpus with several folds", found, remedy)
        return names
    names = [name.strip() for name in (asked.strip("[]").split(",") if isinstance(asked, str) else asked)]
    if strange := [name for name in names if name not in known] or (names if len(set(names)) < len(names) else []):
        raise Refusal(_OPTION, f"different ones of {', '.join(known)}", ", ".join(strange), "name others")
    return names


def opened(options: dict[str, Any]) -> Corpus:
    """The corpus that the options of a configuration name; as on the command line, numbers may be texts."""
    from mer_lightning.data.opening import open_named

    samples = options.get("samples")
    return open_named(
        str(options.get("corpus", DEFAULT_CORPUS)),
        options.get("alignment"),
        is_twin(options),
        None if samples in (None, "null") else int(samples),
        str(options.get("process", "default")),
    )


def _refuse_overlap(corpus: Corpus, names: list[str]) -> None:
    import torch

    from mer_lightning.data.raw import SPLITS

    tested = sum((corpus.tensors[f"partition.{name}"] == SPLITS.index("test")).int() for name in names)
    if int(torch.as_tensor(tested).max()) > 1:
        expected, found = "folds that test each sample once", "samples that several of them test"
        raise Refusal(f"{_OPTION} {', '.join(names)}", expected, found, "name other folds")

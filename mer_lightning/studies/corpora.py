"""Every stored corpus that a study reads is verified as a whole, once, before its first job."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from mer_lightning.errors import Refusal
from mer_lightning.studies.jobs import Job
from mer_lightning.training.given import DEFAULT_CORPUS, data_options, is_twin


def verified(jobs: Iterable[Job]) -> Iterator[Job]:
    """The same jobs; a Refusal before the first one whose corpus is not what its card says."""
    seen: set[Path] = set()
    for job in jobs:
        folder = corpus_of(job)
        if folder is not None and folder not in seen:
            from mer_lightning.data.corpus import open_corpus
            from mer_lightning.data.verification import verify

            seen.add(folder)
            verify(open_corpus(folder))
        yield job


def corpus_of(job: Job) -> Path | None:
    """The folder of the corpus that a job reads; None for a twin, which is made from its seed, and for what is no
    corpus folder: the job itself says what is wrong then."""
    from mer_lightning.data.places import find_corpus

    options = {"corpus": DEFAULT_CORPUS, "alignment": None, **data_options(job.arguments)}
    if is_twin(options) or not isinstance(options["corpus"], str):
        return None
    try:
        return find_corpus(options["corpus"], options["alignment"])
    except Refusal:
        return None

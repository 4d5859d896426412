"""Every stored corpus that a study reads is verified as a whole, once, before its first job."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mer_lightning.errors import Refusal
from mer_lightning.studies.jobs import Job
from mer_lightning.yaml_text import read_yaml

DEFAULT_CORPUS = "mosi"  # of MERDataModule, which is not imported here because it takes seconds


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


def is_twin(options: dict[str, Any]) -> bool:
    """Whether the options of the data ask for a synthetic twin; as on the command line, the answer may be a text."""
    return str(options.get("synthetic")).lower() == "true"


def data_options(arguments: Sequence[str]) -> dict[str, Any]:
    """What the arguments of a fit, and the configurations among them, say of the data: {option: value}."""
    options: dict[str, Any] = {}
    words = iter(arguments)
    for argument in words:
        option, equals, value = argument.partition("=")
        if option not in ("--config", "-c") and not option.startswith("--data."):
            continue
        value = value if equals else next(words, "")
        if option.startswith("--data."):
            options[option.removeprefix("--data.")] = value
        else:
            options |= _options_in(Path(value))
    return options


def _options_in(path: Path) -> dict[str, Any]:
    """Those of a configuration, nested or with dotted keys."""
    content = read_yaml(path, "a configuration", "mend the file") if path.is_file() else {}
    if not isinstance(content, dict):
        return {}
    nested = content.get("data")
    dotted = {key[5:]: value for key, value in content.items() if isinstance(key, str) and key.startswith("data.")}
    return (nested if isinstance(nested, dict) else {}) | dotted

"""A job: the arguments of one fit, and the folder that holds what came of it.

    FOLDER/job.json   what was asked for; written before the fit begins
    FOLDER/run/       the run's folder
    FOLDER.log        what the fit printed

A job that ended with the same arguments and the same configuration files is not run again. One that was killed is
resumed where it was, and ends with the same results.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mer_lightning.errors import Refusal
from mer_lightning.whole_files import write_whole

# The progress of a single run is of no use where many run at a time.
_QUIET = ["--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"]
_JOB = "job.json"


@dataclass(frozen=True)
class Job:
    """One run of a study.

    Args:
        folder: what belongs to this job alone.
        arguments: those of `mer-lightning fit`.
        configs: files among the arguments; where the content of one changes, the job is run again.
        group: what the job is counted under, such as the experiment that it repeats with another seed.
    """

    folder: Path
    arguments: tuple[str, ...]
    configs: tuple[Path, ...] = ()
    group: str = ""

    @property
    def label(self) -> str:
        return f"{self.group}/{self.folder.name}"

    @property
    def run_folder(self) -> Path:
        return self.folder / "run"

    @property
    def log(self) -> Path:
        return self.folder.parent / f"{self.folder.name}.log"

    @property
    def results(self) -> Path:
        from mer_lightning.training.run_folder import RESULTS

        return self.run_folder / RESULTS

    @property
    def done(self) -> bool:
        return self._was_begun() and self.results.is_file()

    def run(self) -> None:
        from mer_lightning.training.run_folder import CONFIG
        from mer_lightning.training.starting import run

        if self.done:
            return
        if self._was_begun() and (self.run_folder / CONFIG).is_file():
            run(["fit", "--resume", str(self.run_folder)])
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.mark()
        run(["fit", *self.arguments, *_QUIET, "--run_dir", str(self.run_folder)])

    def refuse_early(self) -> None:
        """Refuse what the fit would refuse at once, without running anything."""
        from mer_lightning.training.starting import refuse_early, resolved

        try:
            refuse_early(resolved(["fit", *self.arguments]))
        except Refusal as refusal:
            where = f"{self.label}: {refusal.where}"
            raise Refusal(where, refusal.expected, refusal.found, refusal.remedy) from None

    def mark(self) -> None:
        """Write what the folder is of."""
        write_whole(self.folder / _JOB, json.dumps(self._identity(), indent=2))

    def _was_begun(self) -> bool:
        """Whether the folder belongs to a job with the same version, arguments and files."""
        path = self.folder / _JOB
        return path.is_file() and json.loads(path.read_text()) == self._identity()

    def _identity(self) -> dict[str, Any]:
        from mer_lightning import __version__

        configs = {str(path): path.read_text() for path in self.configs}
        return {"version": __version__, "arguments": list(self.arguments), "configs": configs}


def by_group(jobs: Iterable[Job]) -> dict[str, list[Job]]:
    groups: dict[str, list[Job]] = {}
    for job in jobs:
        groups.setdefault(job.group, []).append(job)
    return groups


def write_overrides(path: Path, overrides: dict[str, Any]) -> Path:
    """Options of one job as flat JSON, the same text for the same options; `fit --config` reads it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(overrides, sort_keys=True, indent=2))
    return path

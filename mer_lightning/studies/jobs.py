"""A job: the arguments of one fit, and the folder that holds what came of it.

    FOLDER/job.json   what was asked for; written before the fit begins
    FOLDER/run/       the run's folder

A job that ended with the same arguments and the same configuration files is not done again; one that was killed goes on
where it was, to the same end.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Of the runs of a study nobody watches one alone.
_QUIET = ["--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"]
_JOB = "job.json"


@dataclass(frozen=True)
class Job:
    """``arguments`` are those of `mer-lightning fit`; ``configs`` are files among them whose content counts, too."""

    folder: Path
    arguments: tuple[str, ...]
    configs: tuple[Path, ...] = ()

    @property
    def run_folder(self) -> Path:
        return self.folder / "run"

    @property
    def results(self) -> Path:
        from mer_lightning.training.run_folder import RESULTS

        return self.run_folder / RESULTS

    @property
    def done(self) -> bool:
        return self._asked_for_this() and self.results.is_file()

    def run(self) -> None:
        from mer_lightning.training.lightning_cli import run
        from mer_lightning.training.run_folder import CONFIG, write_whole

        if self.done:
            return
        if self._asked_for_this() and (self.run_folder / CONFIG).is_file():
            run(["fit", "--resume", str(self.run_folder)])
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        write_whole(self.folder / _JOB, json.dumps(self._identity(), indent=2))
        run(["fit", *self.arguments, *_QUIET, "--run_dir", str(self.run_folder)])

    def _asked_for_this(self) -> bool:
        path = self.folder / _JOB
        return path.is_file() and json.loads(path.read_text()) == self._identity()

    def _identity(self) -> dict[str, Any]:
        from mer_lightning import __version__

        said = {str(path): path.read_text() for path in self.configs}
        return {"version": __version__, "arguments": list(self.arguments), "configs": said}


def run_silently(job: Job) -> float:
    """Seconds that a job took. What Lightning says is for one run at a time; of many, the tables say what matters."""
    import contextlib
    import warnings

    started = time.perf_counter()
    job.folder.parent.mkdir(parents=True, exist_ok=True)
    log = job.folder.parent / f"{job.folder.name}.log"
    with (
        log.open("w") as file,
        contextlib.redirect_stdout(file),
        contextlib.redirect_stderr(file),
        warnings.catch_warnings(),
    ):
        job.run()
    return time.perf_counter() - started

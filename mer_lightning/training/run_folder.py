"""A run's folder: everything needed to trust and repeat it.

config.yaml          the resolved configuration; `mer-lightning fit --config` runs it again
environment.json     versions, device, git state, command
begun.json           SHA-256 of both when the fit was begun; a fit that goes on must find them again
corpus.yaml          the card of the corpus, with the SHA-256 of its tensors
checkpoints/         best.ckpt by the selection rule, last.ckpt; those of earlier phases in folders of their own
phases.json          the phases that are over
diverged.json        of a run that met a number that is NaN or infinite: where, and the last good checkpoint
logs/                metrics over time
results.csv          one row per condition and metric, with floors and everything that rule 6 asks for
predictions.parquet  one row per sample and condition
samples.parquet      the samples of the split: id, sentence, and columns that form groups (speaker, dialogue, any)
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mer_lightning.errors import Diverged, Refusal
from mer_lightning.locks import locked
from mer_lightning.training.processes import of_first_process
from mer_lightning.whole_files import whole, write_whole

if TYPE_CHECKING:
    import pandas as pd

# Processes that DDP starts again from the command line find the folder of the first one here.
_VARIABLE = "MER_RUN_FOLDER"

CONFIG, ENVIRONMENT, CORPUS = "config.yaml", "environment.json", "corpus.yaml"
RESULTS, PREDICTIONS, SAMPLES = "results.csv", "predictions.parquet", "samples.parquet"
PHASES, DIVERGED, BEGUN = "phases.json", "diverged.json", "begun.json"
BEST = Path("checkpoints") / "best.ckpt"


_taken = contextlib.ExitStack()  # what this process holds of its run's folder


def new_run_folder(asked: str | None, parent: Path, resume: bool = False) -> Path:
    """``asked``, or the next number under ``parent``; the same in every process of one run.

    Until ``forget_run_folder`` no other command can take it.
    """
    if shared := os.environ.get(_VARIABLE):
        return Path(shared)
    folder = Path(of_first_process(lambda: str(_take(asked, parent, resume))))
    if "LOCAL_RANK" not in os.environ:
        os.environ[_VARIABLE] = str(folder)
    return folder


def forget_run_folder() -> None:
    """The next run of this process gets a folder of its own; one that is empty, as after a refusal, goes."""
    os.environ.pop(_VARIABLE, None)
    _taken.close()


def _take(asked: str | None, parent: Path, resume: bool) -> Path:
    folder = Path(asked) if asked else _next_number(parent)
    _create(folder)
    _taken.enter_context(locked(folder))
    if (folder / RESULTS).exists():
        raise Refusal(folder, "a folder without results", "those of another run", "choose another --run_dir")
    if not resume and (folder / "checkpoints").exists():
        remedy = f"go on with it: mer-lightning fit --resume {folder}"
        raise Refusal(folder, "a folder without checkpoints", "those of an unfinished run", remedy)
    return folder


def _create(folder: Path) -> None:
    new = [path for path in (*reversed(folder.parents), folder) if not path.exists()]
    for path in new:
        _taken.callback(_remove_empty, path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        found = error.strerror or type(error).__name__
        raise Refusal(folder, "a place where a folder can be made", found, "choose another --run_dir") from error


def _remove_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):  # it is not empty
        folder.rmdir()


def _next_number(parent: Path) -> Path:
    _create(parent)
    number = 1 + max((int(path.name) for path in parent.iterdir() if path.name.isdigit()), default=0)
    while True:
        try:
            (parent / str(number)).mkdir()
        except FileExistsError:  # another run took it just now
            number += 1
        else:
            _taken.callback(_remove_empty, parent / str(number))
            return parent / str(number)


def metrics_over_time(folder: Path) -> pd.DataFrame:
    """What a run's fit has logged: in several files if it was resumed, some of them empty if it was killed early."""
    import pandas as pd

    paths = sorted(path for path in (folder / "logs").rglob("metrics.csv") if path.stat().st_size)
    return pd.concat([pd.read_csv(path) for path in paths], ignore_index=True) if paths else pd.DataFrame()


def environment() -> dict[str, Any]:
    """Versions, device, git state and command line."""
    import torch

    packages = ("mer-lightning", "lightning", "torch", "torchmetrics", "numpy", "pandas", "jsonargparse")
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "command": ["mer-lightning", *sys.argv[1:]],
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in packages},
        "platform": f"{platform.system()} {platform.machine()}",
        "devices": gpus or [f"CPU, {torch.get_num_threads()} threads"],
        "git": _git_state(),
    }


@contextlib.contextmanager
def marked_if_diverged(folder: Path, first_process: Callable[[], bool]) -> Iterator[None]:
    """Whatever diverges leaves a mark in the run's folder; a run that goes on beyond it takes the mark away."""
    mark = folder / DIVERGED
    try:
        yield
    except Diverged as diverged:
        checkpoints = sorted((folder / "checkpoints").rglob("last.ckpt"), key=lambda path: path.stat().st_mtime)
        diverged.kept = str(checkpoints[-1]) if checkpoints else None
        if first_process():
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(mark, json.dumps({"line": str(diverged), **vars(diverged)}, indent=2) + "\n")
        raise
    if first_process():
        mark.unlink(missing_ok=True)


def divergence_line(folder: Path) -> str:
    """What the mark of a run that diverged says."""
    try:
        return str(json.loads((folder / DIVERGED).read_text(encoding="utf-8"))["line"])
    except (ValueError, KeyError, TypeError):
        return "diverged; its mark cannot be read"


def write_results(folder: Path, rows: pd.DataFrame, predictions: pd.DataFrame, samples: pd.DataFrame) -> None:
    """The results of a run, last of all: where they are, everything is."""
    for name, frame in ((PREDICTIONS, predictions), (SAMPLES, samples)):
        with whole(folder / name) as temporary:
            frame.to_parquet(temporary, index=False)
    write_whole(folder / RESULTS, rows.to_csv(index=False))


def write_environment(folder: Path) -> None:
    write_whole(folder / ENVIRONMENT, json.dumps(environment(), indent=2) + "\n")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_state() -> dict[str, Any] | None:
    def ask(*words: str) -> str:
        return subprocess.run(["git", *words], capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        return {"commit": ask("rev-parse", "HEAD"), "changed_files": len(ask("status", "--porcelain").splitlines())}
    except (OSError, subprocess.SubprocessError):
        return None

"""All phases of one fit, each with a Trainer of its own, and what makes a fit resumable after it was killed.

In the run's folder:
    phases.json                      the phases that are over: epochs, seconds, best validation score
    checkpoints/PHASE/{best,last}.ckpt   of every phase but the last
    checkpoints/{best,last}.ckpt     of the last phase: best.ckpt is the run's result
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from mer_lightning.errors import reading
from mer_lightning.methods.base import MERMethod
from mer_lightning.methods.phase import Phase
from mer_lightning.plain_values import expect
from mer_lightning.randomness import name_key, uniform
from mer_lightning.training.restoring import fit_from, load_weights
from mer_lightning.training.run_folder import PHASES
from mer_lightning.whole_files import write_whole

_PHASES, _REMEDY = "the phases that are over", "begin anew in another --run_dir"

# (phase, callbacks) -> its Trainer
TrainerMaker = Callable[[Phase, list[Callback]], Trainer]


def fit_phases(
    method: MERMethod, data: Any, folder: Path, trainer_for: TrainerMaker, seed: int, patience: int, ckpt_path: Any
) -> None:
    """Fit the phases that are not done. A phase that was interrupted continues from its last saved epoch."""
    done = _done(folder)
    previous: Path | None = None
    phases = method.phases()
    for number, phase in enumerate(phases):
        checkpoints = folder / "checkpoints" / ("" if number == len(phases) - 1 else phase.name)
        best, last = checkpoints / "best.ckpt", checkpoints / "last.ckpt"
        if phase.name not in done:
            if previous is not None and previous.is_file():
                load_weights(method, previous)
            method.enter(phase)
            callbacks = phase_callbacks(method, checkpoints, seed, max(round(patience * phase.patience), 1))
            trainer = trainer_for(phase, [AnnouncePhase(number + 1, len(phases)), *callbacks])
            began = time.monotonic()
            start = last if last.is_file() else (ckpt_path if number == 0 else None)
            fit_from(trainer, method, data, start)
            done[phase.name] = {
                "epochs": trainer.current_epoch,
                "max_epochs": trainer.max_epochs,
                "seconds": round(time.monotonic() - began, 1),
                "score": _score(trainer),
                "peak_megabytes": _peak_megabytes(),
            }
            if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
                write_whole(folder / PHASES, json.dumps(done, indent=2) + "\n")
        previous = best


def phase_callbacks(method: MERMethod, checkpoints: Path, seed: int, patience: int) -> list[Callback]:
    monitor = f"{method.prefix}valid/score"  # higher is better for every task
    return [
        EpochSeeds(seed, name_key(method.phase.name if method.phase else "")),
        Stopping(monitor=monitor, mode="max", patience=patience, strict=False, check_on_train_epoch_end=True),
        Checkpoint(checkpoints, "best", monitor=monitor, mode="max", save_weights_only=True),
        LastCheckpoint(checkpoints, "last"),
    ]


class AnnouncePhase(Callback):
    """One line on what a phase trains, where there are several."""

    def __init__(self, number: int, phases: int) -> None:
        self.number, self.phases = number, phases

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.phases > 1 and trainer.is_global_zero and isinstance(pl_module, MERMethod) and pl_module.phase:
            trained = sum(p.numel() for p in pl_module.parameters() if p.requires_grad)
            epochs = f"at most {trainer.max_epochs} epoch{'' if trainer.max_epochs == 1 else 's'}"
            name = pl_module.phase.name
            print(f"phase {self.number} of {self.phases}, {name}: {trained:,} parameters learn, {epochs}")


class Checkpoint(ModelCheckpoint):
    """Saved when the whole epoch is over, validation included: going on from there repeats and skips nothing."""

    def __init__(self, folder: Path, filename: str, **kept: Any) -> None:
        super().__init__(folder, filename, save_on_train_epoch_end=True, enable_version_counter=False, **kept)


class LastCheckpoint(Checkpoint):
    """The checkpoint from which a fit is resumed, saved at the end and as often as that takes a fiftieth of the time:
    epochs that were not saved are trained again, to the same weights. (Lightning's own save_last writes only when the
    best score improves.)"""

    _SHARE = 1 / 50
    _due = 0.0

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        began = time.monotonic()
        if trainer.strategy.broadcast(began >= self._due):  # all processes or none
            super().on_train_epoch_end(trainer, pl_module)
            took = time.monotonic() - began
            self._due = began + took / self._SHARE

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._due = 0.0
        self.on_train_epoch_end(trainer, pl_module)


class EpochSeeds(Callback):
    """Seeds dropout and noise at the start of each epoch from seed, phase, epoch and process: a fit that was killed and
    resumed draws the same numbers as one that was not."""

    def __init__(self, seed: int, phase: int) -> None:
        self.keys = (seed, phase)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if batch_idx == 0:  # not at the epoch's start: between there and here Lightning draws, but not always
            torch.manual_seed(int(uniform(*self.keys, trainer.current_epoch, trainer.global_rank) * 2**53))


class Stopping(EarlyStopping):
    """Early stopping that also stops a fit which was killed after its last epoch, when it is started again."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        if self.wait_count >= self.patience:
            trainer.should_stop = True


def _score(trainer: Trainer) -> float | None:
    found = getattr(trainer.checkpoint_callback, "best_model_score", None)
    return None if found is None else round(float(found), 6)


def _peak_megabytes() -> float:
    """The most memory that was in use: of the accelerator, or of this process since it began."""
    if torch.cuda.is_available():
        return round(torch.cuda.max_memory_allocated() / 2**20, 1)
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    unit = 1 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20, 1)


def _done(folder: Path) -> dict[str, Any]:
    path = folder / PHASES
    with reading(path, _PHASES, _REMEDY):
        done = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return dict(expect(path, done, dict[str, dict[str, Any]], _PHASES, _REMEDY))

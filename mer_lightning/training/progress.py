"""The progress of a fit: one bar for each phase on a terminal, one line for each epoch everywhere else."""

from __future__ import annotations

import math
import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from mer_lightning.numerals import number


class FitProgress(ProgressBar):
    """Phase, epoch from 1, loss, validation score (higher is better) and the best one so far."""

    def __init__(self) -> None:
        super().__init__()
        self._console = Console(highlight=False)
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._shown = True
        self._epoch: int | None = None  # that runs, from 1
        self._best, self._best_epoch = -math.inf, 0
        self._began = time.monotonic()

    def disable(self) -> None:
        """Lightning calls it in all processes but the first."""
        self._shown = False

    def enable(self) -> None:
        self._shown = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._began = time.monotonic()
        # Where a notebook or a CI asks for colours, rich takes a pipe for a terminal.
        if not self._shown or not self._console.file.isatty():
            return
        columns = (
            *(TextColumn("{task.description}"), BarColumn(bar_width=None)),
            *(TextColumn(f"{{task.fields[{name}]}}") for name in ("loss", "score", "best")),
            *(TimeRemainingColumn(compact=True), TextColumn("left")),
        )
        self._bar = Progress(*columns, console=self._console, expand=True, transient=True, refresh_per_second=4)
        epochs = trainer.max_epochs or 0
        total = epochs * self.total_train_batches if epochs > 0 and math.isfinite(self.total_train_batches) else None
        self._task = self._bar.add_task(
            self._where(trainer), total=total, completed=trainer.global_step, loss="", score="", best=""
        )
        self._bar.start()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._tell_of_the_epoch_before(trainer)
        self._epoch = trainer.current_epoch + 1
        if self._bar:
            self._bar.update(self._task, description=self._where(trainer))

    def on_train_batch_end(self, *args: Any) -> None:
        if self._bar:
            self._bar.advance(self._task)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._tell_of_the_epoch_before(trainer)
        self._stop()
        if self._shown and self._console.file.isatty():
            best = f", best score {number(self._best)} in epoch {self._best_epoch}" if self._best_epoch else ""
            seconds = time.monotonic() - self._began
            self._console.print(f"{_phase(trainer)}: {trainer.current_epoch} epochs{best}, {seconds:.0f} s")

    def _tell_of_the_epoch_before(self, trainer: Trainer) -> None:
        """When it is over for all: methods log its loss after the callbacks have heard of its end."""
        if self._epoch is None:
            return
        prefix = getattr(trainer.lightning_module, "prefix", "")
        loss, score = (trainer.callback_metrics.get(f"{prefix}{name}") for name in ("train/loss", "valid/score"))
        if score is not None and float(score) > self._best:
            self._best, self._best_epoch = float(score), self._epoch
        facts: dict[str, Any] = {
            "loss": "" if loss is None else f"loss {number(float(loss))}",
            "score": "" if score is None else f"score {number(float(score))}",
            "best": f"best {number(self._best)}" if self._best_epoch else "",
        }
        if self._bar:
            self._bar.update(self._task, **facts)
        elif self._shown:
            best = f" in epoch {self._best_epoch}" if self._best_epoch else ""
            print(f"{self._where(trainer)}: {', '.join(filter(None, facts.values()))}{best}")
        self._epoch = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._bar:
            self._bar.stop()
            self._bar = None

    def _where(self, trainer: Trainer) -> str:
        of = f"/{trainer.max_epochs}" if trainer.max_epochs and trainer.max_epochs > 0 else ""
        return f"{_phase(trainer)} {self._epoch or 1}{of}"


def _phase(trainer: Trainer) -> str:
    phase = getattr(trainer.lightning_module, "phase", None)
    return str(phase.name) if phase else "fit"

"""What happens around a run: its folder is filled, and a person sees one table."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.loggers import CSVLogger

from mer_lightning import output
from mer_lightning.data.corpus import CorpusCard
from mer_lightning.data.importing.own_corpus import DID_YOU_MEAN
from mer_lightning.evaluation.floors import constants
from mer_lightning.evaluation.predictions import Predictions, prediction_table
from mer_lightning.evaluation.references import References, references
from mer_lightning.evaluation.results import Presence, Provenance, table, tidy, title_of
from mer_lightning.methods.base import MERMethod
from mer_lightning.signals import terminate
from mer_lightning.tasks import Task
from mer_lightning.training.begun import write_begun
from mer_lightning.training.run_folder import (
    CONFIG,
    CORPUS,
    write_environment,
    write_results,
)
from mer_lightning.training.wandb_logger import send_results
from mer_lightning.whole_files import write_whole
from mer_lightning.yaml_text import from_yaml

if TYPE_CHECKING:
    import pandas as pd


class RunConfig(SaveConfigCallback):
    """Writes the resolved configuration, the environment and the corpus card where the run lives."""

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        folder = Path(trainer.default_root_dir)
        if self.config.resume:  # what the fit was begun with is there already
            return
        folder.mkdir(parents=True, exist_ok=True)
        write_environment(folder)
        card: CorpusCard = trainer.datamodule.corpus.card  # type: ignore[attr-defined]
        mapped = pl_module.label_map if isinstance(pl_module, MERMethod) else None
        write_whole(folder / CORPUS, (replace(card, task=mapped.task.card()) if mapped else card).dump())
        write_begun(folder, self.parser.dump(self.config, skip_none=False), card.sha256)
        for logger in trainer.loggers:
            if not isinstance(logger, CSVLogger):  # the folder has it already
                logger.log_hyperparams(from_yaml((folder / CONFIG).read_text()))


class EndAtOnce(Callback):
    """Takes SIGTERM back from Lightning, which would note it, tell the other processes, and go on for a while."""

    def _take_back(self, trainer: Trainer, pl_module: LightningModule) -> None:
        connector = trainer._signal_connector
        ours = connector._original_handlers.get(signal.SIGTERM)
        if ours is terminate:
            signal.signal(signal.SIGTERM, ours)

    on_fit_start = on_validation_start = on_test_start = on_predict_start = _take_back


class Announce(Callback):
    """One line on what is about to be trained."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.announced = False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, MERMethod)
        if trainer.is_global_zero and not self.announced:
            data: Any = trainer.datamodule  # type: ignore[attr-defined]
            parameters = sum(p.numel() for p in pl_module.parameters())
            print(
                f"{type(pl_module).__name__} on {type(pl_module.backbone).__name__}, {parameters:,} parameters; "
                f"{data.corpus.card.label}: {len(data.split('train'))} training and {len(data.split('valid'))} "
                f"validation samples of {data.partition}; {self.folder}"
            )
            for modality in pl_module.untrained:
                print(f"! no training sample has {modality}: nothing is learnt of it, and results that show it say so")
            self._doubts(trainer)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self.announced:
            self._doubts(trainer)

    on_validation_start = on_predict_start = on_test_start

    def _doubts(self, trainer: Trainer) -> None:
        """Arrays of a file of one's own whose names are nearly right."""
        self.announced = True
        notes = trainer.datamodule.corpus.card.notes if trainer.is_global_zero else []  # type: ignore[attr-defined]
        for note in notes:
            if DID_YOU_MEAN in note:
                print(f"! {note}")


class WriteResults(Callback):
    """After a test: results.csv and predictions.parquet in the run's folder."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed = folder, seed
        self.rows: pd.DataFrame | None = None  # on the first process only
        self.task: Task | None = None

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, MERMethod)
        predictions, task = pl_module.tested()
        if trainer.is_global_zero:
            self._write(trainer, pl_module, predictions, task)

    def _write(self, trainer: Trainer, method: MERMethod, predictions: Predictions, task: Task) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        frozen = method.frozen_protocol
        assert frozen is not None
        labels = "its own"
        if mapped := method.label_map:
            labels = str(mapped)
            # A linear model of other classes than those compared would be no reference.
            train_target = mapped.targets(data.split("train").target)
            beside = References(constants(task, train_target, len(predictions.index)))
        else:
            beside = references(task, data.corpus, data.partition, "test", frozen).of(predictions.index)
        rows = tidy(
            predictions,
            task,
            frozen.protocol,
            data.corpus.card,
            beside,
            Provenance(
                method=method.label,
                backbone=type(method.backbone).__name__,
                trained_on=method.trained_on,
                corpus=data.corpus.card.label,
                labels=labels,
                corpus_sha256=data.corpus.card.sha256[:16],
                feature_set=data.corpus.card.feature_set_label,
                partition=data.partition,
                split="test",
                selection=method.selection_rule,
                training_masks=str(data.masks),
                protocol=str(method.protocol),
                mask_hash=frozen.mask_hash,
                seed=self.seed,
                samples=len(predictions.index),
            ),
            Presence(
                frozen.present[:, predictions.index],
                data.split("test").present[predictions.index].cpu(),
                method.untrained,
            ),
        )
        self.rows, self.task = rows, task
        self.folder.mkdir(parents=True, exist_ok=True)
        conditions = [condition.name for condition in frozen.conditions]
        table_of_predictions = prediction_table(predictions, task, conditions, data.split("test").ids)
        write_results(self.folder, rows, table_of_predictions, data.split("test").described_samples())
        for logger in trainer.loggers:
            send_results(logger, self.folder, rows)

    def show(self) -> None:
        """The results of this run."""
        if self.rows is not None:
            output.give({"run": self.folder, "results": self.rows}, self._show_table)

    def _show_table(self) -> None:
        assert self.rows is not None
        assert self.task is not None
        from rich.console import Console

        first = self.rows.iloc[0]
        console = Console()
        console.print(table(self.rows, self.task, title_of(self.rows)))
        if first["trained_on"] != first["corpus"]:
            left = f"; {first['samples']} samples" if first["labels"] != "its own" else ""
            console.print(f"[dim]trained on {first['trained_on']}; labels: {first['labels']}{left}[/]", highlight=False)
        console.print(f"[dim]chosen by {first['selection']}; masks {first['mask_hash']}[/]", highlight=False)
        console.print(f"[dim]{self.folder}: config, checkpoints, results, predictions[/]", highlight=False)

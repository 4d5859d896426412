"""How every method trains: the losses of one phase at a time, logged by name, and one optimiser per phase."""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from typing import Any, Self

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from mer_lightning.backbones.base import Backbone
from mer_lightning.batch import Batch
from mer_lightning.errors import Diverged
from mer_lightning.methods import divergence, materiality
from mer_lightning.methods.inputs import Inputs
from mer_lightning.methods.optimizing import Schedule, decayed_and_plain, with_fused_kernels, with_schedule
from mer_lightning.methods.phase import Phase


class PhasedTraining(LightningModule, ABC):
    """What Lightning calls while it trains. A subclass says which phases there are."""

    inputs: Inputs
    backbone: Backbone
    optimizer_factory: OptimizerCallable
    schedule: Schedule

    def __init__(self) -> None:
        super().__init__()
        self.phase: Phase | None = None
        self.prefix = ""  # of the names of logged values
        self._learners: list[nn.Parameter] | None = None
        self._shares: dict[str, list[Tensor]] = {}  # {loss: its share of the task's gradient, when it was measured}
        self._watched: list[divergence.WatchedStep] = []  # steps whose losses nobody has looked at
        self._sums: dict[str, tuple[Tensor | float, int]] = {}  # {name: (sum over an epoch's samples, their number)}

    @abstractmethod
    def phases(self) -> tuple[Phase, ...]:
        """The stretches of one fit, in their order; the last one's best weights are the run's."""

    def enter(self, phase: Phase) -> None:
        """From now on train what the phase trains; everything else stands still."""
        if self._learners is None:  # without what is frozen for good, such as lower layers of a text encoder
            self._learners = [parameter for parameter in self.parameters() if parameter.requires_grad]
        self.phase = phase
        # Metrics of the last phase are the run's; those of the phases before it carry the phase's name.
        self.prefix = "" if phase.name == self.phases()[-1].name else f"{phase.name}/"
        trained = {id(parameter) for part in phase.trained or (self,) for parameter in part.parameters()}
        for parameter in self._learners:
            parameter.requires_grad_(id(parameter) in trained)
        self.train()  # Lightning leaves modes as it finds them

    def train(self, mode: bool = True) -> Self:
        """Lightning sets everything to training mode; what the phase does not train must stay in evaluation mode."""
        super().train(mode)
        if mode and self.phase is not None and self.phase.trained is not None:
            for child in self.children():
                child.eval()
            for part in self.phase.trained:
                part.train()
        return self

    @property
    def progress(self) -> float:
        """The share of the phase's training steps that is done, for ramps and warm-ups; 0 outside a fit."""
        if self._trainer is None:
            return 0.0
        return self.trainer.global_step / max(int(self.trainer.estimated_stepping_batches), 1)

    def from_all_processes(self, tensor: Tensor) -> Tensor:
        """(W B, ...) of (B, ...) on W processes; a gradient finds its way back to the process that it belongs to."""
        if self._trainer is None or not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return tensor
        gathered: Any = self.all_gather(tensor, sync_grads=tensor.requires_grad)
        return gathered.reshape(-1, *tensor.shape[1:])

    def mean_where(self, values: Tensor, counted: Tensor) -> Tensor:
        """The mean of the values that count: over all processes, once DDP has averaged what each of them returns."""
        own = counted.sum().float().view(1)
        return (values * counted).sum() / self.from_all_processes(own).mean().clamp(min=1 / self._processes)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        assert self.phase is not None
        losses = self.phase.losses(self.inputs(batch))
        if self._measures_pulls(batch_idx):
            self._add_pulls(materiality.pulls(losses, self.encoder_parameters()))
        total = torch.stack([weight * value for value, weight in losses.values()]).sum()
        parts = {name: value.detach() for name, (value, _) in losses.items()} | {divergence.TOTAL: total.detach()}
        self._watch(batch, parts)
        self.log_means({f"{self.prefix}train/{name}": value for name, value in parts.items()}, len(batch))
        return total

    # --- losses that are NaN or infinite

    def _watch(self, batch: Batch, losses: dict[str, Tensor]) -> None:
        """Look at once where that costs nothing, else at many steps together."""
        at_once = self.device.type == "cpu" and self._processes == 1
        if at_once and math.isfinite(float(losses[divergence.TOTAL])):
            return
        step = 0 if self._trainer is None else self.trainer.global_step
        kept = batch if at_once else None
        self._watched.append(divergence.WatchedStep(step, self.current_epoch, losses, kept, batch.index))
        if at_once or len(self._watched) == divergence.EVERY:
            self.stop_if_diverged()

    @property
    def _processes(self) -> int:
        return 1 if self._trainer is None else self.trainer.world_size

    def stop_if_diverged(self) -> None:
        """Raise Diverged in all processes if one of them met a loss that is not finite since the last call."""
        steps, self._watched = self._watched, []
        bad = divergence.first_bad(steps) if steps else None
        if self._processes == 1:
            if bad is not None:
                raise self._diverged(bad)
        elif self.trainer.strategy.reduce_boolean_decision(bad is not None, all=False):
            facts: list[Any] = [None] * self._processes
            torch.distributed.all_gather_object(facts, vars(self._diverged(bad)) if bad else None)
            raise Diverged(**min(filter(None, facts), key=lambda each: each["step"]))

    def _diverged(self, bad: divergence.WatchedStep) -> Diverged:
        split = None if self._trainer is None else self.trainer.datamodule.split("train")  # type: ignore[attr-defined]
        batch = bad.batch
        if batch is None and split is not None:
            batch = split.batch(bad.index.cpu()).to(self.device)
        self.eval()  # without dropout: nothing is trained after this
        origin = None
        if batch is not None:
            ids = split.ids if split is not None else [str(row) for row in range(int(bad.index.max()) + 1)]
            origin = divergence.origin(batch, ids, self.inputs, self.backbone)
        phase = self.phase.name if self.phase else ""
        return Diverged(phase=phase, what=bad.reason(), step=bad.step, epoch=bad.epoch, origin=origin)

    def on_validation_start(self) -> None:
        """Before weights that are no numbers make predictions."""
        self.stop_if_diverged()

    # --- logged values

    def log_means(self, values: dict[str, Tensor], samples: int) -> None:
        """Log each value's mean over the samples of an epoch (`self.log` can do so too, and slows small steps down)."""
        for name, value in values.items():
            total, count = self._sums.get(name, (0.0, 0))
            self._sums[name] = (total + value.detach() * samples, count + samples)

    def on_train_epoch_end(self) -> None:
        self.stop_if_diverged()  # before the checkpoint of this epoch is written
        for name, (total, count) in self._sums.items():
            self.log(name, total / count, prog_bar=name.endswith("train/loss"))
        self._sums.clear()

    # --- how much each loss moves the encoders

    def encoder_parameters(self) -> list[nn.Parameter]:
        """What makes the vectors of the modalities; of a backbone whose vectors are not learnt, all its parameters."""
        encoder = self.inputs.text_encoder
        parameters = [*self.backbone.encoder_parameters(), *(encoder.parameters() if encoder else ())]
        return parameters or list(self.backbone.parameters())

    def _measures_pulls(self, batch_idx: int) -> bool:
        """Once in the middle of every fifth epoch; in all processes, since gathered gradients wait for all of them."""
        middle = self._trainer is not None and batch_idx == int(self.trainer.num_training_batches) // 2
        return middle and self.current_epoch % materiality.EVERY == 0

    def _add_pulls(self, pulls: dict[str, materiality.Pull]) -> None:
        for name, pull in pulls.items():
            self.log_means({f"{self.prefix}{materiality.SHARE}{name}": pull.share}, 1)
            self.log_means({f"{self.prefix}{materiality.COSINE}{name}": pull.cosine}, 1)
            self._shares.setdefault(name, []).append(pull.share)

    def on_fit_end(self) -> None:
        """Say which losses of the phase hardly moved the encoders."""
        means = {name: float(torch.stack(shares).mean()) for name, shares in self._shares.items()}
        self._shares.clear()
        if (line := materiality.immaterial(means)) and self.global_rank == 0:
            warnings.warn(f"{type(self).__name__}, phase {self.phase.name if self.phase else ''}: {line}", stacklevel=1)

    # --- the optimiser

    def configure_optimizers(self) -> OptimizerLRScheduler:
        encoder = self.inputs.text_encoder
        of_encoder = {id(parameter) for parameter in encoder.parameters()} if encoder else set()
        groups = decayed_and_plain(parameter for parameter in self.parameters() if id(parameter) not in of_encoder)
        groups += decayed_and_plain(encoder.parameters(), lr=encoder.lr) if encoder else []
        optimizer = ((self.phase.optimizer if self.phase else None) or self.optimizer_factory)(groups)
        steps = max(int(self.trainer.estimated_stepping_batches), 1)
        return with_schedule(with_fused_kernels(optimizer), self.schedule, steps)

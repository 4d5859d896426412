"""What every method shares: inputs, one evaluation for all conditions, selection, and the optimiser.

A method is one file: a subclass of :class:`MERMethod` that writes ``training_losses``.

Shapes: B batch, M = 3 modalities, K conditions, O outputs, d width of the state.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from mer_lightning.backbones.base import BackboneFactory, Encoded
from mer_lightning.batch import Batch
from mer_lightning.encoders.base import TextEncoderFactory, refuse_other_text, refuse_other_than_ids
from mer_lightning.evaluation.label_spaces import LabelMap
from mer_lightning.evaluation.metrics import evaluate, score
from mer_lightning.evaluation.predictions import PredictionStore
from mer_lightning.evaluation.protocols import FrozenProtocol, Protocol, freeze
from mer_lightning.methods.fitting import refuse_what_does_not_fit
from mer_lightning.methods.optimizing import Schedule, decayed_and_plain, fused, with_schedule
from mer_lightning.methods.phase import Losses, Phase
from mer_lightning.modalities import COMPLETE, MODALITIES
from mer_lightning.tasks import task_from_card

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mer_lightning.methods.finished_runs import FinishedRuns

__all__ = ["Losses", "MERMethod", "Phase"]

_OUTLIER = 10.0  # deviations; extracted audio features hold isolated values thousands of deviations away


class MERMethod(LightningModule, ABC):
    """A backbone, a classifier and a way to train them.

    Args:
        dims: width of each modality's features; given by the data.
        task_card: what is predicted; given by the data.
        backbone: the fusion model, by its name (`mer-lightning backbones`) and options.
        optimizer: made from the parameters; weight decay leaves norms and biases alone.
        schedule: of the learning rate, after a warm-up over the first tenth of the steps.
        select_under: what the validation score that chooses the checkpoint is measured under: the complete input,
            or the mean over the seven combinations.
        text_encoder: what makes vectors of a corpus whose text is token ids, e.g. hugging_face; its learning rate is
            its own.
    """

    reconstruction: ClassVar[bool] = False  # of a paper that gives neither equations nor code; results say so

    def __init__(
        self,
        dims: dict[str, int],
        task_card: dict[str, Any],
        backbone: BackboneFactory,
        optimizer: OptimizerCallable = lambda p: torch.optim.AdamW(p, lr=1e-3, weight_decay=1e-2),
        schedule: Schedule = "cosine",
        select_under: Literal["tav", "fixed-7"] = "tav",
        text_encoder: TextEncoderFactory | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.dims, self.task = dict(dims), task_from_card(task_card)
        self.optimizer_factory, self.schedule, self.select_under = optimizer, schedule, select_under
        self.text_encoder = text_encoder() if text_encoder else None
        widths = self.dims
        if self.text_encoder is not None:
            refuse_other_text("text_encoder", self.dims)
            widths = self.dims | {"text": self.text_encoder.width}
        self.backbone = backbone(widths)
        self.vocabulary = self.text_encoder.vocabulary if self.text_encoder else self.backbone.vocabulary
        self.head = nn.Linear(self.backbone.state_width, self.task.outputs)
        for modality, dim in self.dims.items():
            self.register_buffer(f"mean_{modality}", torch.zeros(dim))
            self.register_buffer(f"scale_{modality}", torch.ones(dim))
        self.register_buffer("known", torch.tensor([m in self.dims for m in MODALITIES]), persistent=False)
        self.protocol = Protocol(["fixed-7"])
        self.store = PredictionStore()
        self.frozen: FrozenProtocol | None = None
        self.trained_on = ""  # the corpus; a checkpoint keeps it
        self.label_map: LabelMap | None = None  # how classes are read, in a test on a corpus with others
        self.phase: Phase | None = None
        self.prefix = ""
        self._learners: list[nn.Parameter] | None = None
        self._watched: dict[str, tuple[Tensor | float, int]] = {}  # sums over an epoch, and of how many samples

    # --- what a method writes, and what it builds on

    @abstractmethod
    def training_losses(self, batch: Batch) -> Losses:
        """The one thing a method must write: {name: (value, weight)}; training minimises the weighted sum."""

    def phases(self) -> tuple[Phase, ...]:
        """The stretches of one fit, in their order; the last one's best weights are the run's."""
        return (Phase("fit", self.training_losses),)

    def states(self, encoded: Encoded, present: Tensor) -> Tensor:
        """(K, B, d) what the head reads under K masks (K, B, M): the backbone's, unless a method makes its own."""
        return self.backbone.fuse_many(encoded, present)

    def extras(self, states: Tensor) -> dict[str, Tensor]:
        """{name: (K, B)} to be kept beside the predictions, for reports."""
        return {}

    @staticmethod
    def figures(runs: FinishedRuns) -> dict[str, Figure]:
        """{caption: figure} for the report, of what only this method has; none unless a method draws some."""
        return {}

    def task_losses(self, state: Tensor, batch: Batch) -> Tensor:
        """(B,) the task's loss of each sample."""
        assert batch.target is not None
        return self.task.losses(self.head(state), batch.target)

    @property
    def label(self) -> str:
        """How results call the method."""
        return type(self).__name__ + (" (reconstruction)" if self.reconstruction else "")

    @property
    def progress(self) -> float:
        """The share of the phase's training steps that is done, for ramps and warm-ups; 0 outside a fit."""
        if self._trainer is None:
            return 0.0
        return self.trainer.global_step / max(int(self.trainer.estimated_stepping_batches), 1)

    def from_all_processes(self, tensor: Tensor) -> Tensor:
        """(W B, ...) of (B, ...); a gradient finds its way back to the process that it belongs to."""
        if self._trainer is None:
            return tensor
        gathered: Any = self.all_gather(tensor, sync_grads=tensor.requires_grad)
        return gathered.reshape(-1, *tensor.shape[1:])

    # --- phases

    def enter(self, phase: Phase) -> None:
        """Train what the phase trains, from now on; the rest stands still."""
        if self._learners is None:  # not what a text encoder, say, keeps frozen for good
            self._learners = [parameter for parameter in self.parameters() if parameter.requires_grad]
        self.phase = phase
        # The last phase's metrics are the run's; those of the phases before it carry the phase's name.
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

    def setup(self, stage: str) -> None:
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        self.refuse_what_does_not_fit(data, stage)
        if stage == "fit":
            self.trained_on = data.corpus.card.label
            if self.phase is None:
                self.enter(self.phases()[0])
            if self.vocabulary is not None:
                refuse_other_than_ids(data.corpus.card.label, data.training_frames("text"), self.vocabulary)
            self.protocol.refuse_if_shown(data.masks.present(len(data.split("train")), epoch=0, seed=data.seed))
            for modality, (mean, deviation) in data.feature_statistics().items():
                # A column that never varies in training says nothing; scale 0 keeps a surprise in it from exploding.
                scale = torch.where(deviation > 1e-6, 1 / deviation.clamp(min=1e-6), 0.0)
                self.get_buffer(f"mean_{modality}").copy_(mean)
                self.get_buffer(f"scale_{modality}").copy_(scale)

    def refuse_what_does_not_fit(self, data: Any, stage: str) -> None:
        """A method that needs more of a corpus or a backbone says so here, too."""
        refuse_what_does_not_fit(self, data, stage)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["trained_on"] = self.trained_on

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.trained_on = checkpoint["trained_on"]

    def prepared(self, batch: Batch) -> Batch:
        """Standardised features of the modalities that the model was built for; those not there are absent.

        Token ids stay as they are, or become the vectors of the text encoder.
        """
        features, lengths = {}, {}
        for m in self.dims:
            if m not in batch.features:
                features[m] = torch.zeros(len(batch), 1, self.dims[m], device=batch.index.device)
                lengths[m] = torch.zeros_like(batch.index)
                continue
            features[m], lengths[m] = batch.features[m], batch.lengths[m]
            if m != "text" or self.vocabulary is None:
                centred = features[m] - self.get_buffer(f"mean_{m}")
                features[m] = centred.mul_(self.get_buffer(f"scale_{m}")).clamp_(-_OUTLIER, _OUTLIER)
        present, available = (each & self.get_buffer("known") for each in (batch.present, batch.available))
        batch = replace(batch, features=features, lengths=lengths, present=present, available=available)
        if self.text_encoder is None:
            return batch
        words = self.text_encoder(features["text"], batch.key_mask("text"))
        return replace(batch, features=features | {"text": words})

    @property
    def selection_rule(self) -> str:
        """In words, for results and tables."""
        metric, direction = self.task.score
        under = "the complete input" if self.select_under == COMPLETE else f"the mean over {self.select_under}"
        return f"{direction} validation {metric} under {under}"

    # --- training

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        assert self.phase is not None
        losses = self.phase.losses(self.prepared(batch))
        total = torch.stack([weight * value for value, weight in losses.values()]).sum()
        parts = {name: value for name, (value, _) in losses.items()} | {"loss": total}
        self.watch({f"{self.prefix}train/{name}": value for name, value in parts.items()}, len(batch))
        return total

    def watch(self, values: dict[str, Tensor], samples: int) -> None:
        """Log each value's mean over the samples of an epoch. Lightning does so, too, and takes a small step's time."""
        for name, value in values.items():
            total, count = self._watched.get(name, (0.0, 0))
            self._watched[name] = (total + value.detach() * samples, count + samples)

    def on_train_epoch_end(self) -> None:
        for name, (total, count) in self._watched.items():
            self.log(name, total / count, prog_bar=name.endswith("train/loss"))
        self._watched.clear()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        encoder = self.text_encoder
        groups = decayed_and_plain(p for name, p in self.named_parameters() if not name.startswith("text_encoder."))
        groups += decayed_and_plain(encoder.parameters(), lr=encoder.lr) if encoder else []
        optimizer = ((self.phase.optimizer if self.phase else None) or self.optimizer_factory)(groups)
        return with_schedule(fused(optimizer), self.schedule, max(int(self.trainer.estimated_stepping_batches), 1))

    # --- evaluation: encode once, fuse under every condition

    def condition_outputs(self, batch: Batch, frozen: FrozenProtocol) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits (B, K, O) and extras {name: (B, K)} under each condition of a frozen protocol."""
        prepared = self.prepared(batch)
        present = frozen.present[:, batch.index.cpu()].to(batch.index.device) & prepared.present
        states: dict[int, Tensor] = {}
        whole = [k for k, condition in enumerate(frozen.conditions) if condition.masks_whole_modalities]
        if whole:
            fused = self.states(self.backbone.encode(prepared), present[whole])
            states |= dict(zip(whole, fused, strict=True))
        for k, condition in enumerate(frozen.conditions):
            if k not in states:
                # Frames are removed before standardising, as the masks of training do it: what is left is a raw zero.
                partial = self.backbone.encode(self.prepared(condition.apply(batch, frozen.seed)))
                states[k] = self.states(partial, present[k : k + 1])[0]
        stacked = torch.stack([states[k] for k in range(len(frozen.conditions))])
        extras = {name: values.transpose(0, 1) for name, values in self.extras(stacked).items()}
        return self.head(stacked).transpose(0, 1), extras

    def _start_evaluation(self, protocol: Protocol, split: str) -> None:
        self.store.reset()
        self.frozen = freeze(protocol, self.trainer.datamodule.split(split))  # type: ignore[attr-defined]

    def on_validation_epoch_start(self) -> None:
        self._start_evaluation(Protocol([self.select_under]), "valid")

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        if self.phase is None or self.phase.validation_losses is None:
            self.test_step(batch, batch_idx)
        else:
            losses = self.phase.validation_losses(self.prepared(batch))
            self.store.update(losses[:, None, None], batch.target, batch.index)

    def on_validation_epoch_end(self) -> None:
        assert self.frozen is not None
        said = self.store.gather()
        if self.phase is None or self.phase.validation_losses is None:
            assert said.target is not None
            names = [condition.name for condition in self.frozen.conditions]
            values = {name: evaluate(self.task, said.under(k), said.target) for k, name in enumerate(names)}
            best = sum(score(self.task, each) for each in values.values()) / len(values)
            self.log_dict({f"{self.prefix}valid/{metric}": value for metric, value in values[COMPLETE].items()})
        else:
            best = -float(said.logits.mean())
        self.log(f"{self.prefix}valid/score", best, prog_bar=True)

    def on_test_epoch_start(self) -> None:
        self._start_evaluation(self.protocol, "test")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        assert self.frozen is not None
        logits, extras = self.condition_outputs(batch, self.frozen)
        self.store.update(logits, batch.target, batch.index, extras)

    def on_predict_epoch_start(self) -> None:
        self._start_evaluation(Protocol([COMPLETE]), "predict")

    def predict_step(self, batch: Batch, batch_idx: int) -> None:
        self.test_step(batch, batch_idx)

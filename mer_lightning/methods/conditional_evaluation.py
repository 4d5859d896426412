"""How every method is evaluated: each batch is encoded once and fused under every condition of a protocol.

Shapes: B batch, N samples of a split, M = 3 modalities, K conditions, O outputs, d width of the state.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from mer_lightning.backbones.base import Backbone, Encoded
from mer_lightning.batch import Batch
from mer_lightning.data.corpus import Split
from mer_lightning.errors import Refusal
from mer_lightning.evaluation.label_spaces import LabelMap
from mer_lightning.evaluation.metrics import evaluate, score
from mer_lightning.evaluation.predictions import Predictions, PredictionStore
from mer_lightning.evaluation.protocols import FrozenProtocol, Protocol, freeze
from mer_lightning.evaluation.results import headline_scores
from mer_lightning.methods.divergence import refuse_bad_predictions
from mer_lightning.methods.inputs import Inputs
from mer_lightning.methods.phase import Phase
from mer_lightning.modalities import COMPLETE, complete_among
from mer_lightning.tasks import Task, task_from_card


class ConditionalEvaluation(LightningModule, ABC):
    """What Lightning calls while it validates, tests and predicts. A subclass says what its head reads."""

    dims: dict[str, int]
    inputs: Inputs
    backbone: Backbone
    head: nn.Module
    task: Task
    select_under: str
    protocol: Protocol
    phase: Phase | None
    label_map: LabelMap | None
    prefix: str

    def __init__(self) -> None:
        super().__init__()
        self.store = PredictionStore()
        self.frozen_protocol: FrozenProtocol | None = None  # of the evaluation that runs, or ran last
        self._split = ""  # that it is of

    @abstractmethod
    def states(self, encoded: Encoded, present: Tensor) -> Tensor:
        """(K, B, d) what the head reads under K masks (K, B, M)."""

    @abstractmethod
    def extras(self, states: Tensor) -> dict[str, Tensor]:
        """{name: (K, B)} what is stored beside the predictions."""

    def forward(self, batch: Batch | Mapping[str, Tensor | None]) -> Tensor:
        """(B, O) what the model says of some samples, or of {modality: features (B, T, D)}, in units of the labels."""
        inputs = self.inputs(batch if isinstance(batch, Batch) else Batch.of(batch))
        state = self.states(self.backbone.encode(inputs), inputs.present[None])[0]
        return self.task.in_label_units(self.head(state))

    def tested(self) -> tuple[Predictions, Task]:
        """What the evaluation that is over has found, in the units of the labels, and the task that reads it."""
        predictions = self.predictions().in_label_units(self.task)
        if self.label_map is not None and self._split == "test":
            return self.label_map.predictions(predictions), self.label_map.task
        # The corpus's own task: what the model adds to it, such as the scale of its outputs, is undone already.
        return predictions, task_from_card(self.task.card())

    def log_validation(self, predictions: Predictions, conditions: list[str]) -> None:
        """A method logs here what more it wants to know of the validation predictions."""

    @property
    def selection_rule(self) -> str:
        """In words, for results and tables."""
        metric, direction = self.task.score
        if self.select_under in (COMPLETE, "complete"):
            under = "the complete input"
        else:
            under = f"the mean over {Protocol([self.select_under], modalities=tuple(self.dims))}"
        return f"{direction} validation {metric} under {under}"

    def modalities_among(self, modalities: Collection[str]) -> tuple[str, ...]:
        """Those of a corpus that the model knows."""
        if shared := tuple(m for m in self.dims if m in modalities):
            return shared
        remedy = "choose a corpus with one of them"
        raise Refusal(
            "--data.corpus", f"some of {', '.join(self.dims)}, which the model knows", ", ".join(modalities), remedy
        )

    def condition_outputs(self, batch: Batch, frozen: FrozenProtocol) -> tuple[Tensor, dict[str, Tensor]]:
        """Logits (B, K, O) and extras {name: (B, K)} under each condition of a frozen protocol."""
        inputs = self.inputs(batch)
        present = frozen.present[:, batch.index.cpu()].to(batch.index.device) & inputs.present
        states: dict[int, Tensor] = {}
        whole = [k for k, condition in enumerate(frozen.conditions) if condition.masks_whole_modalities]
        if whole:
            of_whole = self.states(self.backbone.encode(inputs), present[whole])
            states |= dict(zip(whole, of_whole, strict=True))
        for k, condition in enumerate(frozen.conditions):
            if k not in states:
                # Frames are removed before standardising, as the masks of training do it: what is left is a raw zero.
                partial = self.backbone.encode(self.inputs(condition.apply(batch, frozen.seed)))
                states[k] = self.states(partial, present[k : k + 1])[0]
        stacked = torch.stack([states[k] for k in range(len(frozen.conditions))])
        extras = {name: values.transpose(0, 1) for name, values in self.extras(stacked).items()}
        return self.head(stacked).transpose(0, 1), extras

    def _start_evaluation(self, protocol: Protocol, name: str) -> None:
        self.store.reset()
        self._split = name
        split: Split = self.trainer.datamodule.split(name)  # type: ignore[attr-defined]
        self.frozen_protocol = freeze(protocol, split)

    def _store_outputs(self, batch: Batch) -> Tensor:
        """(B, K, O), kept, too."""
        assert self.frozen_protocol is not None
        logits, extras = self.condition_outputs(batch, self.frozen_protocol)
        self.store.update(logits, batch.target, batch.index, extras)
        return logits

    def predictions(self) -> Predictions:
        """Of the evaluation that is over, from all processes; raises Diverged where they are no numbers."""
        assert self.frozen_protocol is not None
        predictions = self.store.gather()
        # A phase with validation losses of its own has one value for each sample, under no condition.
        conditions = [each.name for each in self.frozen_protocol.conditions][: predictions.logits.shape[1]]
        phase = self._split if self.phase is None or self._split != "valid" else self.phase.name
        ids = self.trainer.datamodule.split(self._split).ids  # type: ignore[attr-defined]
        refuse_bad_predictions(predictions.logits, predictions.index, ids, conditions, self._split, phase)
        return predictions

    def on_validation_epoch_start(self) -> None:
        self._start_evaluation(Protocol([self.select_under], modalities=tuple(self.dims)), "valid")

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        if self.phase is None or self.phase.validation_losses is None:
            self._store_outputs(batch)
        else:
            losses = self.phase.validation_losses(self.inputs(batch))
            self.store.update(losses[:, None, None], batch.target, batch.index)

    def on_validation_epoch_end(self) -> None:
        """Log `valid/score`, by which the checkpoint is chosen: higher is better for every task and phase."""
        assert self.frozen_protocol is not None
        predictions = self.predictions()
        if self.phase is None or self.phase.validation_losses is None:
            assert predictions.target is not None
            names = [condition.name for condition in self.frozen_protocol.conditions]
            values = {
                name: evaluate(self.task, predictions.under(k), predictions.target) for k, name in enumerate(names)
            }
            best = sum(score(self.task, each) for each in values.values()) / len(values)
            complete = values[complete_among(names) or names[-1]]
            self.log_dict({f"{self.prefix}valid/{metric}": value for metric, value in complete.items()})
            self.log_validation(predictions, names)
        else:
            best = -float(predictions.logits.mean())
        self.log(f"{self.prefix}valid/score", best, prog_bar=True)

    def on_test_epoch_start(self) -> None:
        self._start_evaluation(self.protocol, "test")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._store_outputs(batch)

    def on_test_epoch_end(self) -> None:
        """Log the headline metrics under every condition: they are what `Trainer.test` returns."""
        assert self.frozen_protocol is not None
        found = headline_scores(*self.tested(), self.frozen_protocol.protocol)
        self.log_dict({f"test/{name}": value for name, value in found.items()})

    def on_predict_epoch_start(self) -> None:
        split = self.trainer.datamodule.split("predict")  # type: ignore[attr-defined]
        self._start_evaluation(Protocol(["complete"], modalities=self.modalities_among(split.modalities)), "predict")

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """What `Trainer.predict` returns: rows of the corpus, what the model says (B, O), and what that means."""
        logits = self.task.in_label_units(self._store_outputs(batch)[:, 0])
        return {"index": batch.index, "output": logits, "prediction": self.task.decide(logits)}

"""What a method is: a backbone, a classifier and a way to train them.

A method is one file: a subclass of :class:`MERMethod` that writes ``training_losses``. How it trains is in
``phased_training.py``, how it is evaluated in ``conditional_evaluation.py``, what its model reads in ``inputs.py``.

Shapes: B batch, M = 3 modalities, K masks, d width of the state.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn

from mer_lightning.backbones.base import BackboneFactory, Encoded
from mer_lightning.batch import Batch
from mer_lightning.discovery import classes_by_file
from mer_lightning.encoders.base import TextEncoderFactory, refuse_other_than_ids
from mer_lightning.evaluation.label_spaces import LabelMap
from mer_lightning.evaluation.protocols import Protocol, freeze
from mer_lightning.methods import fitting
from mer_lightning.methods.calling import CalledInPython
from mer_lightning.methods.conditional_evaluation import ConditionalEvaluation
from mer_lightning.methods.inputs import Inputs
from mer_lightning.methods.optimizing import Schedule
from mer_lightning.methods.phase import Losses, Phase
from mer_lightning.methods.phased_training import PhasedTraining
from mer_lightning.tasks import Ratings, task_from_card

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mer_lightning.methods.finished_runs import FinishedRuns

__all__ = ["Losses", "MERMethod", "Phase"]


class MERMethod(PhasedTraining, ConditionalEvaluation, metaclass=CalledInPython):
    """A backbone, a classifier and a way to train them.

    Args:
        dims: width of each modality's features; given by the data.
        task_card: what is predicted; given by the data.
        backbone: the fusion model, by its name (`mer-lightning backbones`) and options.
        optimizer: made from the parameters; weight decay leaves norms and biases alone.
        schedule: of the learning rate, after a warm-up over the first tenth of the steps.
        select_under: what the validation score that chooses the checkpoint is measured under: the complete input, or
            the mean over all combinations of its modalities. `tav` and `fixed-7` are the same for three modalities.
        text_encoder: what makes vectors of a corpus whose text is token ids, e.g. hugging_face; its learning rate is
            its own.
        loss: of ratings on scales of one's own: the absolute error, or 1 - CCC over the samples of a step.
    """

    reconstruction: ClassVar[bool] = False  # of a paper that gives neither equations nor code; results say so

    def __init__(
        self,
        dims: dict[str, int],
        task_card: dict[str, Any],
        backbone: BackboneFactory,
        optimizer: OptimizerCallable = lambda p: torch.optim.AdamW(p, lr=1e-3, weight_decay=1e-2),
        schedule: Schedule = "cosine",
        select_under: Literal["complete", "combinations", "tav", "fixed-7"] = "complete",
        text_encoder: TextEncoderFactory | None = None,
        loss: Literal["mae", "ccc"] = "mae",
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.dims, self.task, self.loss = dict(dims), task_from_card(task_card), loss
        if isinstance(self.task, Ratings):
            self.task = replace(self.task, loss=loss)
        self.optimizer_factory, self.schedule, self.select_under = optimizer, schedule, select_under
        self.protocol = Protocol(["combinations"], modalities=tuple(self.dims))  # of tests
        self.inputs = Inputs(self.dims, text_encoder() if text_encoder else None)
        self.backbone = backbone(self.inputs.widths)
        self.inputs.text_is_ids |= self.backbone.vocabulary is not None
        self.head: nn.Linear = nn.Linear(self.backbone.state_width, self.task.outputs)
        self.trained_on = ""  # the corpus; a checkpoint keeps it
        self.untrained: tuple[str, ...] = ()  # modalities of the corpus that no training sample had
        self.label_map: LabelMap | None = None  # how classes are read, in a test on a corpus with others
        self.register_load_state_dict_pre_hook(_take_older_names)

    # --- what a method writes

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

    def representations(self, encoded: Encoded, present: Tensor) -> dict[str, dict[str, Tensor]]:
        """{name: {modality: (B, d)}} what the probes of diagnose look at: the vectors of the backbone,
        unless a method makes codes of them. ``present`` (B, M) says what samples have."""
        return {"vectors": encoded.vectors}

    @staticmethod
    def figures(runs: FinishedRuns) -> dict[str, Figure]:
        """{caption: figure} for the report, of what only this method has; none unless a method draws some."""
        return {}

    # --- what it builds on

    def task_losses(self, state: Tensor, batch: Batch) -> Tensor:
        """(B,) the task's loss of each sample."""
        assert batch.target is not None
        return self.task.losses(self.head(state), batch.target)

    @property
    def label(self) -> str:
        """How results call the method."""
        return type(self).__name__ + (" (reconstruction)" if self.reconstruction else "")

    # --- before the first step

    def setup(self, stage: str) -> None:
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        self.refuse_what_does_not_fit(data, stage)
        if stage == "fit":
            self.trained_on = data.corpus.card.label
            if self.phase is None:
                first, *others = self.phases()
                if others:
                    text = f"trains the first of {1 + len(others)} phases, {first.name}; mer_lightning.fit trains all"
                    warnings.warn(f"{type(self).__name__}: a Trainer of your own {text}", stacklevel=2)
                self.enter(first)
            if (vocabulary := self.vocabulary) is not None:
                refuse_other_than_ids(data.corpus.card.label, data.training_frames("text"), vocabulary)
            train, valid = data.split("train"), data.split("valid")
            self.untrained = tuple(m for m in train.modalities if m not in train.there)
            self.protocol.refuse_if_shown(data.masks.present(len(train), 0, data.seed, train.there))
            # What this corpus cannot meet is refused now, and not after the fit.
            fitting.refuse_other_loss(self.task, self.loss)
            fitting.refuse_selection(self.select_under, valid.modalities)
            freeze(self.protocol, valid)
            self.inputs.set_statistics(data.feature_statistics())
            self.task = self.task.fitted_to(data.split("train").target)

    def refuse_what_does_not_fit(self, data: Any, stage: str) -> None:
        """A method that needs more of a corpus or a backbone extends it."""
        card = data.corpus.card
        fitting.refuse_other_widths(card, data.dims, self.dims)
        if stage in ("validate", "test") and self.label_map is None:
            fitting.refuse_other_task(card, self.task)
        if self.vocabulary is None:
            fitting.refuse_ids_without_encoder(card)
        fitting.refuse_unaligned(card, self.backbone)

    @property
    def vocabulary(self) -> int | None:
        """How many token ids the model knows; None where its text is no ids."""
        encoder = self.inputs.text_encoder
        return encoder.vocabulary if encoder else self.backbone.vocabulary

    # --- checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["trained_on"] = self.trained_on
        checkpoint["untrained"] = self.untrained
        if isinstance(self.task, Ratings):  # the units in which the head speaks
            checkpoint["labels"] = {"mean": self.task.mean, "deviation": self.task.deviation}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.trained_on = checkpoint["trained_on"]
        self.untrained = tuple(checkpoint.get("untrained", ()))  # older ones do not have it
        if isinstance(self.task, Ratings):
            scale = checkpoint["labels"]
            self.task = replace(self.task, mean=tuple(scale["mean"]), deviation=tuple(scale["deviation"]))


def all_methods() -> dict[str, type[MERMethod]]:
    """{name: class} of every method in this folder; the name is that of its file or folder."""
    return classes_by_file("mer_lightning.methods", MERMethod)


def _take_older_names(method: nn.Module, state: dict[str, Tensor], *_: object) -> None:
    """Checkpoints of version 0.1.0 hold what is in ``inputs`` now in the method itself."""
    for name in [name for name in state if name.startswith(("mean_", "scale_", "text_encoder."))]:
        state[f"inputs.{name}"] = state.pop(name)

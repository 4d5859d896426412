"""CDaT: cross-modal dynamic transfer (Hong, Kang, Cho; IEEE Access 2024), on any backbone with a vector per modality.

Three phases. First the fusion model learns its task. Then a confidence network learns to predict, for each sample, the
probability that the model gives to the true class. Then the model learns on: in each sample and each pair of
modalities, the one that the model is more confident without imitates the neighbourhoods of the other one.
docs/methods/cdat.md has the equations and every departure from the released code.

Shapes: B batch, M modalities, K masks, d width of the state.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from mer_lightning.backbones.base import Backbone, Encoded
from mer_lightning.batch import Batch
from mer_lightning.errors import Refusal
from mer_lightning.evaluation.diagnostics import auroc
from mer_lightning.evaluation.predictions import Predictions
from mer_lightning.layers.dropout import Dropout
from mer_lightning.methods.base import Losses, MERMethod, Phase
from mer_lightning.methods.cdat import losses as transfer
from mer_lightning.methods.cdat.confidence import ConfidenceNetwork, ConfidenceOutput
from mer_lightning.methods.cdat.transfer_log import TransferLog
from mer_lightning.modalities import MODALITIES, complete_among
from mer_lightning.randomness import name_key, uniform
from mer_lightning.tasks import MultiLabel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mer_lightning.methods.finished_runs import FinishedRuns

Preset = Literal["cdat", "cdat_r1", "static", "ce", "baseline"]
Targets = Literal["train", "valid_half", "out_of_fold"]
Weighting = Literal["ratio", "difference", "threshold", "noise_level", "static", "ce", "ce_repaired"]

_PRESETS: dict[str, dict[str, Any]] = {
    "cdat": {},
    "cdat_r1": {"reduction": "released", "detach_teacher": False, "confidence_output": "linear"},
    "static": {"weighting": "static"},
    "ce": {"weighting": "ce"},
    "baseline": {"weighting": "static", "weight": 0.0},
}
_DEFAULTS: dict[str, Any] = {
    "weighting": "ratio",
    "reduction": "row",
    "detach_teacher": True,
    "confidence_output": "sigmoid",
}
_NEEDS_COMPLETE = ("noise_level", "ce", "ce_repaired")  # compare with the unmasked view, too
_RELEASED_WEIGHT = 1e4  # of the loss averaged over all pairs of samples
_COLLAPSED = 0.02  # a standard deviation below it: the confidence network gives all samples the same value


class CDaT(MERMethod):
    """Supervised learning, then a confidence network, then transfer from confident modalities to the others.

    Args:
        preset: `cdat`; `cdat_r1`, the released equations; `static`, the same weight for all; `ce`, weights from how
            much a mask changes the output; `baseline`, the same phases without transfer. Options below override it, but
            nothing makes a baseline transfer.
        weighting: how much a modality learns from another one.
        reduction: a weight for each sample (`row`), or the batch's mean (`released`).
        detach_teacher: the modality that is learnt from does not move towards the learner.
        weight: of the transfer loss; default: 1e4 / batch size for `row`, 1e4 for `released`.
        transfer_epochs: length of the last phase; that of the first is 1.
        confidence_from: a network over the model of each step (`online`) or over the model as it was after the first
            phase (`frozen`); without a network, the model's own `probability`, or the true `label` (an oracle).
        confidence_targets: true-class probabilities that the network learns: of training samples (`train`), of half of
            the validation samples (`valid_half`), or of training samples by models that have not seen them
            (`out_of_fold`: two more models, each trained on one half).
        confidence_output: what ends the confidence network.
        confidence_layers: linear layers of the confidence network.
        confidence_hidden: their width.
        confidence_dropout: between them.
        confidence_lr: learning rate of the confidence network.
        confidence_epochs: length of its phase; that of the first is 1.
        confidence_on_masked: train it under each mask, too, and not on the unmasked input only.
        keep_unlabelled: let samples without any true label take part in training it (several labels only).
        logit_dropout: on the outputs in training, where there are classes; both released codes have it.
        gather: compare samples across all processes, so that several processes train as one would.
    """

    def __init__(
        self,
        *,
        preset: Preset = "cdat",
        weighting: Weighting | None = None,
        reduction: transfer.Reduction | None = None,
        detach_teacher: bool | None = None,
        weight: float | None = None,
        transfer_epochs: float = 1.0,
        confidence_from: Literal["online", "frozen", "probability", "label"] = "online",
        confidence_targets: Targets = "train",
        confidence_output: ConfidenceOutput | None = None,
        confidence_layers: int = 4,
        confidence_hidden: int = 256,
        confidence_dropout: float = 0.5,
        confidence_lr: float = 1e-4,
        confidence_epochs: float = 2.5,
        confidence_on_masked: bool = False,
        keep_unlabelled: bool = False,
        logit_dropout: float = 0.1,
        gather: bool = True,
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        if preset == "baseline" and weight:
            remedy = "give 0, too, where an experiment sets a weight, or leave the preset away"
            raise Refusal("--model.weight", "0, as the baseline does not transfer", f"{weight:g}", remedy)
        given = {
            "weighting": weighting,
            "reduction": reduction,
            "detach_teacher": detach_teacher,
            "weight": weight,
            "confidence_output": confidence_output,
        }
        chosen = _DEFAULTS | _PRESETS[preset] | {k: v for k, v in given.items() if v is not None}
        self.weighting: Weighting = chosen["weighting"]
        self.reduction: transfer.Reduction = chosen["reduction"]
        self.detach_teacher: bool = chosen["detach_teacher"]
        self.weight: float | None = chosen.get("weight")
        self.transfer_epochs, self.confidence_epochs = transfer_epochs, confidence_epochs
        self.confidence_from, self.confidence_lr = confidence_from, confidence_lr
        self.on_masked, self.keep_unlabelled, self.gather = confidence_on_masked, keep_unlabelled, gather
        classes = self.task.probabilities(torch.zeros(1, self.task.outputs)) is not None
        self.logit_dropout = Dropout(logit_dropout if classes else 0.0)
        self.confidence: ConfidenceNetwork | None = None
        if self.uses_confidence and confidence_from in ("online", "frozen"):
            self.confidence = ConfidenceNetwork(
                self.head.in_features,
                confidence_layers,
                confidence_hidden,
                confidence_dropout,
                chosen["confidence_output"],
            )
        self.reference = copy.deepcopy(self.backbone) if self.confidence and confidence_from == "frozen" else None
        self.confidence_targets: Targets = confidence_targets if self.confidence else "train"
        self.halves = nn.ModuleList(
            nn.ModuleList([copy.deepcopy(self.backbone), copy.deepcopy(self.head)])
            for _ in range(2 if self.confidence_targets == "out_of_fold" else 0)
        )
        self.register_buffer("others", ~torch.eye(3, dtype=torch.bool), persistent=False)  # row m: all but modality m
        self.positions = [MODALITIES.index(m) for m in self.dims]
        self.transfer_log = TransferLog()

    @property
    def uses_confidence(self) -> bool:
        return self.weighting not in ("static", "ce", "ce_repaired")

    def refuse_what_does_not_fit(self, data: Any, stage: str) -> None:
        super().refuse_what_does_not_fit(data, stage)
        if stage == "fit" and self.weight != 0 and not any(True for _ in self.backbone.encoder_parameters()):
            remedy = "choose a backbone that encodes each modality with parameters of its own"
            name = type(self.backbone).__name__
            raise Refusal(name, "vectors that transfer can change", "vectors without parameters", remedy)

    # --- phases

    def phases(self) -> tuple[Phase, ...]:
        model = tuple(part for part in self.children() if part not in (self.confidence, self.reference, self.halves))
        fusion = Phase("fusion", self.training_losses, model)
        last = Phase("transfer", self.transfer_losses, model, epochs=self.transfer_epochs)
        if self.confidence is None:
            return fusion, last
        confidence = Phase(
            "confidence",
            self.confidence_losses,
            (self.confidence,),
            epochs=self.confidence_epochs,
            optimizer=lambda parameters: torch.optim.Adam(parameters, lr=self.confidence_lr),
            validation_losses=self.confidence_validation_errors,
        )
        return fusion, *self._half_phases(), confidence, last

    def _half_phases(self) -> tuple[Phase, ...]:
        """The fusion model once more for each half of the training samples, to say what it makes of the other half."""
        return tuple(
            Phase(
                f"half-{number}",
                functools.partial(self._half_losses, number),
                (half,),
                validation_losses=functools.partial(self._half_errors, number),
            )
            for number, half in enumerate(self.halves)
        )

    def enter(self, phase: Phase) -> None:
        if phase.name == "transfer" and self.reference is not None:
            self.reference.load_state_dict(self.backbone.state_dict())
        super().enter(phase)

    def training_losses(self, batch: Batch) -> Losses:
        return self._supervised(batch, self.backbone.encode(batch))

    def transfer_losses(self, batch: Batch) -> Losses:
        if self.weight == 0:
            return self.training_losses(batch)
        encoded = self.backbone.encode(batch)
        weights = self.transfer_weights(batch, encoded)
        losses = self._supervised(batch, encoded)
        vectors = [encoded.vectors[m] for m in self.dims]
        present = batch.present[:, self.positions]
        weights = weights[:, self.positions][:, :, self.positions]
        if self.gather:
            vectors = [self.from_all_processes(vector) for vector in vectors]
            present, weights = self.from_all_processes(present), self.from_all_processes(weights)
        value = transfer.transfer_loss(vectors, weights, present, self.reduction, self.detach_teacher)
        factor = self.weight
        if factor is None:
            factor = _RELEASED_WEIGHT / (len(present) if self.reduction == "row" else 1)
        return {**losses, "transfer": (value, factor)}

    def _supervised(self, batch: Batch, encoded: Encoded) -> Losses:
        state, own_losses = self.backbone.fuse_with_losses(encoded, batch)
        assert batch.target is not None
        task = self.task.losses(self.logit_dropout(self.head(state)), batch.target).mean()
        return {"task": (task, 1.0), **own_losses}

    # --- confidence

    def confidence_losses(self, batch: Batch) -> Losses:
        if self.confidence_targets == "valid_half":
            batch = self._validation_batch(len(batch))
        return {"confidence": (self.confidence_errors(batch).mean(), 1.0)}

    def _validation_batch(self, samples: int) -> Batch:
        """As many samples of the first half of the validation split."""
        split = self.trainer.datamodule.split("valid")  # type: ignore[attr-defined]
        rows = torch.arange(len(split))
        first = rows[~in_second_half(rows)]
        chosen = first[torch.randint(len(first), (samples,))]
        return self.inputs(split.batch(chosen).to(self.device))

    def confidence_validation_errors(self, batch: Batch) -> Tensor:
        """(B,) of all validation samples, or of the second half alone where the network learns from the first."""
        errors = self.confidence_errors(batch)
        return errors * 2 * in_second_half(batch.index) if self.confidence_targets == "valid_half" else errors

    def _half_losses(self, half: int, batch: Batch) -> Losses:
        """The task's loss of the samples of one half, in a model that is trained on them alone."""
        mine = in_second_half(batch.index) == bool(half)
        errors = self._half_errors(half, batch)
        return {"task": (self.mean_where(errors, mine), 1.0)}

    def _half_errors(self, half: int, batch: Batch) -> Tensor:
        assert batch.target is not None
        return self.task.losses(self._half_logits(half, batch, batch.present.unsqueeze(0))[0], batch.target)

    def _half_logits(self, half: int, batch: Batch, masks: Tensor) -> Tensor:
        backbone, head = self.halves[half].children()
        assert isinstance(backbone, Backbone)
        return head(backbone.fuse_many(backbone.encode(batch), masks))

    def confidence_errors(self, batch: Batch) -> Tensor:
        """(B,) squared distance from the true-class probability; zero for samples that have no true label."""
        assert self.confidence is not None
        assert batch.target is not None
        masks = batch.present.unsqueeze(0)
        if self.on_masked:
            masks = torch.cat([masks, self._without_each(batch)])
        with torch.no_grad():
            states = self.backbone.fuse_many(self.backbone.encode(batch), masks)
            target = batch.target.expand(len(masks), *batch.target.shape).flatten(0, 1)
            true = self.task.true_class_probability(self._judged_logits(states, batch, masks).flatten(0, 1), target)
        predicted = self._predicted_confidence(states)
        errors = transfer.confidence_error(predicted.flatten(), true).view(len(masks), -1).mean(0)
        if isinstance(self.task, MultiLabel) and not self.keep_unlabelled:
            errors = errors * (batch.target.sum(1) > 0)
        return errors

    def _predicted_confidence(self, states: Tensor) -> Tensor:
        """(K, B) of states (K, B, d). The network normalises over a batch: in training, over that of all processes."""
        assert self.confidence is not None
        if not self.confidence.training:
            return self.confidence(states)
        own = slice(self.global_rank * len(states), (self.global_rank + 1) * len(states))
        return self.confidence(self.from_all_processes(states))[own]

    def _judged_logits(self, states: Tensor, batch: Batch, masks: Tensor) -> Tensor:
        """(K, B, O) whose true-class probability is the target: of this model, or of one that never saw the sample."""
        if not self.halves or not self.training:  # of validation samples the model itself has seen none
            return self.head(states)
        first, second = (self._half_logits(half, batch, masks) for half in (0, 1))
        return torch.where(in_second_half(batch.index)[:, None], first, second)

    def _without_each(self, batch: Batch) -> Tensor:
        """(M, B, M) each modality masked in turn."""
        return batch.present & self.get_buffer("others").unsqueeze(1)

    @torch.no_grad()
    def transfer_weights(self, batch: Batch, encoded: Encoded) -> Tensor:
        """(B, M, M) how much modality m of each sample should learn from modality n; no gradient, no dropout.

        ``encoded``: the backbone's, of this step; another encoding is made where this one has dropout.
        """
        if self.weighting == "static":
            return transfer.static_weights(len(batch), 3, batch.present.device)
        source = self.backbone if self.reference is None else self.reference
        masks = self._without_each(batch)
        if self.weighting in _NEEDS_COMPLETE:
            masks = torch.cat([masks, batch.present.unsqueeze(0)])
        with evaluating(source):
            if source is not self.backbone or not source.encodes_alike:
                encoded = source.encode(batch)
            states = source.fuse_many(encoded, masks)
        weights = self._confidence_weights(states, batch) if self.uses_confidence else self._impact_weights(states)
        self.transfer_log.add_weights(weights)
        return weights

    def _confidence_weights(self, states: Tensor, batch: Batch) -> Tensor:
        assert batch.target is not None
        true = torch.stack([self.task.true_class_probability(each, batch.target) for each in self.head(states)])
        confidence = true if self.confidence_from == "label" else self._confidence(states)
        self.transfer_log.add_confidence(confidence, true)
        return transfer.confidence_weights(confidence[:3], confidence[-1], self.weighting)  # type: ignore[arg-type]

    def _confidence(self, states: Tensor) -> Tensor:
        """(K, B) of states (K, B, d): what the network says, or how clear the model's own decision is."""
        if self.confidence is not None:
            return self.confidence(states)
        return torch.stack([self.task.certainty(logits) for logits in self.head(states)])

    def _impact_weights(self, states: Tensor) -> Tensor:
        logits, released = self.head(states), self.weighting == "ce_repaired"
        probabilities = self.task.probabilities(logits.flatten(0, 1))
        if probabilities is None:  # regression: how far a mask moves the prediction
            return transfer.impact_weights((logits[:3] - logits[3]).abs().mean(-1), released)
        probabilities = probabilities.view(logits.shape)
        impact = transfer.cross_entropy_impact(probabilities[3], probabilities[:3], released)
        return transfer.impact_weights(impact, released)

    def extras(self, states: Tensor) -> dict[str, Tensor]:
        has_one = self.confidence is not None or self.confidence_from == "probability"
        return {"confidence": self._confidence(states)} if has_one else {}

    @staticmethod
    def figures(runs: FinishedRuns) -> dict[str, Figure]:
        from mer_lightning.methods.cdat.figures import figures  # matplotlib is slow to import

        return figures(runs)

    def log_validation(self, predictions: Predictions, conditions: list[str]) -> None:
        """How well confidence, and the trivial score beside it, tell right from wrong predictions of complete input."""
        complete = complete_among(conditions)
        if "confidence" not in predictions.extras or complete is None:
            return
        k = conditions.index(complete)
        logits, target = predictions.under(k), predictions.target
        assert target is not None
        right = self.task.right(logits, target)
        known = ~right.isnan()
        for name, score in (
            ("confidence", predictions.extras["confidence"][:, k]),
            ("trivial", self.task.certainty(logits)),
        ):
            self.log(f"{self.prefix}valid/{name}_auroc", auroc(score[known], right[known].bool()))

    def on_train_epoch_end(self) -> None:
        super().on_train_epoch_end()
        averages = self.transfer_log.read()
        self.log_dict({f"transfer/{name}": value for name, value in averages.items()})
        spread = averages.get("confidence_std", 1.0)
        if spread < _COLLAPSED and self.global_rank == 0:
            warnings.warn(
                f"confidence is nearly the same for all samples (deviation {spread:.4f}): transfer weights do not "
                "depend on the sample",
                stacklevel=1,
            )


def in_second_half(index: Tensor) -> Tensor:
    """(B,) bool: which half of its split a sample belongs to, by its row."""
    return (uniform(name_key("half of a split"), index.cpu()) >= 0.5).to(index.device)


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while; afterwards each part is in the mode that it was in, frozen ones included."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training

"""MCUR: modality-aware contrast and uncertainty-regularised learning (Zhuang et al., arXiv 2605.06245, 2026).

A reconstruction from the abstract: the paper's equations and code were not to be had. Two losses beside what masks of
training do: a contrast that brings together samples of one emotion category seen in one combination of modalities
(MCB-CL), and a weight for each sample made from the uncertainty of its prediction (SUGR). docs/methods/mcur.md says
what is confirmed and what is ours.

Shapes: B batch, V views, A = V B rows of all views, M modalities, O outputs, d width of the state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mer_lightning.backbones.base import Encoded, keep_present
from mer_lightning.batch import Batch
from mer_lightning.errors import Refusal
from mer_lightning.losses import contrast
from mer_lightning.masks.training import combination_number, every_combination
from mer_lightning.methods.base import Losses, MERMethod
from mer_lightning.methods.mcur import uncertainty
from mer_lightning.methods.mcur.memory import ContrastMemory
from mer_lightning.modalities import MODALITIES
from mer_lightning.tasks import Ratings, Regression

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mer_lightning.methods.finished_runs import FinishedRuns

Estimator = Literal["hetero", "predictive", "bank", "none"]

_PROJECTION = 128


class MCUR(MERMethod):
    """MCUR (reconstruction): contrast over categories and combinations, and sample weights from uncertainty.

    Args:
        views: of each sample: 1, what the training masks leave; 2, that and all the sample has; 7, every combination
            of modalities (one encoding, seven fusions), whatever the training masks are.
        contrast_weight: of the contrastive loss; 0 leaves it out.
        mode: which samples attract and which repel, see :mod:`mer_lightning.losses.contrast`.
        same_emotion_weight: of samples of the same category in another combination, for `graded`.
        temperature: of the contrastive loss.
        bins: categories of a regression: negative, zero, positive (3), or whole numbers from -3 to 3 (7).
        memory: projections of earlier batches that are compared with, too; 0 for none.
        gather: compare samples across all processes, so that several processes train as one would.
        estimator: of uncertainty: learnt as the scale of the loss (`hetero`), from the predictions (`predictive`), the
            moving average of each sample's loss in each combination (`bank`), or `none`.
        direction: uncertain samples weigh less (`suppress`) or more (`emphasize`); not for `hetero`.
        kappa: of `emphasize`: the most uncertain sample weighs 1 + kappa times the most certain one.
        warm_up: share of training in which all samples weigh the same.
        unimodal_weight: of a classifier on each modality's vector; 0 for none.
        consistency_weight: of the distance between predictions for incomplete views and for all the sample has, which
            does not move; 0 for none.
    """

    reconstruction: ClassVar[bool] = True

    def __init__(
        self,
        *,
        views: Literal[1, 2, 7] = 2,
        contrast_weight: float = 0.1,
        mode: contrast.Mode = "joint_neutral",
        same_emotion_weight: float = 0.5,
        temperature: float = 0.1,
        bins: Literal[3, 7] = 3,
        memory: int = 0,
        gather: bool = True,
        estimator: Estimator = "hetero",
        direction: uncertainty.Direction = "suppress",
        kappa: float = 5.0,
        warm_up: float = 0.2,
        unimodal_weight: float = 0.0,
        consistency_weight: float = 0.0,
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        self.views, self.contrast_weight, self.mode = views, contrast_weight, mode
        self.same_emotion_weight, self.temperature = same_emotion_weight, temperature
        self.bins, self.gather = bins, gather
        self.estimator, self.direction, self.kappa = estimator, direction, kappa
        self.warm_up, self.unimodal_weight = warm_up, unimodal_weight
        self.consistency_weight = consistency_weight
        self._refuse_contradictions(memory)
        width = self.head.in_features
        # Parts that are off do not exist: no parameter is without a gradient, as DDP wants it.
        self.projection: nn.Sequential | None = None
        if contrast_weight:
            self.projection = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, _PROJECTION))
        self.memory = ContrastMemory(memory, _PROJECTION) if memory else None
        self.log_scale: nn.Linear | None = None
        if estimator == "hetero":
            self.log_scale = nn.Linear(width, 1)
            nn.init.zeros_(self.log_scale.weight)
            nn.init.zeros_(self.log_scale.bias)
        self.bank = uncertainty.UncertaintyBank() if estimator == "bank" else None
        self.unimodal = nn.ModuleDict()
        if unimodal_weight:
            widths = self.backbone.vector_widths
            self.unimodal.update({m: nn.Linear(widths[m], self.task.outputs) for m in MODALITIES if m in self.dims})

    def _refuse_contradictions(self, memory: int) -> None:
        if self.bins == 7 and not isinstance(self.task, Regression):
            raise Refusal("--model.bins", "3 where a task has classes of its own", "7", "leave the option out")
        if self.estimator == "predictive" and isinstance(self.task, Regression | Ratings) and self.views == 1:
            remedy = "set --model.views 2, or another estimator"
            raise Refusal("--model.estimator", "two views for predictive on a regression", "one", remedy)
        if self.consistency_weight and self.views == 1:
            remedy = "set --model.views 2 or 7"
            raise Refusal("--model.consistency_weight", "a view of all that a sample has", "one view", remedy)
        if memory and not self.contrast_weight:
            raise Refusal("--model.memory", "0 without a contrast", str(memory), "raise --model.contrast_weight")

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if stage == "fit" and self.bank is not None:
            self.bank.resize(len(self.trainer.datamodule.split("train")))  # type: ignore[attr-defined]

    def training_losses(self, batch: Batch) -> Losses:
        assert batch.target is not None
        encoded = self.backbone.encode(batch)
        masks = self.view_masks(batch)
        states = self.states(encoded, masks)
        logits = self.head(states)
        combinations = combination_number(masks)
        losses = self.weighted_task_losses(states, logits, combinations, batch)
        if self.contrast_weight:
            losses["contrast"] = (self.contrastive_loss(states, combinations, batch), self.contrast_weight)
        if self.consistency_weight:
            losses["consistency"] = (self.consistency_loss(logits, combinations), self.consistency_weight)
        if self.unimodal_weight:
            losses["unimodal"] = (self.unimodal_loss(encoded, masks.any(0), batch.target), self.unimodal_weight)
        return losses | self.backbone.auxiliary_losses(encoded, batch)

    def view_masks(self, batch: Batch) -> Tensor:
        """(V, B, M) what each view looks at; the last one is all that a sample has, where there is more than one."""
        if self.views == 7:
            return every_combination(batch.available, list(self.dims))
        return torch.stack([batch.present, batch.available][: self.views])

    # --- MCB-CL

    def contrastive_loss(self, states: Tensor, combinations: Tensor, batch: Batch) -> Tensor:
        """The contrastive loss of states (V, B, d) seen in combinations (V, B)."""
        assert self.projection is not None
        assert batch.target is not None
        views = len(states)
        projected = F.normalize(self.projection(states.flatten(0, 1)).float(), dim=1)
        categories, samples = self.category(batch.target).repeat(views), batch.index.repeat(views)
        anchors = contrast.Keys(projected, categories, combinations.flatten(), samples)
        if self.gather:
            anchors = self._keys_everywhere(anchors)
        keys = None if self.memory is None else self.memory.keys
        value = contrast.contrastive_loss(anchors, self.temperature, self.mode, self.same_emotion_weight, keys)
        self.log_means({"diagnostics/with_positive": contrast.share_with_positive(anchors, keys)}, len(batch))
        if self.memory is not None:  # the same on all processes, as DDP keeps buffers
            new = contrast.Keys(*(values.detach() for values in anchors))
            self.memory.push(new if self.gather else self._keys_everywhere(new))
        return value

    def _keys_everywhere(self, keys: contrast.Keys) -> contrast.Keys:
        return contrast.Keys(*(self.from_all_processes(values) for values in keys))

    def category(self, target: Tensor) -> Tensor:
        """(B,) int64: what the contrast takes for one emotion."""
        if self.bins == 7:
            assert isinstance(self.task, Regression)
            return (target / self.task.limit).clamp(-1, 1).mul(3).round().long() + 3
        return self.task.category(target)

    # --- SUGR

    def weighted_task_losses(self, states: Tensor, logits: Tensor, combinations: Tensor, batch: Batch) -> Losses:
        """The mean over all views of the task's loss, weighted by sample once the warm-up is over.

        Weights have the mean 1 over all processes and no gradient, whatever they are made from. A learnt scale has a
        loss of its own, the likelihood of what the task's losses are.
        """
        assert batch.target is not None
        views = len(states)
        target = batch.target.repeat(views, *[1] * (batch.target.dim() - 1))
        losses = self.task.losses(logits.flatten(0, 1), target)
        ready = self.progress >= self.warm_up
        if self.log_scale is not None:
            # Times 0 and not left out: its parameters take part in every step, as DDP wants it.
            scale = uncertainty.bounded_log_scale(self.log_scale(states.detach()).float()).flatten() * float(ready)
            laplace = isinstance(self.task, Regression | Ratings)
            likelihood = uncertainty.heteroscedastic(losses.detach(), scale, laplace).mean()
            weights = scale.detach().neg().exp()
            weights = weights / self._everywhere(weights).mean()
            return {"task": (self._weighted(losses, weights), 1.0), "scale": (likelihood, 1.0)}
        if self.estimator == "none":
            return {"task": (losses.mean(), 1.0)}
        unsure = self.uncertainties(logits.detach(), losses.detach(), combinations, batch.index)
        if not ready:
            return {"task": (losses.mean(), 1.0)}
        weights = uncertainty.sample_weights(self._everywhere(unsure), self.direction, self.kappa)
        own = slice(self.global_rank * len(unsure), (self.global_rank + 1) * len(unsure))
        return {"task": (self._weighted(losses, weights[own]), 1.0)}

    def _weighted(self, losses: Tensor, weights: Tensor) -> Tensor:
        self.log_means({"diagnostics/weight_deviation": weights.std(unbiased=False)}, len(losses))
        return (weights * losses).mean()

    def _everywhere(self, values: Tensor) -> Tensor:
        """Of all processes, where samples are compared across them."""
        return self.from_all_processes(values) if self.gather else values

    def uncertainties(self, logits: Tensor, losses: Tensor, combinations: Tensor, index: Tensor) -> Tensor:
        """(A,) of logits (V, B, O), losses (A,), combinations (V, B) and rows (B,); a bank remembers it."""
        if self.bank is None:
            return uncertainty.predictive_uncertainty(logits, self.task).flatten()
        averages = []
        for view, values in zip(combinations, losses.view_as(combinations), strict=True):
            everywhere = (self.from_all_processes(each) for each in (index, view, values))
            averages.append(self.bank.update(*everywhere).view(-1, len(index))[self.global_rank])
        return torch.cat(averages)

    def extras(self, states: Tensor) -> dict[str, Tensor]:
        """The learnt scale of the loss: how far off the model thinks it is."""
        if self.log_scale is None:
            return {}
        return {"scale": uncertainty.bounded_log_scale(self.log_scale(states).float()).exp().squeeze(-1)}

    @staticmethod
    def figures(runs: FinishedRuns) -> dict[str, Figure]:
        from mer_lightning.methods.mcur.figures import figures  # matplotlib is slow to import

        return figures(runs)

    # --- beside what the paper names

    def consistency_loss(self, logits: Tensor, combinations: Tensor) -> Tensor:
        """Mean distance of predictions for incomplete views to those for the complete view, which does not move."""
        incomplete = combinations[:-1] != combinations[-1]
        distances = torch.stack([self.task.distances(each, logits[-1].detach()) for each in logits[:-1]])
        return self.mean_where(distances, incomplete)

    def unimodal_loss(self, encoded: Encoded, present: Tensor, target: Tensor) -> Tensor:
        """Each sample's mean loss over a classifier for each modality that it has (B, M)."""
        positions = [MODALITIES.index(m) for m in self.unimodal]
        vectors = keep_present(encoded.vectors, present)
        logits = [head(vector) for head, vector in zip(self.unimodal.values(), vectors, strict=True)]
        losses = torch.stack([self.task.losses(each, target) for each in logits])
        counted = present[:, positions].T
        per_sample = (losses * counted).sum(0) / counted.sum(0).clamp(min=1)
        return per_sample.mean()

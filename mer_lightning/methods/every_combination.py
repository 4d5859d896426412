"""Supervised learning in every combination of modalities at once: the strong control for missing modalities."""

from __future__ import annotations

from mer_lightning.batch import Batch
from mer_lightning.masks.training import every_combination
from mer_lightning.methods.base import Losses, MERMethod


class EveryCombination(MERMethod):
    """The task's loss, averaged over all combinations of what each sample has: one encoding, seven fusions.

    Training masks play no part. Where `supervised` with uniform_combinations draws one combination for each sample and
    epoch, this sees them all in each step, at the price of seven fusions.
    """

    def training_losses(self, batch: Batch) -> Losses:
        assert batch.target is not None
        encoded = self.backbone.encode(batch)
        masks = every_combination(batch.available, list(self.dims))
        logits = self.head(self.states(encoded, masks)).flatten(0, 1)
        target = batch.target.repeat(len(masks), *[1] * (batch.target.dim() - 1))
        losses = {"task": (self.task.losses(logits, target).mean(), 1.0)}
        return losses | self.backbone.auxiliary_losses(encoded, batch)

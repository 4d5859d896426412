"""Supervised learning on what is there: the control that every other method has to beat."""

from __future__ import annotations

from mer_lightning.batch import Batch
from mer_lightning.methods.base import Losses, MERMethod


class Supervised(MERMethod):
    """The task's loss and the backbone's own, on the modalities that the training masks leave."""

    def training_losses(self, batch: Batch) -> Losses:
        encoded = self.backbone.encode(batch)
        state, own_losses = self.backbone.fuse_with_losses(encoded, batch)
        return {"task": (self.task_losses(state, batch).mean(), 1.0), **own_losses}

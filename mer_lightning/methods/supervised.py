"""Supervised learning on what is there: the control that every other method has to beat."""

from __future__ import annotations

from mer_lightning.batch import Batch
from mer_lightning.methods.base import Losses, MERMethod


class Supervised(MERMethod):
    """The task's loss and the backbone's own, on the modalities that the training masks leave."""

    def training_losses(self, batch: Batch) -> Losses:
        encoded = self.backbone.encode(batch)
        state = self.backbone.fuse(encoded, batch.present)
        task = self.task_losses(state, batch).mean()
        return {"task": (task, 1.0), **self.backbone.auxiliary_losses(encoded, state, batch)}

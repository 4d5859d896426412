"""A callback that probes the codes of MGR every few epochs: do shared codes hide their modality, and do they vary?"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from mer_lightning.evaluation.probes import label_r2, modality_accuracy, spread
from mer_lightning.methods.mgr.method import MGR

_COLLAPSED = 0.05
_MOST = 2000  # training samples for the probes


class ModalityProbe(Callback):
    """Logs `probe/shared_modality` (chance 1/3), `probe/private_modality`, `probe/shared_r2` and `probe/shared_std`.

    Probes are fitted on training codes and scored on validation codes, on the first process.

    Args:
        every: epochs between two probes; the last epoch of a fit is always probed.
    """

    def __init__(self, every: int = 5) -> None:
        self.every = every

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        last = trainer.max_epochs is not None and trainer.current_epoch + 1 >= trainer.max_epochs
        if not isinstance(pl_module, MGR) or trainer.sanity_checking or not trainer.is_global_zero:
            return
        if last or (trainer.current_epoch + 1) % self.every == 0:
            scores = self.scores(pl_module, trainer.datamodule)  # type: ignore[attr-defined]
            for logger in trainer.loggers:
                logger.log_metrics({f"probe/{name}": value for name, value in scores.items()}, trainer.global_step)
            if scores["shared_std"] < _COLLAPSED:
                collapse = f"shared codes have collapsed: they differ by {scores['shared_std']:.3f} between samples"
                warnings.warn(f"{collapse}; raise the weight of 'variance' or lower that of 'moments'", stacklevel=1)

    def scores(self, method: MGR, data: Any) -> dict[str, float]:
        training = method.training
        method.eval()
        (train, private, target), (valid, valid_private, valid_target) = (
            self._codes(method, data.split(name)) for name in ("train", "valid")
        )
        method.train(training)
        one_hot = np.eye(method.task.outputs)
        if method.task.kind == "single_label":
            target, valid_target = one_hot[target], one_hot[valid_target]
        scores = {
            "shared_modality": modality_accuracy(train, valid),
            "shared_r2": label_r2(train, target, valid, valid_target),
            "shared_std": spread(valid),
        }
        if private.shape[1]:
            scores["private_modality"] = modality_accuracy(private, valid_private)
        return scores

    @torch.no_grad()
    def _codes(self, method: MGR, split: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Shared and private codes, and targets, of the samples that have every modality and every label."""
        parts = []
        for index in torch.arange(min(len(split), _MOST)).split(256):
            batch = method.inputs(split.batch(index).to(method.device))
            codes = method.codes(method.backbone.encode(batch))
            assert batch.target is not None
            labelled = batch.target.view(len(batch), -1).isfinite().all(1)
            whole = batch.present[:, method.positions].all(1) & labelled
            parts.append([each[whole].float().cpu() for each in (codes.shared.drawn, codes.private.drawn)])
            parts[-1].append(batch.target[whole].cpu())
        shared, private, target = (torch.cat(column).numpy() for column in zip(*parts, strict=True))
        return shared, private, target

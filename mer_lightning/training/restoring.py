"""Going on from a checkpoint, which may be damaged: what fails before the first step is what the checkpoint did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from mer_lightning.errors import reading
from mer_lightning.methods.base import MERMethod
from mer_lightning.methods.checkpoints import read_checkpoint

_REMEDY = "begin anew in another --run_dir, or copy the run again"


class _Begun(Callback):
    """Lightning restores everything before this is called."""

    over = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.over = True


def fit_from(trainer: Trainer, method: MERMethod, data: Any, start: str | Path | None) -> None:
    """Fit from the beginning, or from the state in the checkpoint ``start``."""
    if start is None:
        trainer.fit(method, datamodule=data, weights_only=True)
        return
    read_checkpoint(start)
    begun = _Begun()
    trainer.callbacks.append(begun)  # type: ignore[attr-defined]
    try:
        trainer.fit(method, datamodule=data, ckpt_path=start, weights_only=True)
    except Exception:
        if begun.over:
            raise
        with reading(start, "a checkpoint from which this fit can go on", _REMEDY):
            raise


def load_weights(method: MERMethod, path: Path) -> None:
    """Those of an earlier phase."""
    weights = read_checkpoint(path)["state_dict"]
    with reading(path, "the weights of an earlier phase", _REMEDY):
        method.load_state_dict(weights)

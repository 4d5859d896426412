"""Weights & Biases, online with a key and offline without; a lost connection never stops a run."""

from __future__ import annotations

import os
from pathlib import Path

from lightning.pytorch.loggers import Logger

from mer_lightning.errors import Refusal


def wandb_logger(folder: Path, group: str) -> Logger:
    try:
        import wandb
    except ImportError as error:
        raise Refusal("--logger wandb", "the package wandb", "none", "pip install 'mer-lightning[wandb]'") from error
    from lightning.pytorch.loggers import WandbLogger

    has_key = bool(os.environ.get("WANDB_API_KEY") or wandb.api.api_key)
    mode = os.environ.get("WANDB_MODE", "online" if has_key else "offline")
    return WandbLogger(
        save_dir=folder,
        name=f"{group}/{folder.name}",
        group=os.environ.get("WANDB_RUN_GROUP", group),
        project=os.environ.get("WANDB_PROJECT", "mer_lightning"),
        offline=mode != "online",
    )

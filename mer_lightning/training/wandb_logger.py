"""Weights & Biases: online with a key, offline without one."""

from __future__ import annotations

import importlib.util
import netrc
import os
from pathlib import Path

from lightning.pytorch.loggers import Logger

from mer_lightning.errors import Refusal


def wandb_logger(folder: Path, group: str) -> Logger:
    """A run of its own in the group of its experiment; `wandb sync` sends an offline one later."""
    if importlib.util.find_spec("wandb") is None:
        raise Refusal("--logger wandb", "the package wandb", "none", "pip install 'mer-lightning[wandb]'")
    # Before wandb is imported: it reads its mode once, and asking it for a key would already do that.
    mode = os.environ.setdefault("WANDB_MODE", "online" if _has_key() else "offline")
    from lightning.pytorch.loggers import WandbLogger

    return WandbLogger(
        save_dir=folder,
        name=f"{group}/{folder.name}",
        group=os.environ.get("WANDB_RUN_GROUP", group),
        project=os.environ.get("WANDB_PROJECT", "mer_lightning"),
        offline=mode != "online",
    )


def _has_key() -> bool:
    """In the environment, or where `wandb login` leaves it."""
    try:
        hosts = netrc.netrc().hosts
    except (OSError, netrc.NetrcParseError):
        hosts = {}
    return "WANDB_API_KEY" in os.environ or any("wandb" in host for host in hosts)

"""Weights & Biases: online with a key, offline without one."""

from __future__ import annotations

import importlib.util
import netrc
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import Logger

from mer_lightning.errors import Refusal
from mer_lightning.training.run_folder import BEST

if TYPE_CHECKING:
    import pandas as pd


def wandb_logger(folder: Path, group: str, tags: list[str]) -> Logger:
    """A run of its own in the group of its experiment; `wandb sync` sends an offline one later."""
    if importlib.util.find_spec("wandb") is None:
        raise Refusal("--logger wandb", "the package wandb", "none", "pip install 'mer-lightning[wandb]'")
    # Before wandb is imported: it reads its mode once, and asking it for a key would already do that.
    mode = os.environ.setdefault("WANDB_MODE", "online" if _has_key() else "offline")
    from lightning.pytorch.loggers import WandbLogger

    logger = WandbLogger(
        save_dir=folder.resolve(),  # the process that writes was started in a folder of its own
        name=f"{group}/{folder.name}",
        group=os.environ.get("WANDB_RUN_GROUP", group),
        project=os.environ.get("WANDB_PROJECT", "mer_lightning"),
        tags=tags,
        offline=mode != "online",
    )
    if getattr(rank_zero_only, "rank", 0) == 0:
        # A sweep reads the summary, which is the last value unless a metric is defined otherwise.
        logger.experiment.define_metric("valid/score", summary="max")
    return logger


def send_results(logger: Logger, folder: Path, rows: pd.DataFrame) -> None:
    """The table of conditions and the best checkpoint. What cannot be sent stays in the folder: no run stops for it."""
    if type(logger).__name__ != "WandbLogger":
        return
    try:
        import wandb

        run: Any = logger.experiment  # type: ignore[attr-defined]
        run.log(
            {"results": wandb.Table(dataframe=rows[["condition", "metric", "variant", "value", "floor", "linear"]])}
        )
        if (folder / BEST).is_file():
            artifact = wandb.Artifact(f"best-{run.id}", type="model")
            artifact.add_file(str(folder / BEST))
            run.log_artifact(artifact)
    except Exception as error:
        warnings.warn(
            f"W&B did not take the results ({type(error).__name__}: {error}); {folder} has them", stacklevel=1
        )


def _has_key() -> bool:
    """In the environment, or where `wandb login` leaves it."""
    try:
        hosts = netrc.netrc().hosts
    except (OSError, netrc.NetrcParseError):
        hosts = {}
    return "WANDB_API_KEY" in os.environ or any("wandb" in host for host in hosts)

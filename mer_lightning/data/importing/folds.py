"""The five partitions of IEMOCAP: each one tests one session and trains on the other four."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mer_lightning.data.raw import SPLITS
from mer_lightning.data.store import carve_valid
from mer_lightning.errors import Refusal

FOLDS_NOTE = (
    "Each fold tests one session; its validation set is carved from the training dialogues, "
    "because the original code chooses the epoch on the test session."
)


def session_folds(dialogues: Sequence[str], source: Path) -> dict[str, NDArray[np.int8]]:
    """``fold-k`` tests session k, the 5th character of a dialogue's id (Ses01F_impro01 is of session 1)."""
    for dialogue in dialogues:
        if len(dialogue) < 5 or dialogue[4] not in "12345":
            expected = "dialogues named as IEMOCAP names them, with the session 1 to 5 as 5th character"
            raise Refusal(source, expected, f"'{dialogue}'", "check the ids")
    train, test = SPLITS.index("train"), SPLITS.index("test")
    folds = {}
    for session in "12345":
        partition = np.array([test if dialogue[4] == session else train for dialogue in dialogues], dtype=np.int8)
        folds[f"fold-{session}"] = carve_valid(partition, list(dialogues))
    return folds

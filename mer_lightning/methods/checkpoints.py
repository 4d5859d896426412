"""Reading a checkpoint, which may come from a stranger."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mer_lightning.data.importing.torch_file import load_torch
from mer_lightning.errors import Refusal

_CHECKPOINT = "a checkpoint that mer-lightning fit wrote"


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """What a checkpoint holds, on the CPU."""
    content = load_torch(Path(path), _CHECKPOINT)
    if not isinstance(content, dict) or not isinstance(content.get("state_dict"), dict):
        raise Refusal(path, _CHECKPOINT, "something else", "check the path, or copy the file again")
    return content

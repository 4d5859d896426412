"""A trained model as a folder that can be given to others, in the layout of huggingface_hub, without any pickle.

README.md           the model card
model.safetensors   weights
config.json         the method and its options, and what else a checkpoint knows
config.yaml, corpus.yaml, results.csv   of the run that made it
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from mer_lightning import __version__
from mer_lightning.errors import Refusal, reading
from mer_lightning.methods.base import MERMethod
from mer_lightning.methods.checkpoints import read_checkpoint
from mer_lightning.methods.loading import method_of
from mer_lightning.plain_values import expect
from mer_lightning.training.run_folder import BEST, CONFIG, CORPUS, RESULTS
from mer_lightning.whole_files import whole, write_whole

WEIGHTS, MODEL, CARD = "model.safetensors", "config.json", "README.md"
_FACTS = ("trained_on", "untrained", "labels")  # of a checkpoint, beside options and weights
_MODEL = "a model that mer_lightning saved"


def save(run_folder: Path, folder: Path, card: str) -> Path:
    """Write the folder; one that has other files in it is refused."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Refusal(folder, "a new or empty folder", "other files", "choose another one")
    checkpoint = read_checkpoint(run_folder / BEST)
    options = {name: value for name, value in checkpoint["hyper_parameters"].items() if name != "_instantiator"}
    facts = {name: checkpoint[name] for name in _FACTS if name in checkpoint}
    folder.mkdir(parents=True, exist_ok=True)
    with whole(folder / WEIGHTS) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in checkpoint["state_dict"].items()}, temporary)
    model = {"library_name": "mer_lightning", "version": __version__, "options": options, **facts}
    write_whole(folder / MODEL, json.dumps(model, indent=2) + "\n")
    for name in (CONFIG, CORPUS, RESULTS):
        shutil.copyfile(run_folder / name, folder / name)
    write_whole(folder / CARD, card)
    return folder


def is_saved(folder: Path) -> bool:
    return (folder / WEIGHTS).is_file() and (folder / MODEL).is_file()


def load_saved(folder: Path) -> MERMethod:
    with reading(folder / MODEL, _MODEL):
        content: Any = json.loads((folder / MODEL).read_text(encoding="utf-8"))
    content = expect(folder / MODEL, content, dict[str, Any], _MODEL, "copy the folder again")
    with reading(folder / WEIGHTS, "the weights of a model"):
        try:
            weights = load_file(folder / WEIGHTS)
        except SafetensorError as error:
            raise Refusal(folder / WEIGHTS, "the weights of a model", str(error), "copy the folder again") from error
    checkpoint = {"hyper_parameters": content.get("options"), "state_dict": weights, **content}
    return method_of(checkpoint, folder / MODEL)

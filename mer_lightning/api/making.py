"""From names to a method, and from a method and data to a run."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mer_lightning.api.run import Run, run_quietly
from mer_lightning.api.saved import is_saved
from mer_lightning.data.datamodule import MERData
from mer_lightning.errors import Refusal
from mer_lightning.made_with import options_of, plain
from mer_lightning.methods.base import MERMethod, all_methods
from mer_lightning.methods.checkpoints import read_checkpoint
from mer_lightning.methods.loading import take

_NO_OPTIONS = ("_class_path", "_instantiator", "dims", "task_card")  # what a fit finds out itself


def method(name: str | type[MERMethod], data: MERData, **options: Any) -> MERMethod:
    """A method with new weights, for the features and the task of some data.

    Args:
        name: `supervised`, `cdat`, `mgr`, `mcur`, ... (`mer-lightning methods`), or a class of your own.
        data: made by :func:`mer_lightning.data`.
        options: those of the method (`mer-lightning fit --model.help cdat`), such as `backbone="tfn"`. A class among
            them may be given by its name, as an object, or with options,
            `{"class_path": "tfn", "init_args": {"width": 32}}`.
    """
    if isinstance(name, str):
        known = all_methods()
        if name not in known:
            raise Refusal("method", f"one of {', '.join(known)}, or a class", f"'{name}'", "choose one")
        name = known[name]
    chosen: Any = name  # its class is called with what a configuration says
    made: MERMethod = chosen(data=data, **{"backbone": "late_transformer", **options})
    return made


def fit(
    model: MERMethod,
    data: MERData,
    *,
    seed: int = 1111,
    max_epochs: int | None = None,
    protocol: str | Sequence[str] | None = None,
    name: str | None = None,
    run_dir: str | Path | None = None,
    **options: Any,
) -> Run:
    """Train in all phases, choose the best checkpoint on validation, and test it: `mer-lightning fit` in Python.

    Weights are drawn anew from the seed, so that the run is the one that its own configuration makes again. The model
    holds the trained weights afterwards.

    Args:
        model: made by :func:`method`, or by calling a method's class with `data`.
        data: made by :func:`mer_lightning.data`.
        seed: of weights, orders and training masks.
        max_epochs: of all phases together; default: 40.
        protocol: the conditions of the test; default: all combinations of the modalities.
        name: of the experiment: the run's folder is runs/NAME/1, 2, ...
        run_dir: the very folder.
        options: others of `mer-lightning fit`, such as `patience=5`, `logger="wandb"`, `test_after_fit=False`, or
            `trainer={"accelerator": "gpu"}`.
    """
    hyperparameters = dict(model.hparams)
    if "_class_path" not in hyperparameters:
        expected = "a method made by mer_lightning.method, or by its class with data=..."
        raise Refusal("model", expected, "one whose options are not known", "make it so")
    trainer = dict(options.pop("trainer", {})) | ({} if max_epochs is None else {"max_epochs": max_epochs})
    given = {"protocol": protocol, "name": name, "run_dir": run_dir, **options}
    config = {
        "seed_everything": seed,
        "model": {
            "class_path": hyperparameters["_class_path"],
            "init_args": {key: each for key, each in hyperparameters.items() if key not in _NO_OPTIONS},
        },
        "data": {key: each for key, each in options_of(data).items() if key != "seed"},
        "trainer": plain(trainer),
        **{key: plain(each) for key, each in given.items() if each is not None},
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fit.json"
        path.write_text(json.dumps(config), encoding="utf-8")
        run = Run(run_quietly(["fit", "--config", str(path)]))
    take(model, read_checkpoint(run.checkpoint))
    model.eval()
    return run


def load(folder: str | Path) -> Run:
    """A run that `fit` or the command line has made, by its folder; or a model that `Run.save` has written."""
    run = Run(Path(folder))
    if not run.checkpoint.is_file() and not is_saved(run.folder):
        raise Refusal(run.folder, "a run's folder, with a checkpoint", "none", "name a folder that fit made")
    return run

"""The options of `fit`, `validate`, `test` and `predict`, read from the sources: a misspelt one is refused before torch
and Lightning are imported."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from mer_lightning.discovery import parameters
from mer_lightning.errors import Refusal, did_you_mean

# Ours, with their help.
OPTIONS = {
    "protocol": "conditions to test under, e.g. rate-cpm",
    "mask_seed": "seed of the evaluation masks",
    "name": "of the experiment: runs/NAME/1, 2, ...",
    "run_dir": "folder of this very run",
    "resume": "go on with this folder's unfinished fit",
    "logger": "where metrics over time go",
    "patience": "epochs without a better validation score",
    "test_after_fit": "test the best checkpoint after fit",
}
OF_ONE_COMMAND = {
    "test": {"labels": "which class of the run stands for which class of the corpus: {mine: theirs, ...}"},
    "predict": {"output": "table to write, .csv or .parquet"},
}
LIGHTNINGS = {
    *("config", "print_config", "help", "seed_everything", "trainer", "model", "data"),
    *("ckpt_path", "weights_only", "verbose", "return_predictions"),
}
_OF_EVERY_CLASS = {"class_path", "init_args", "dict_kwargs", "help"}
DATA, METHOD = "mer_lightning.data.datamodule.MERData", "mer_lightning.methods.base.MERMethod"
TRAINER = "lightning.pytorch.trainer.trainer.Trainer"
_OURS = "mer_lightning."


def refuse_unknown_options(command: str, given: Mapping[str, Any]) -> None:
    """Refuse the first option, of a command line or a configuration, that nothing can be done with."""
    for option in given:
        for group, known in _known(command, given):
            name = option.removeprefix(group).partition(".")[0].removesuffix("+")
            if option.startswith(group) and name not in known:
                raise unknown_option(group + name, [group + each for each in known])


def unknown_option(option: str, known: Collection[str]) -> Refusal:
    remedy = did_you_mean(option, sorted(known), "see --help", cutoff=0.5, written="--{}")
    return Refusal(f"--{option}", "an option", "none of that name", remedy)


def _known(command: str, given: Mapping[str, Any]) -> Iterator[tuple[str, Collection[str]]]:
    """(what the name of an option begins with, the names that may follow)"""
    yield "", LIGHTNINGS | {command} | OPTIONS.keys() | OF_ONE_COMMAND.get(command, {}).keys()
    yield "data.", parameters(DATA)
    yield "trainer.", parameters(TRAINER)
    for place in ("model", "model.backbone"):
        class_path = str(given.get(place))
        if class_path.startswith(_OURS):
            yield f"{place}.", parameters(class_path) | _OF_EVERY_CLASS

"""`fit --help` and its like: our options in groups, with the words of their docstrings. Nothing heavy is imported."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator

from mer_lightning.discovery import parameter_help
from mer_lightning.methods.places import PLACES
from mer_lightning.training.known_options import DATA, METHOD, OF_ONE_COMMAND, OPTIONS

ALL = "--help-all"
_GIVEN = ("dims", "task_card", "backbone")  # by the data, or said in other words
# Of Lightning's, those that most people need.
_TRAINING = {
    "trainer.max_epochs": "epochs at most, of all phases of a method together; default: 40",
    "patience": OPTIONS["patience"] + "; default: 10",
    "seed_everything": "of weights, orders and masks; default: 1111",
    "trainer.accelerator": "auto, cpu, gpu, mps",
    "trainer.devices": "how many",
    "trainer.precision": "32-true, bf16-mixed or 16-mixed",
    "trainer.gradient_clip_val": "the largest norm of a gradient",
}
_FILES = {name: OPTIONS[name] for name in ("name", "run_dir", "logger")}
_RUN = {"run RUN": "the folder of a trained run: its configuration and its best checkpoint"}
_EVERYWHERE = {
    "trust PACKAGE": "configurations may name classes of this package of yours; repeatable",
    "quiet": "nothing but refusals and the result",
    "json": "the result as JSON on stdout, all else on stderr",
    "print_config": "what the options come to, as YAML",
    ALL[2:]: "these and all of Lightning's",
    "model.help NAME": "the options of a method",
    "model.backbone.help NAME": "those of a backbone",
}
_USAGE = {
    "fit": "train, then test the best checkpoint:\n  mer-lightning fit --config FILE",
    "validate": "measure a run on the validation split:\n  mer-lightning validate --run RUN",
    "test": "measure a run on the test split:\n  mer-lightning test --run RUN",
    "predict": "label clips with a run:\n  mer-lightning predict --run RUN --data.corpus FILE",
}
_INDENT = 32


def short_help(command: str) -> str:
    width = min(shutil.get_terminal_size((100, 24)).columns, 100)
    lines = [f"mer-lightning {command}: {_USAGE[command]}"]
    for title, options in _groups(command):
        lines.append(f"\n{title}")
        for name, meaning in options.items():
            head = f"  --{name}"
            head = f"{head}\n{'':{_INDENT}}" if len(head) >= _INDENT - 1 else f"{head:{_INDENT}}"
            text = textwrap.wrap(meaning, width - _INDENT)
            lines.append(head + f"\n{'':{_INDENT}}".join(text))
    return "\n".join(lines)


def _groups(command: str) -> Iterator[tuple[str, dict[str, str]]]:
    data = {f"data.{name}": text for name, text in parameter_help(DATA).items()}
    tested = {name: OPTIONS[name] for name in ("protocol", "mask_seed")}
    if command != "fit":
        yield "the run", _RUN | _FILES
        needed = ("corpus", "alignment", "partition", "eval_batch_size", "synthetic", "samples", "process")
        yield "the data, where they are not those of the run", {f"data.{name}": data[f"data.{name}"] for name in needed}
        yield "what is measured", tested | OF_ONE_COMMAND.get(command, {})
    else:
        names = {place: ", ".join(PLACES[place].classes()) for place in PLACES if place[0] == "model"}
        method = {name: text for name, text in parameter_help(METHOD).items() if name not in _GIVEN}
        yield (
            "what is trained",
            {
                "config FILE": "an experiment; options after it override it",
                "model NAME": f"the method: {names['model',]}",
                "model.backbone NAME": f"the fusion model: {names['model', 'backbone']}",
                **{f"model.{name}": text for name, text in method.items()},
            },
        )
        yield "on what", data
        yield "how long, and where", _TRAINING
        yield "what is measured afterwards", tested | {"test_after_fit": OPTIONS["test_after_fit"]}
        yield "what is kept", _FILES | {"resume RUN": OPTIONS["resume"]}
    yield "everywhere", _EVERYWHERE

"""From the words of a command line to a run. What can be refused without Lightning is refused before it is imported:
that takes seconds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from jsonargparse._loaders_dumpers import yaml_load

from mer_lightning.data.catalogue import TWINS
from mer_lightning.data.places import ALIGNMENTS, refuse_absent
from mer_lightning.errors import Refusal
from mer_lightning.evaluation.protocols import refuse_unknown
from mer_lightning.methods import names
from mer_lightning.training.begun import refuse_changed_config
from mer_lightning.training.given import DEFAULT_CORPUS, data_options, is_twin, options_given
from mer_lightning.training.help import ALL, short_help
from mer_lightning.training.known_options import refuse_unknown_options
from mer_lightning.training.run_folder import BEST, CONFIG, RESULTS
from mer_lightning.yaml_text import from_yaml

if TYPE_CHECKING:
    from mer_lightning.training.lightning_cli import MERCLI

_ASKS_ONLY = ("-h", "--help", "--print_config")  # nothing is run


def run(args: list[str], show: bool = True) -> MERCLI | None:
    """Run one subcommand; what a test or a study calls, too. Nothing is left to run of a fit that is finished."""
    if {"-h", "--help"} & {*args}:
        print(short_help(args[0]))
        return None
    args = ["--help" if arg == ALL else arg for arg in args]
    _, finished, _ = _named_folder("--resume", args)
    if finished is not None and (finished / RESULTS).is_file():
        print(f"{finished}: finished, its results are in {finished / RESULTS}")
        return None
    args = resolved(args)
    refuse_early(args)
    from mer_lightning.training.lightning_cli import run_resolved

    return run_resolved(args, show)


def resolved(args: list[str]) -> list[str]:
    """The same with class paths for short names, and files for folders of runs; each class before its options."""
    return names.classes_first(names.in_arguments(_with_resume(_with_run(args))))


def refuse_early(args: Sequence[str]) -> None:
    """Refuse a misspelt option, a protocol that no corpus can meet, and a corpus that is not there.

    Lightning's parser has the last word on all that is written in another form than usual.
    """
    if any(arg.partition("=")[0] in _ASKS_ONLY or arg.endswith(".help") for arg in args):
        return
    command, *options = args
    given = options_given(options)
    refuse_unknown_options(command, given)
    if command != "fit" and _value(given.get("ckpt_path")) is None:
        raise Refusal(command, "a trained run", "none", "name one: --run runs/NAME/NUMBER")
    protocol = _value(given.get("protocol"))
    if isinstance(protocol, str):
        protocol = [protocol]
    if isinstance(protocol, list) and all(isinstance(each, str) for each in protocol):
        refuse_unknown(protocol)
    data = {"corpus": DEFAULT_CORPUS, **{option: _value(value) for option, value in data_options(options).items()}}
    corpus, alignment, process = data["corpus"], data.get("alignment"), data.get("process", "default")
    usual = isinstance(corpus, str) and alignment in (None, *ALIGNMENTS) and isinstance(process, str)
    if usual and "data" not in given:
        refuse_absent(corpus, alignment, is_twin(data), process)


def _value(text: Any) -> Any:
    """What YAML makes of an option's value."""
    try:
        return from_yaml(text, yaml_load) if isinstance(text, str) else text
    except yaml.YAMLError:  # the parser says it with the name of the option
        return None


def _with_run(args: list[str]) -> list[str]:
    """`--run RUN` stands for the configuration and the best checkpoint of a run."""
    before, folder, after = _named_folder("--run", args, CONFIG, BEST)
    if folder is None:
        return args
    # The run's own folder is full, whatever --run_dir it was begun with.
    own = ["--config", str(folder / CONFIG), "--run_dir", "null", "--ckpt_path", str(folder / BEST)]
    return [*before, *own, *_not_its_twin([*before, *after]), *after]


def _not_its_twin(args: Sequence[str]) -> list[str]:
    """Whatever a run was trained on, a corpus of one's own that is named beside it is no synthetic twin."""
    data = data_options(args)
    if data.get("corpus", TWINS[0]) in TWINS or "synthetic" in data:
        return []
    return ["--data.synthetic", "false", "--data.process", "default", "--data.alignment", "null"]


def _with_resume(args: list[str]) -> list[str]:
    """`--resume RUN` stands for the configuration and the folder of a run, too."""
    before, folder, after = _named_folder("--resume", args, CONFIG)
    if folder is None:
        return args
    refuse_changed_config(folder)
    return [*before, "--config", str(folder / CONFIG), "--run_dir", str(folder), "--resume", str(folder), *after]


def _named_folder(option: str, args: list[str], *needed: str | Path) -> tuple[list[str], Path | None, list[str]]:
    """(arguments before, the run's folder that the option names, arguments after)."""
    for number, arg in enumerate(args):
        if arg == option or arg.startswith(f"{option}="):
            given = arg.partition("=")[2] or (args[number + 1] if number + 1 < len(args) else "")
            folder = Path(given)
            for name in needed:
                if not (folder / name).is_file():
                    raise Refusal(folder, f"a run's folder with {name} in it", "none", "name a folder that fit made")
            return args[:number], folder, args[number + (1 if "=" in arg else 2) :]
    return args, None, []

"""`mer-lightning --print_completion bash`: a script that completes commands, options and the names that they take.

eval "$(mer-lightning --print_completion bash)"
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterable, Mapping

from mer_lightning.data.catalogue import catalogue
from mer_lightning.discovery import parameters
from mer_lightning.errors import Refusal
from mer_lightning.evaluation.protocols import BY_CORPUS, PROTOCOLS
from mer_lightning.methods.places import PLACES
from mer_lightning.output import JSON, QUIET
from mer_lightning.training.help import ALL
from mer_lightning.training.known_options import DATA, METHOD, OF_ONE_COMMAND, OPTIONS, TRAINER

_EVERYWHERE = (QUIET, JSON, "--trust", "--help")
_SHELLS = ("bash",)

_SCRIPT = """\
_mer_lightning() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" words=""
    if [[ $before == = ]]; then before="${{COMP_WORDS[COMP_CWORD-2]}}"; fi
    if [[ $word == = ]]; then word=""; before="${{COMP_WORDS[COMP_CWORD-1]}}"; fi
    if [[ $COMP_CWORD -eq 1 ]]; then
        words="{commands}"
    else
        case "$before" in
{values}
        esac
        if [[ -z $words ]]; then
            case "${{COMP_WORDS[1]}}" in
{options}
            esac
            if [[ $word != -* && ${{COMP_WORDS[1]}} != data ]]; then words=""; fi
        fi
    fi
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _mer_lightning mer-lightning"""


def script(shell: str, commands: Iterable[str], own_parsers: Mapping[str, str]) -> str:
    """``own_parsers`` are {command: the module that makes its parser}; Lightning's parser makes those of the others."""
    if shell not in _SHELLS:
        raise Refusal("--print_completion", f"one of {', '.join(_SHELLS)}", f"'{shell}'", "name one")
    values = _values_of_runs()
    options = {}
    for command in commands:
        module = importlib.import_module(own_parsers[command]) if command in own_parsers else None
        make_parser = getattr(module, "make_parser", None)
        words = _of_parser(make_parser(), values) if make_parser else _of_runs(command)
        options[command] = [*words, *_EVERYWHERE]
    first = " ".join([*options, "--help", "--version"])
    return _SCRIPT.format(commands=first, values=_cases(values), options=_cases(options))


def _cases(words: Mapping[str, Iterable[str]]) -> str:
    return "\n".join(f'            {name}) words="{" ".join(each)}" ;;' for name, each in words.items())


def _values_of_runs() -> dict[str, list[str]]:
    """{option: the names that it takes}"""
    values = {f"--{'.'.join(place)}": list(asked.classes() or asked.words) for place, asked in PLACES.items()}
    values["--protocol"] = [*BY_CORPUS, *PROTOCOLS]
    values["--corpus"] = values["--data.corpus"] = list(catalogue())
    return {option: names for option, names in values.items() if names}


def _of_runs(command: str) -> list[str]:
    groups = {
        "data": parameters(DATA),
        "trainer": parameters(TRAINER),
        "model": parameters(METHOD) - {"dims", "task_card"},
    }
    own = [*OPTIONS, *OF_ONE_COMMAND.get(command, {}), "config", "seed_everything", "print_config", "model", ALL[2:]]
    own += [] if command == "fit" else ["run"]
    return [f"--{name}" for name in own] + [
        f"--{group}.{name}" for group, names in groups.items() for name in sorted(names)
    ]


def _of_parser(parser: argparse.ArgumentParser, values: dict[str, list[str]]) -> list[str]:
    """Options of a parser and of its commands, and these; what its options take is added to ``values``."""
    words: list[str] = []
    for action in parser._actions:
        words += [option for option in action.option_strings if option.startswith("--")]
        if isinstance(action, argparse._SubParsersAction):
            words += [word for name, each in action.choices.items() for word in (name, *_of_parser(each, values))]
        elif action.choices and action.option_strings:
            values.setdefault(action.option_strings[0], [str(choice) for choice in action.choices])
    return list(dict.fromkeys(word for word in words if word not in _EVERYWHERE))

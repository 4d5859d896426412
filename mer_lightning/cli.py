"""The `mer-lightning` program: parse the first word, then call. Heavy imports wait until they are needed."""

from __future__ import annotations

import importlib
import os
import sys

COMMANDS = {
    "init": "make a project of your own: a method, a backbone, an experiment and their test",
    "fit": "train, then test the best checkpoint under the protocol",
    "validate": "measure a checkpoint on the validation split",
    "test": "measure a checkpoint on the test split, under every condition of a protocol",
    "predict": "label a corpus folder or an .npz file with a trained run",
    "reproduce": "run the studies of the field, resumable, and report them",
    "ablate": "switch off each part of a method, over seeds, and test the differences",
    "report": "tables, tests and figures of some runs, in one HTML page and for papers",
    "score": "stored predictions of any other system, against the same metrics, floors and tests",
    "diagnose": "how reliable runs are when a modality is masked, and who is right when modalities contradict",
    "sweep": "run the trials of a sweep file in W&B's grammar, here or on a Ray cluster",
    "published": "what papers report for a corpus, each table with its source",
    "methods": "list the methods and their experiments",
    "backbones": "list the fusion models with their size and speed",
    "data": "inspect, import, verify, synthesize and list corpora",
    "docs": "the pages of the documentation",
}

# Commands with a file of their own; the others are Lightning's.
_OWN_PARSERS = {
    "fit": "mer_lightning.commands.fit",
    "init": "mer_lightning.commands.init",
    "reproduce": "mer_lightning.commands.reproduce",
    "ablate": "mer_lightning.commands.ablate",
    "report": "mer_lightning.commands.report",
    "score": "mer_lightning.commands.score",
    "diagnose": "mer_lightning.commands.diagnose",
    "sweep": "mer_lightning.commands.sweep",
    "published": "mer_lightning.commands.published",
    "methods": "mer_lightning.commands.methods",
    "backbones": "mer_lightning.commands.backbones",
    "data": "mer_lightning.commands.data",
    "docs": "mer_lightning.commands.docs",
}
_DATA_WITH_RESULT = ("inspect", "list")  # the others make files

HELP = """mer-lightning: honest, fast, repeatable experiments in multimodal emotion recognition

usage: mer-lightning COMMAND [options]        (mer-lightning COMMAND --help shows them)

{commands}

  --trust PACKAGE   after any command: configurations may name classes of this package of yours; repeatable
  --quiet           after any command: nothing but refusals and the result
  --json            after any command: the result as JSON on stdout, all else on stderr
  --print_completion bash   a script for the shell: eval "$(mer-lightning --print_completion bash)"

exit codes: 0 done, 1 some runs of a study failed, 2 refused, 3 diverged, 130 ended by Ctrl-C, 143 by SIGTERM

examples:
  mer-lightning fit --config supervised_mosi --data.synthetic true
  mer-lightning fit --config supervised_mosi --model.backbone early --protocol rate-cpm
  mer-lightning test --run runs/supervised_mosi/1 --protocol fixed-7
  mer-lightning predict --run runs/supervised_mosi/1 --data.corpus clips.npz
  mer-lightning data inspect FILE"""


def main(args: list[str] | None = None) -> int:
    args = sys.argv[1:] if args is None else args
    if not args or args[0] in ("-h", "--help", "help"):
        print(HELP.format(commands="\n".join(f"  {name:10} {what}" for name, what in COMMANDS.items())))
        return 0
    if args[0] in ("-V", "--version"):
        from mer_lightning import __version__

        print(f"mer-lightning {__version__}")
        return 0
    from mer_lightning.output import printing_as_asked
    from mer_lightning.projects import in_own_project
    from mer_lightning.signals import code_of_signal, ending_on_signals
    from mer_lightning.trust import trusting

    try:
        with ending_on_signals(), printing_as_asked(args[1:]) as words, trusting(words) as rest, in_own_project():
            _refuse_without_result(args)
            code = _run(args[0], rest)
            sys.stdout.flush()  # a reader that is gone is noticed here, and not when Python ends
            return code
    except BaseException as error:
        if (signalled := code_of_signal(error)) is not None:
            return signalled
        if not isinstance(error, Exception):
            raise
        if isinstance(error, BrokenPipeError):  # `| head` has read enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python would complain at its end
            return 141
        from mer_lightning.errors import DEFECT, Diverged, refusal_behind

        if isinstance(error, Diverged):
            print(f"mer-lightning: {error}", file=sys.stderr)
            return 3
        refusal = refusal_behind(error)
        if refusal is None:
            error.add_note(DEFECT)
            raise
        print(f"mer-lightning: {refusal}", file=sys.stderr)
        return 2


def _refuse_without_result(args: list[str]) -> None:
    from mer_lightning.errors import Refusal
    from mer_lightning.output import JSON

    if JSON in args and args[0] == "data" and not {*_DATA_WITH_RESULT} & {*args}:
        found = " ".join(arg for arg in args[:2] if arg != JSON)
        expected = f"a command with a result: of data, {' or '.join(_DATA_WITH_RESULT)}"
        raise Refusal(JSON, expected, found, "leave it out")


def _run(command: str, rest: list[str]) -> int:
    from mer_lightning.errors import Refusal, did_you_mean

    if command == "--print_completion":
        from mer_lightning.commands.completion import script

        print(script(rest[0] if rest else "", COMMANDS, _OWN_PARSERS))
        return 0
    if module := _OWN_PARSERS.get(command):
        return importlib.import_module(module).main(rest)
    if command in COMMANDS:
        from mer_lightning.training.starting import run

        run([command, *rest])
        return 0
    remedy = did_you_mean(command, COMMANDS, "see mer-lightning --help", written="'{}'")
    raise Refusal("mer-lightning", f"a command among {', '.join(COMMANDS)}", f"'{command}'", remedy)


if __name__ == "__main__":
    sys.exit(main())

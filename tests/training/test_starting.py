"""What is refused before torch and Lightning are imported, and with which words."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from jsonargparse import ArgumentParser
from lightning.pytorch import Trainer

from mer_lightning.backbones.base import all_backbones
from mer_lightning.cli import main
from mer_lightning.data.catalogue import TWINS
from mer_lightning.data.datamodule import MERData
from mer_lightning.data.synthetic.twins import SHAPES
from mer_lightning.discovery import import_path, parameters
from mer_lightning.encoders.base import all_text_encoders
from mer_lightning.errors import Refusal
from mer_lightning.methods.base import all_methods
from mer_lightning.methods.places import PLACES
from mer_lightning.training.given import options_given
from mer_lightning.training.known_options import LIGHTNINGS, OF_ONE_COMMAND, OPTIONS, refuse_unknown_options
from mer_lightning.training.starting import refuse_early, resolved
from tests.test_advice import lightning_parser

EARLY = ["fit", "--model", "supervised", "--model.backbone", "early"]
WRONG = {
    "a method": (["fit", "--model", "supervized"], "did you mean supervised?"),
    "a backbone": (["fit", "--model", "supervised", "--model.backbone", "tfm"], "did you mean tfn?"),
    "a corpus": ([*EARLY, "--data.corpus", "mossi"], "did you mean mosi?"),
    "a corpus that is not there": ([*EARLY, "--data.corpus", "mosi"], "mer-lightning data import FILE --as mosi"),
    "a twin": ([*EARLY, "--data.corpus", "mossi", "--data.synthetic", "true"], "did you mean mosi?"),
    "a file of arrays": ([*EARLY, "--data.corpus", "nothing.npz"], "nothing.npz: expected an .npz file; found none"),
    "a protocol": ([*EARLY, "--data.synthetic", "true", "--protocol", "rate-cmp"], "did you mean rate-cpm"),
    "an option of the data": ([*EARLY, "--data.synthetik", "true"], "did you mean --data.synthetic?"),
    "an option of ours": ([*EARLY, "--protocoll", "fixed-7"], "did you mean --protocol?"),
    "an option of a backbone": ([*EARLY, "--model.backbone.widht", "8"], "did you mean --model.backbone.width?"),
    "an option of Lightning": ([*EARLY, "--trainer.max_epoch", "8"], "did you mean --trainer.max_epochs?"),
    "a configuration": (["fit", "--config", "nothing.yaml"], "--config nothing.yaml: expected a file"),
    "YAML": (["fit", "--config", "broken.yaml"], "broken.yaml: expected a configuration; found ScannerError"),
    "an option in a file": (["fit", "--config", "typo.yaml"], "did you mean --data.batch_size?"),
    "a run": (["test", "--run", "nothing"], "name a folder that fit made"),
    "no run": (["predict", "--data.corpus", "clips.npz"], "--run runs/"),
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MER_DATA", str(tmp_path / "data"))
    Path("broken.yaml").write_text("model: supervised\n  data: [\n")
    Path("typo.yaml").write_text(
        "model: {class_path: supervised, init_args: {backbone: early}}\ndata: {batchsize: 4}\n"
    )
    return tmp_path


@pytest.mark.parametrize("case", WRONG)
def test_one_line_with_a_remedy(case: str, capfd: pytest.CaptureFixture[str]) -> None:
    given, fragment = WRONG[case]
    assert main(given) == 2
    (line,) = capfd.readouterr().err.strip().splitlines()
    assert fragment in line


def test_no_mistake_waits_for_torch() -> None:
    code = (
        "import sys\nfrom mer_lightning.cli import main\n"
        f"for given in {[given for given, _ in WRONG.values()]}:\n    assert main(given) == 2\n"
        "print([name for name in ('torch', 'lightning', 'pandas', 'rich') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "given",
    [
        ["--data.synthetic", "true", "--protocol", "[rate-cpm, fixed-7]", "--model.backbone.width", "8"],
        ["--data.synthetic=true", "--model.optimizer", "AdamW", "--model.optimizer.lr", "1e-3"],
        ["--data", "data.yaml"],
        ["--config", "{data: {synthetic: true}}", "--trainer.callbacks+=Timer", "--trainer.callbacks.interval", "step"],
        ["--data.corpus", "mossi", "--print_config"],
        # Options that the last method does not have are left out by the parser, too.
        ["--data.synthetic", "true", "--model", "cdat", "--model.weight", "1", "--config", "{model: mgr}"],
    ],
)
def test_what_may_be_right_is_left_to_the_parser(given: list[str]) -> None:
    refuse_early(resolved([*EARLY, *given]))


def test_the_last_value_counts_whatever_way_it_is_written() -> None:
    Path("nested.yaml").write_text("model: {class_path: supervised, init_args: {backbone: {class_path: tfn}}}\n")
    Path("dotted.yaml").write_text("data.corpus: mine\nprotocol: [t, a]\n")
    given = options_given(resolved(["--config", "nested.yaml", "--config=dotted.yaml", "--model.backbone.width", "8"]))
    assert given == {
        "model": "mer_lightning.methods.supervised.Supervised",
        "model.backbone": "mer_lightning.backbones.tfn.TFN",
        "data.corpus": "mine",
        "protocol": ["t", "a"],
        "model.backbone.width": "8",
    }


def test_names_read_from_the_sources_are_those_of_the_imported_classes() -> None:
    for place, found in {
        ("model",): all_methods(),
        ("model", "backbone"): all_backbones(),
        ("model", "text_encoder"): all_text_encoders(),
    }.items():
        assert PLACES[place].classes() == {name: import_path(cls) for name, cls in found.items()}
    assert set(TWINS) == set(SHAPES)


def test_parameters_read_from_the_sources_are_those_that_the_parser_finds() -> None:
    trainer = "lightning.pytorch.trainer.trainer.Trainer"
    classes = {import_path(cls): cls for cls in (*all_methods().values(), *all_backbones().values(), MERData)}
    for path, cls in (classes | {trainer: Trainer}).items():
        parser = ArgumentParser()
        parser.add_class_arguments(cls, "own", instantiate=False)
        names = {action.dest.split(".")[1] for action in parser._actions if action.dest.startswith("own.")}
        assert parameters(path) == names, path


def test_options_are_those_of_the_parser() -> None:
    known: set[str] = set()
    for command in ("fit", "validate", "test", "predict"):
        parser = lightning_parser(command)._subcommands_action._name_parser_map[command]
        options = {name[2:] for name in parser._option_string_actions if name.startswith("--")}
        top = {option.split(".")[0].removesuffix("+") for option in options}
        known |= top
        assert OPTIONS.keys() | OF_ONE_COMMAND.get(command, {}).keys() <= top
        with pytest.raises(Refusal, match="--labels" if command == "predict" else "--nothing"):
            refuse_unknown_options(command, {"labels": ""} if command == "predict" else {"nothing": ""})
    assert known - OPTIONS.keys() - {name for of in OF_ONE_COMMAND.values() for name in of} == LIGHTNINGS

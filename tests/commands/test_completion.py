"""The script that completes in bash, run by bash; and the short help."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from mer_lightning.cli import COMMANDS, main

_TRY = 'COMP_WORDS=({words}); COMP_CWORD={last}; COMPREPLY=(); _mer_lightning; echo "${{COMPREPLY[*]}}"'


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import contextlib
    import io

    out, path = io.StringIO(), tmp_path_factory.mktemp("shell") / "complete.sh"
    with contextlib.redirect_stdout(out):
        assert main(["--print_completion", "bash"]) == 0
    path.write_text(out.getvalue())
    return path


def completed(script: Path, *words: str) -> list[str]:
    tried = _TRY.format(words=" ".join(f"'{word}'" for word in ("mer-lightning", *words)), last=len(words))
    done = subprocess.run(["bash", "-c", f"source {script}; {tried}"], capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["re"], ["reproduce", "report"]),
        (["fit", "--data.sy"], ["--data.synthetic"]),
        (["fit", "--model", "su"], ["supervised"]),
        (["fit", "--model.backbone", "=", "ta"], ["tailor"]),
        (["test", "--protocol", "rate-c"], ["rate-cpm"]),
        (["predict", "--ou"], ["--output"]),
        (["data", "ins"], ["inspect"]),
        (["data", "import", "x.npz", "--nonf"], ["--nonfinite"]),
        (["reproduce", "--budget", ""], ["quick", "paper"]),
        (["published", "--js"], ["--json"]),
        (["report", "ru"], []),  # bash completes files
    ],
)
def test_bash_completes(script: Path, words: list[str], expected: list[str]) -> None:
    assert completed(script, *words) == expected


def test_every_command_is_completed(script: Path) -> None:
    assert set(COMMANDS) <= set(completed(script, ""))
    for command in COMMANDS:
        assert "--quiet" in completed(script, command, "--")


def test_another_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--print_completion", "fish"]) == 2
    assert "expected one of bash; found 'fish'" in capsys.readouterr().err


def test_help_of_fit_is_ours_and_fits_two_screens(monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["fit", "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) < 110
    named = set(re.findall(r"^  --([\w.]+)", "\n".join(lines), re.MULTILINE))
    assert {"model.backbone", "data.synthetic", "trainer.max_epochs", "protocol", "resume", "json"} <= named


def test_help_all_is_lightnings(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["fit", "--help-all"])
    assert "--trainer.accumulate_grad_batches" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
def test_every_option_of_the_short_help_is_one(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    from tests.test_advice import lightning_parser

    known = lightning_parser(command)._subcommands_action._name_parser_map[command]._option_string_actions
    assert main([command, "--help"]) == 0
    named = set(re.findall(r"^  (--[\w.-]+)", capsys.readouterr().out, re.MULTILINE))
    ours = {"--run", "--trust", "--quiet", "--json", "--help-all", "--model.optimizer", "--model.schedule"}
    methods = {option for option in named if option.startswith("--model.")}  # of whichever method is named
    assert named - ours - methods <= set(known)

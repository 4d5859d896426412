"""What commands print: progress, results for people, and JSON for programs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mer_lightning import output
from mer_lightning.cli import main

FIT = ["fit", "--model", "cdat", "--model.backbone", "early", "--data.synthetic", "true", "--data.samples", "60"]
QUICK = ["--model.backbone.width", "8", "--trainer.max_epochs", "6", "--trainer.accelerator", "cpu"]


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str, str]]:
    """(the run's folder, stdout, stderr) of a fit of three phases."""
    import contextlib
    import io

    folder, out, err = tmp_path_factory.mktemp("fits"), io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.chdir(folder)
        patch.setenv("MER_DATA", str(folder / "data"))
        assert main([*FIT, *QUICK, "--run_dir", "run"]) == 0
        yield folder, out.getvalue(), err.getvalue()


def test_a_file_gets_one_line_for_each_epoch_and_no_bar(printed) -> None:
    _, out, err = printed
    lines = [line for line in out.splitlines() if re.match(r"(fusion|confidence|transfer) \d+/\d+: ", line)]
    phases = json.loads((printed[0] / "run" / "phases.json").read_text())
    assert len(lines) == sum(phase["epochs"] for phase in phases.values())
    assert all(
        re.search(r": loss \d*\.\d{3}, score -?\d*\.\d{3}, best -?\d*\.\d{3} in epoch \d+$", each) for each in lines
    )
    assert not re.search(r"[\r\x1b█▏━]|it/s", out + err)
    assert len(out.splitlines()) < len(lines) + 30


def test_the_line_of_an_epoch_says_its_own_numbers(printed) -> None:
    log = pd.read_csv(next((printed[0] / "run").rglob("metrics.csv")))
    first = re.search(r"fusion 1/\d+: loss (\S+), score (\S+),", printed[1])
    assert first is not None
    for text, column in ((first[1], "fusion/train/loss"), (first[2], "fusion/valid/score")):
        column = column if column in log else column.removeprefix("fusion/")
        assert float(text) == pytest.approx(log[column].dropna().iloc[0], abs=0.51e-3)


def test_json_alone_is_on_stdout(printed, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(printed[0])
    monkeypatch.setenv("MER_DATA", str(printed[0] / "data"))
    assert main(["test", "--run", "run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    table = pd.read_csv(Path(found["run"]) / "results.csv")
    assert [row["value"] for row in found["results"]] == pytest.approx(list(table["value"]), nan_ok=True)
    assert main(["validate", "--json", "--run", "run"]) == 0
    assert "valid/score" in json.loads(capsys.readouterr().out)["metrics"]


def test_quiet_leaves_the_result_and_refusals(printed, monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(printed[0])
    monkeypatch.setenv("MER_DATA", str(printed[0] / "data"))
    assert main([*FIT, *QUICK, "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "parameters" not in out
    assert "test split of official" in out.splitlines()[0]
    assert main(["fit", "--quiet", "--model", "supervized"]) == 2
    assert "did you mean supervised?" in capsys.readouterr().err


@pytest.mark.parametrize(
    "given", [["published", "mosi"], ["data", "list"], ["data", "list", "mosi"], ["data", "inspect", "c.npz"]]
)
def test_lists_are_json_too(given: list[str], tmp_path: Path, monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("c.npz", ids=np.array(["a"]), text=np.ones((1, 3)))
    assert main([*given, "--json"]) == 0
    assert len(str(json.loads(capsys.readouterr().out))) > 50
    assert main(given) == 0
    with pytest.raises(json.JSONDecodeError):
        json.loads(capsys.readouterr().out)


def test_what_has_no_result_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "verify", "nothing", "--json"]) == 2
    assert "inspect or list" in capsys.readouterr().err


def test_values_that_json_has_no_word_for(capsys: pytest.CaptureFixture[str]) -> None:
    frame = pd.DataFrame({"score": [0.5, float("nan")], "runs": [1, 2]})
    values = {"table": frame, "path": Path("a/b"), "low": -np.inf, "count": np.int64(3), "more": (True, None)}
    with output.printing_as_asked(["x", "--json"]) as rest:
        print("elsewhere")
        warnings.warn("so it is", stacklevel=1)
        output.give(values, lambda: None)
    assert rest == ["x"]
    assert json.loads(capsys.readouterr().out) == {
        "table": [{"score": 0.5, "runs": 1}, {"score": None, "runs": 2}],
        **{"path": "a/b", "low": None, "count": 3, "more": [True, None]},
    }


def test_a_reader_that_has_read_enough_is_no_defect() -> None:
    program = "from mer_lightning.cli import main; exit(main(['docs']))"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as command:
        command.stdout.close()
        assert command.stderr.read() == b""
    assert command.returncode == 141

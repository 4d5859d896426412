"""What a file or the disk did becomes one line; a defect of ours keeps its traceback, and asks for a report."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from mer_lightning import cli
from mer_lightning.errors import DEFECT, Refusal, reading


def test_what_a_file_does_to_its_reader_names_the_file() -> None:
    with pytest.raises(Refusal) as caught, reading("card.yaml", "a card", "copy it again"):
        {}["name"]
    assert str(caught.value) == "card.yaml: expected a card; found KeyError: 'name'; copy it again"
    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize("defect", [AssertionError, NameError, ImportError, KeyboardInterrupt])
def test_what_no_file_can_do_stays_what_it_is(defect: type[BaseException]) -> None:
    with pytest.raises(defect), reading("card.yaml", "a card"):
        raise defect


def test_an_inner_refusal_is_the_more_exact_one() -> None:
    with pytest.raises(Refusal, match=r"^inner: "), reading("outer", "a file"), reading("inner", "a part of it"):
        raise ValueError


def test_a_line_is_one_line_that_no_terminal_obeys() -> None:
    line = str(Refusal("a\nb", "x", "\x1b[2J" + "y" * 10_000, "z"))
    assert line.isprintable()
    assert len(line) < 500


def run_with(error: Exception, monkeypatch: pytest.MonkeyPatch) -> int:
    def fail(*_: object) -> int:
        raise error

    monkeypatch.setattr(cli, "_run", fail)
    return cli.main(["data"])


def test_a_defect_of_ours_asks_for_a_report(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        run_with(ZeroDivisionError("division by zero"), monkeypatch)
    assert caught.value.__notes__ == [DEFECT]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "out/report.md"), "out/report.md: expected a place"),
        (OSError(errno.ENOSPC, "No space left on device"), "the disk: expected a place"),
    ],
)
def test_what_the_disk_refuses_is_one_line(
    error: OSError, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_with(error, monkeypatch) == 2
    assert line in capsys.readouterr().err


def test_an_unwritable_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert cli.main(["data", "synthesize", "mosi", "--samples", "60", "-o", str(tmp_path / "file" / "corpus")]) == 2
    assert "/file: expected a place to read from or write to" in capsys.readouterr().err

"""What a wheel holds, and how shipped experiments are found by name."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from mer_lightning.cli import main
from mer_lightning.errors import Refusal
from mer_lightning.shipped import configuration, experiment_file, shipped

TOP = Path(__file__).parents[1]


@pytest.mark.parametrize("name", ["cdat_mosi", "cdat_mosi.yaml", "experiments/cdat_mosi.yaml"])
def test_a_shipped_experiment_has_a_name_anywhere(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert experiment_file(name) == TOP / "experiments" / "cdat_mosi.yaml"
    Path("cdat_mosi").write_text("model: supervised")
    assert experiment_file("cdat_mosi") == Path("cdat_mosi")  # one's own file comes first


def test_a_name_that_is_none_is_refused() -> None:
    with pytest.raises(Refusal, match="did you mean cdat_mosi"):
        experiment_file("cdat_mossi")
    with pytest.raises(Refusal):
        experiment_file("../pyproject")
    with pytest.raises(Refusal):
        experiment_file("cdat_mosi", ("ablations",))
    assert configuration('{"model": "cdat"}') is None


def test_pages_are_listed_and_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["docs"]) == 0
    listed = capsys.readouterr().out
    assert all(path.stem in listed for path in shipped("docs").rglob("*.md"))
    assert main(["docs", "npz-format"]) == 0
    assert "video_id" in capsys.readouterr().out
    assert main(["docs", "npz-formt"]) == 2
    assert "did you mean npz-format?" in capsys.readouterr().err


def test_methods_are_listed_with_their_experiments(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "--json"]) == 0
    found = capsys.readouterr().out
    assert '"name": "every_combination"' in found
    assert '"cdat_iemocap"' in found


def test_the_wheel_is_whole(tmp_path: Path) -> None:
    copy = tmp_path / "copy"  # setuptools builds inside the folder
    for folder in ("mer_lightning", "docs", "experiments", "tests"):
        shutil.copytree(TOP / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copy(TOP / name, copy / name)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(tmp_path)]
    subprocess.run([*command, str(copy)], check=True, capture_output=True, text=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder, pattern in (("experiments", "*.yaml"), ("docs", "*.md")):
        assert {f"mer_lightning/shipped/{path.relative_to(TOP)}" for path in (TOP / folder).rglob(pattern)} <= names
    files = [path for path in (TOP / "mer_lightning").rglob("*") if path.suffix not in (".pyc", "")]
    assert {str(path.relative_to(TOP)) for path in files} <= names
    assert not any(name.startswith(("tests/", "docs/", "experiments/")) for name in names)

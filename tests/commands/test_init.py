"""A project of one's own: made by one command, used by short names, trusted once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mer_lightning.cli import main
from mer_lightning.methods.places import PLACES
from mer_lightning.projects import in_own_project, project_at
from mer_lightning.trust import trusted_packages

FIT = ["fit", "--config", "experiments/mymethod_mosi.yaml", "--data.synthetic", "true", "--data.samples", "80"]
SHORT = ["--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false"]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("MER_TRUST", raising=False)
    monkeypatch.chdir(tmp_path)
    assert main(["init", "mystudy"]) == 0
    monkeypatch.chdir(tmp_path / "mystudy")
    capsys.readouterr()
    yield tmp_path / "mystudy"
    for name in [name for name in sys.modules if name.partition(".")[0] == "mystudy"]:
        del sys.modules[name]


def test_its_names_are_short_once_it_is_trusted(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*FIT, *SHORT]) == 2
    assert "say once that you trust its code: --trust mystudy" in capsys.readouterr().err
    assert main([*FIT, *SHORT, "--trust", "mystudy"]) == 0
    assert main(["test", "--run", "runs/mymethod_mosi_synthetic/1", "--protocol", "t"]) == 0  # trusted now
    results = Path("runs/mymethod_mosi_synthetic/1/results.csv").read_text()
    assert "MyMethod,MyBackbone" in results
    kept = json.loads((project.parent / "config" / "mer_lightning" / "trusted.json").read_text())
    assert kept == {str(project): "mystudy"}
    assert "mystudy" not in trusted_packages()  # outside of a command nothing is left
    assert str(project) not in sys.path


def test_another_folder_with_the_same_package_is_asked_for_again(project: Path, tmp_path: Path) -> None:
    assert main([*FIT, *SHORT, "--trust", "mystudy", "--trainer.fast_dev_run", "true"]) == 0
    other = tmp_path / "elsewhere" / "mystudy"
    other.parent.mkdir()
    project.rename(other)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(other)
        with in_own_project():
            assert "mymethod" not in PLACES["model",].classes()


@pytest.mark.slow
def test_its_contract_passes(project: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "pytest", "-q"], capture_output=True, text=True, cwd=project)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "text", ["", "[tool.mer-lightning]\npackage = 3", "[tool.mer-lightning\n", "[tool.other]\nx = 1"]
)
def test_other_folders_are_no_projects(text: str, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    (tmp_path / "inside").mkdir()
    assert project_at(tmp_path / "inside") is None


@pytest.mark.parametrize("name", ["my-study", "class", "mer_lightning", "there"])
def test_names_that_cannot_be(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there").mkdir()
    assert main(["init", name]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["there"]

"""A stranger's package, and a run of which a test may change the files."""

from __future__ import annotations

import importlib
import itertools
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mer_lightning.cli import main
from mer_lightning.training.run_folder import BEGUN
from tests.training.strangers import SOURCE, Stranger

TINY = ["--trainer.max_epochs", "1", "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
METHOD = ["--model", "supervised", "--model.backbone", "early", "--model.backbone.width", "8"]


_NUMBERS = itertools.count()


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stranger]:
    # A name of its own in each test: classes that a test has trusted and imported stay known to this process.
    package, mark = f"stranger_{next(_NUMBERS)}", tmp_path / "mark"
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / f"{package}.py").write_text(SOURCE.format(mark=str(mark)))
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MER_TRUST", raising=False)
    importlib.invalidate_caches()
    yield Stranger(package, mark)
    sys.modules.pop(package, None)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of its own, for nobody to change."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    corpus = ["--data.corpus", "mosi", "--data.synthetic", "true", "--data.samples", "60"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MER_DATA", str(folder.parent / "data"))
        assert main(["fit", *METHOD, *corpus, *TINY, "--run_dir", str(folder)]) == 0
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it that a test may change."""
    monkeypatch.setenv("MER_DATA", str(trained.parent / "data"))
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "run" / BEGUN).unlink()  # an attacker leaves it out: changes must be refused for what they are
    return tmp_path / "run"

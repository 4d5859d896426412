"""A model that is given to others: a folder with a card, without a pickle, which answers as the run does."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

import mer_lightning as mer


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> mer.Run:
    draw, label = np.random.default_rng(0), np.linspace(1, 7, 60)
    arrays = {
        "ids": [f"clip{number}" for number in range(60)],
        "text": draw.normal(size=(60, 4)) + label[:, None],
        "label": np.stack([label, label[::-1]], 1),
        "targets": ["valence", "arousal"],
        "ranges": [[1, 7], [1, 7]],
        "split": ["train"] * 40 + ["valid"] * 10 + ["test"] * 10,
    }
    data = mer.data(arrays, name="mine")
    quiet = {"enable_progress_bar": False, "accelerator": "cpu"}
    model = mer.method("supervised", data, backbone="early")
    return mer.fit(model, data, max_epochs=1, run_dir=tmp_path_factory.mktemp("run") / "1", trainer=quiet)


def test_it_answers_as_the_run_does(run: mer.Run, tmp_path: Path) -> None:
    saved = mer.load(run.save(tmp_path / "given"))
    features = np.random.default_rng(1).normal(size=(5, 4))
    assert saved.predict(text=features).equals(run.predict(text=features))
    assert saved.results.frame.equals(run.results.frame)
    assert {path.suffix for path in saved.folder.iterdir()} == {".md", ".safetensors", ".json", ".yaml", ".csv"}
    with pytest.raises(mer.Refusal, match="new or empty"):
        run.save(tmp_path / "given")


def test_the_card_says_what_it_is_and_what_it_is_not_for(run: mer.Run) -> None:
    _, front, text = run.card.split("---\n", 2)
    assert yaml.safe_load(front)["library_name"] == "mer_lightning"
    assert "numbers: valence, arousal" in text
    assert f"SHA-256 {run.results.frame['corpus_sha256'].iloc[0]}" in text
    assert "| t | CCC |" in text
    assert "It is not better than" in text or run.results["t", "ccc"] > 0.9  # one epoch learns next to nothing


@pytest.mark.parametrize("damage", ["weights", "options", "json", "class"])
def test_a_damaged_or_hostile_folder_is_refused(run: mer.Run, damage: str, tmp_path: Path) -> None:
    folder = run.save(tmp_path / "given")
    model = json.loads((folder / "config.json").read_text())
    if damage == "weights":
        (folder / "model.safetensors").write_bytes(b"\x00" * 30)
    elif damage == "options":
        del model["options"]
    elif damage == "class":
        model["options"]["backbone"] = {"class_path": "subprocess.Popen", "init_args": {"args": "true"}}
    text = "{" if damage == "json" else json.dumps(model)
    (folder / "config.json").write_text(text)
    with pytest.raises(mer.Refusal):
        mer.load(folder).predict(text=np.zeros(4))


def test_push_uploads_the_folder(run: mer.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    class HfApi:
        def create_repo(self, repository: str, private: bool, exist_ok: bool) -> str:
            seen["private"] = private
            return f"https://hub/{repository}"

        def upload_folder(self, repo_id: str, folder_path: Path) -> None:
            seen["files"] = sorted(path.name for path in folder_path.iterdir())

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(HfApi=HfApi))
    assert run.push("me/mine") == "https://hub/me/mine"
    assert seen["private"] is True
    assert {"README.md", "config.json", "model.safetensors"} <= set(seen["files"])
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(mer.Refusal, match="pip install huggingface_hub"):
        run.push("me/mine")

"""`mer-lightning data` as a person types it, on files as the field writes them, and on files that nobody should."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mer_lightning import cli
from mer_lightning.commands.data import main
from mer_lightning.data.corpus import open_corpus
from mer_lightning.data.importing.inspection import inspect_path
from mer_lightning.data.store import write_corpus
from tests.conftest import make_raw


def mmsa(samples: int = 12, steps: int = 6, **changes: Any) -> dict[str, dict[str, Any]]:
    """An unaligned MMSA file's dict; ``changes`` replace keys of the train split."""
    rng = np.random.default_rng(0)

    def split(name: str) -> dict[str, Any]:
        bert = np.zeros((samples, 3, steps), np.float32)
        bert[:, 1, :4] = 1
        audio = rng.normal(size=(samples, 8, 5))
        audio[0, 0, 0] = -np.inf
        return {
            "raw_text": [f"words {i}" for i in range(samples)],
            "id": [f"{name}{i // 3}$_${i}" for i in range(samples)],
            "text": rng.normal(size=(samples, steps, 9)).astype(np.float32),
            "text_bert": bert,
            "audio": audio,
            "vision": rng.normal(size=(samples, 7, 4)),
            "audio_lengths": [8] * samples,
            "vision_lengths": [7] * samples,
            "regression_labels": np.linspace(-3, 3, samples).astype(np.float32),
            "classification_labels": np.zeros(samples),
        }

    made = {name: split(name) for name in ("train", "valid", "test")}
    made["train"] |= changes
    return made


def write(path: Path, content: Any) -> Path:
    path.write_bytes(pickle.dumps(content, protocol=4))
    return path


class Payload:
    """Unpickled by anything but a restricted reader, this makes a file."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.canary}",)


def test_import_writes_what_it_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "unaligned_50.pkl", mmsa())
    assert main(["import", str(file), "--as", "mosi", "-o", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "36 samples" in said
    assert "audio: 3 -inf set to the training median of the column" in said
    assert "usually has train 1284" in said
    corpus = open_corpus(tmp_path / "out")
    assert corpus.card.partitions == {"official": {"train": 12, "valid": 12, "test": 12}}
    assert corpus.card.cleaned == {"audio": {"-inf": 3}}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "unaligned_50.pkl"]
    assert main(["import", str(file), "--as", "mosi", "-o", str(tmp_path / "out")]) == 0  # replaces its own


def test_default_folder_is_where_a_fit_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MER_DATA", str(tmp_path / "data"))
    main(["import", str(write(tmp_path / "x.pkl", mmsa())), "--as", "mosi"])
    assert (tmp_path / "data" / "mosi-unaligned" / "card.yaml").is_file()


def broken(kind: str, tmp_path: Path) -> Path:
    if kind == "malicious":
        return write(tmp_path / "x.pkl", mmsa(text=Payload(tmp_path / "canary")))
    if kind == "truncated":
        whole = pickle.dumps(mmsa(), protocol=4)
        (tmp_path / "x.pkl").write_bytes(whole[: len(whole) // 2])
        return tmp_path / "x.pkl"
    if kind == "wrong keys":
        content = mmsa()
        del content["valid"]["regression_labels"]
        return write(tmp_path / "x.pkl", content)
    if kind == "nan labels":
        return write(tmp_path / "x.pkl", mmsa(regression_labels=np.array([np.nan] * 2 + [1.0] * 10)))
    if kind == "lengths too long":
        return write(tmp_path / "x.pkl", mmsa(audio_lengths=[9] * 12))
    content = mmsa()
    content["test"] = {key: value[:0] for key, value in content["test"].items()}
    return write(tmp_path / "x.pkl", content)


@pytest.mark.parametrize(
    ("kind", "fragment"),
    [
        ("malicious", "system"),
        ("truncated", ""),
        ("wrong keys", "regression_labels"),
        ("nan labels", "2 of 36 not finite"),
        ("lengths too long", "9"),
        ("empty split", "test"),
    ],
)
def test_refusals_are_one_line_and_leave_nothing(
    kind: str, fragment: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = broken(kind, tmp_path)
    assert main(["import", str(file), "--as", "mosi", "-o", str(tmp_path / "out")]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    for part in (str(file), "expected", "found", fragment):
        assert part in lines[0]
    assert [path.name for path in tmp_path.iterdir()] == ["x.pkl"]


def test_other_folders_are_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    assert main(["import", str(write(tmp_path / "x.pkl", mmsa())), "--as", "mosi", "-o", str(tmp_path / "mine")]) == 2
    assert "thesis" not in capsys.readouterr().err
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_inspection_warns_of_speakers_on_both_sides_of_a_split(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = make_raw(samples=60)
    raw.columns["speaker"] = ["Ann" if row in (0, 5) else f"s{row}" for row in range(60)]  # one trains, one tests
    rows = np.arange(60)
    raw.partitions["other"] = np.select([rows < 30, rows < 35], [0, 1], 2).astype(np.int8)
    write_corpus(raw, tmp_path / "corpus", "x")
    found = inspect_path(tmp_path / "corpus")
    assert found.shared_speakers == {"train and test of official": ["Ann"]}
    assert "train and test of official" in found.shared_groups, "make_raw splits within videos"
    assert "train and test of other" not in found.shared_groups
    assert main(["inspect", str(tmp_path / "corpus")]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "1 speakers are in train and test of official, the first is Ann" in shown


def test_inspection_counts_what_is_there(tmp_path: Path) -> None:
    content = mmsa()
    content["test"]["id"][0] = content["train"]["id"][0]
    content["train"]["vision"][2] = 0
    content["train"]["vision"][:, :, 3] = content["valid"]["vision"][:, :, 3] = content["test"]["vision"][:, :, 3] = 0
    found = inspect_path(write(tmp_path / "x.pkl", content))
    assert (found.format, found.alignment, found.padding, found.samples) == ("mmsa", "unaligned", "end", 36)
    assert found.duplicate_ids == ["train0$_$0"]
    assert found.shared_groups == {"train and test of official": ["train0"]}
    assert found.modalities["vision"].all_zero_samples == 1
    assert found.modalities["vision"].constant_columns == 1
    assert found.modalities["audio"].non_finite == {s: {"-inf": 1} for s in ("train", "valid", "test")}
    assert (found.modalities["text"].shortest, found.modalities["text"].longest) == (4, 4)
    labels = np.rint(np.linspace(-3, 3, 12).astype(np.float32)).astype(int)
    assert found.labels["valid"] == {f"{grade:+d}": int((labels == grade).sum()) for grade in range(-3, 4)}
    assert found.sha256 is not None
    assert len(found.sha256) == 64


def test_inspection_as_json_and_of_an_import(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "x.pkl", mmsa())
    main(["import", str(file), "--as", "mosi", "-o", str(tmp_path / "out")])
    capsys.readouterr()
    found = []
    for path in (file, tmp_path / "out"):
        assert cli.main(["data", "inspect", str(path), "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[0]["labels"] == found[1]["labels"]
    assert found[0]["modalities"]["text"] == found[1]["modalities"]["text"]
    assert found[1]["format"] == "mer_lightning"
    assert found[1]["modalities"]["audio"]["non_finite"] == {}


def test_inspection_for_people_warns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = mmsa(regression_labels=np.array([np.nan] + [1.0] * 11))
    content["test"]["id"][0] = content["train"]["id"][0]
    assert main(["inspect", str(write(tmp_path / "x.pkl", content))]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "1 labels are not finite" in said
    assert "1 ids occur more than once" in said
    assert "in train and test" in said
    assert "1 -inf" in said


def test_synthesize_and_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MER_DATA", str(tmp_path))
    assert main(["synthesize", "mosi", "--samples", "60", "-o", str(tmp_path / "mosi-aligned")]) == 0
    assert "(synthetic)" in capsys.readouterr().out
    assert open_corpus(tmp_path / "mosi-aligned").card.synthetic
    assert main(["list"]) == 0
    said = capsys.readouterr().out
    for word in ("iemocap6", "mmsa", "merbench", "60"):
        assert word in said
    assert main(["list", "iemocap4"]) == 0
    assert "licence" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "fragment"),
    [
        (["inspct", "x"], "did you mean inspect?"),
        (["import", "x", "--az", "mosi"], "--as"),
        (["import", "x", "--as", "../mine"], "a name of letters, digits"),
        (["import", "x", "--as", "mosi", "--format", "mmsb"], "mmsa"),
        (["inspect", "nowhere"], "nothing there"),
    ],
)
def test_mistakes_name_the_remedy(given: list[str], fragment: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = main(given)
    except SystemExit as exit_:
        code = int(str(exit_.code))
    assert code == 2
    error = capsys.readouterr().err.strip()
    assert fragment in error
    assert len(error.splitlines()) == 1

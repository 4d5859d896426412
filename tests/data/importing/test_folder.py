"""A folder of one's own: a table of labels, features in files or tables, and what must be refused."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mer_lightning.cli import main
from mer_lightning.data.catalogue import lookup
from mer_lightning.data.corpus import open_corpus
from mer_lightning.data.importing.base import detect, read_raw
from mer_lightning.data.importing.folder import Folder
from mer_lightning.data.raw import RawCorpus
from mer_lightning.data.store import check
from mer_lightning.errors import Refusal

PAGE = Path(__file__).resolve().parents[3] / "docs" / "reference" / "folder-format.md"
ROWS = {
    "id": ["a_1", "a_2", "b_1", "c_1"],
    "split": ["train", "train", "dev", "test"],
    "label": ["sad", "glad", "glad", "sad"],
    "dialogue": ["a", "a", "b", "c"],
    "speaker": ["Ann", "Bo", "Ann", "Cy"],
    "sentence": ["well, yes", "no", 'he said "no"', "caf\xe9"],
}


def write(root: Path, suffix: str = ".csv", **changes: object) -> Path:
    """A text file per sample but one, and a table of audio frames in no order."""
    root.mkdir(exist_ok=True)
    frame = pd.DataFrame({name: cells for name, cells in (ROWS | changes).items() if cells is not None})
    frames = pd.DataFrame({"id": ["c_1", "a_1", "b_1", "a_1", "other"], "x": [5.0, 1, 3, 2, 9], "y": [0.0, 0, 1, 1, 9]})
    for table, name in ((frame, "labels"), (frames, "audio")):
        if suffix == ".csv":
            table.to_csv(root / f"{name}.csv", index=False)
        else:
            table.to_parquet(root / f"{name}.parquet", index=False)
    (root / "text").mkdir(exist_ok=True)
    for number, name in enumerate(ROWS["id"][:3]):
        np.save(root / "text" / f"{name}.npy", np.full((number + 1, 3), number, np.float32))
    return root


def read(root: Path, **features: str) -> RawCorpus:
    reader = detect(root)
    assert reader.name == "folder"
    return read_raw(reader, root, None, features)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_files_and_tables(tmp_path: Path, suffix: str) -> None:
    raw = read(write(tmp_path / "mine", suffix))
    check(raw)
    assert raw.ids == ROWS["id"]
    assert raw.task.card() == {"kind": "single_label", "classes": ["glad", "sad"]}
    assert raw.target.tolist() == [1, 0, 0, 1]
    assert raw.partitions["official"].tolist() == [0, 0, 1, 2]
    assert raw.groups == ROWS["dialogue"]
    assert raw.columns == {name: ROWS[name] for name in ("dialogue", "speaker", "sentence")}
    assert raw.features["text"].lengths.tolist() == [1, 2, 3, 0]
    assert raw.features["text"].packed(1, 2).tolist() == [[1, 1, 1], [1, 1, 1]]
    assert raw.features["audio"].lengths.tolist() == [2, 0, 1, 1]
    assert raw.features["audio"].packed(0, 4).tolist() == [[1, 0], [2, 1], [3, 1], [5, 0]]
    assert raw.feature_set == {"text": "text 3", "audio": "audio 2"}
    assert raw.notes == [
        "1 of 4 samples have no text in text.",
        f"1 ids of audio{suffix} are not in the table of labels.",
        f"1 of 4 samples have no audio in audio{suffix}.",
    ]


def test_labels_of_every_kind(tmp_path: Path) -> None:
    root = tmp_path / "mine"
    words = {"label": None}
    raw = read(write(root, label=[-1.5, 2, 0, 1]))
    assert raw.task.card() == {"kind": "regression", "limit": 3.0}
    raw = read(write(root, **words, label_valence=[1, 2, "", 5], label_arousal=[1, 7, 3, 4]))
    assert raw.task.card() == {"kind": "ratings", "targets": ["valence", "arousal"], "low": [1, 1], "high": [5, 7]}
    assert np.isnan(raw.target[2, 0])
    raw = read(write(root, **words, label_sad=[1, 0, 0, 1], label_glad=[1, 0, 1, 0]))
    assert raw.task.card() == {"kind": "multi_label", "classes": ["sad", "glad"], "threshold": 0.5}
    assert raw.target.tolist() == [[1, 1], [0, 0], [0, 1], [1, 0]]


def test_classes_of_a_named_corpus_are_numbered_as_it_numbers_them(tmp_path: Path) -> None:
    raw = read_raw(Folder(), write(tmp_path, label=["angry", "sad", "happy", "sad"]), lookup("iemocap4"), {})
    assert raw.target.tolist() == [3, 1, 0, 1]


def test_feature_sets_of_other_names(tmp_path: Path) -> None:
    (write(tmp_path) / "text").rename(tmp_path / "roberta")
    assert set(read(tmp_path).features) == {"audio"}
    raw = read(tmp_path, text="roberta", vision="audio")
    assert raw.feature_set == {"text": "roberta 3", "audio": "audio 2", "vision": "audio 2"}


@pytest.mark.parametrize(
    ("changes", "features", "message"),
    [
        ({"label": None}, {}, "a column 'label', or several columns 'label_NAME'; found only split"),
        ({"split": None}, {}, "an array 'split' or 'split_NAME'"),
        ({"split": ["train", "tran", "dev", "test"]}, {}, "'tran'"),
        ({"label": ["sad", "", "glad", "sad"]}, {}, "a class in every row; found none in sample 2"),
        ({"label_a": [1, 2, 3, 4]}, {}, "'label', or columns 'label_NAME'; found both"),
        ({"id": ["../x", "a_2", "b_1", "c_1"]}, {}, "ids that are names of files"),
        ({}, {"text": "glove"}, r"the text features: glove or glove\.csv or glove\.parquet; found none of them"),
        ({}, {"text": "../mine"}, "--features: expected the name of a folder or table"),
    ],
)
def test_refusals(tmp_path: Path, changes: dict, features: dict, message: str) -> None:
    with pytest.raises(Refusal, match=message):
        read(write(tmp_path / "mine", **changes), **features)


def test_tables_that_are_damaged(tmp_path: Path) -> None:
    root = write(tmp_path)
    (root / "audio.csv").write_text("id,x\na_1,1\na_2,one\n")
    with pytest.raises(Refusal, match="numbers in every other column"):
        read(root)
    (root / "audio.csv").write_text("id,x\na_1,1,2\n")
    with pytest.raises(Refusal, match="2 cells in each row, as the header has; found 3 in row 2"):
        read(root)


def test_the_example_of_the_page_is_imported_and_trained_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MER_DATA", str(tmp_path / "data"))
    text = PAGE.read_text()
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert code is not None
    exec(compile(code[1], PAGE.name, "exec"), {})
    imports, fit = re.findall(r"^    mer-lightning (.*)$", text.partition("## Example")[2], re.MULTILINE)
    assert main(imports.split()) == 0
    assert open_corpus(tmp_path / "data" / "interviews-unaligned").card.dims == {"text": 8, "audio": 4}
    quick = ["--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false", "--trainer.accelerator", "cpu"]
    assert main([*fit.split(), *quick]) == 0

"""Corpora of one's own, as a person types it: any name, any task, any modalities, and what must be refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mer_lightning.cli import main
from mer_lightning.data.corpus import Corpus, open_corpus
from mer_lightning.data.places import find_corpus
from mer_lightning.errors import Refusal
from mer_lightning.studies.report.page_tables import published_tables
from tests.studies.report_fakes import setting

N = 60
DOCS = Path(__file__).resolve().parents[2] / "docs"
QUICK = ["--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false", "--trainer.accelerator", "cpu"]
FIT = ["fit", "--model", "supervised", "--model.backbone", "early", "--model.backbone.width", "8", *QUICK]
EMOTIONS = np.array(["sad", "glad", "calm"])
CLASS = np.random.default_rng(5).permutation(np.arange(N) % 3)


def arrays(**changes: Any) -> dict[str, Any]:
    """Text and audio of 60 samples in three classes; a change to None leaves an array out."""
    rng = np.random.default_rng(0)
    values = {
        "ids": np.array([f"clip{i}" for i in range(N)]),
        "video_id": np.array([f"video{i // 6}" for i in range(N)]),
        "speaker": np.array([f"speaker{i % 2}" for i in range(N)]),
        "text": rng.normal(size=(N, 4)) / 3 + CLASS[:, None],
        "audio": rng.normal(size=(N, 3)),
        "label": CLASS,
        "classes": EMOTIONS,
        "split": np.array((["train"] * 4 + ["valid", "test"]) * 10),
    }
    return {key: value for key, value in (values | changes).items() if value is not None}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MER_DATA", str(tmp_path / "data"))
    return tmp_path


def load(*options: str, name: str = "mine", code: int = 0, **changes: Any) -> Corpus | None:
    """Save a file and import it; the corpus, where that succeeds."""
    np.savez("mine.npz", **arrays(**changes))
    assert main(["data", "import", "mine.npz", "--as", name, *options]) == code
    return None if code else open_corpus(find_corpus(name, None))


def task_of(*options: str, **changes: Any) -> dict[str, Any]:
    corpus = load(*options, **changes)
    assert corpus is not None
    return corpus.card.task


def test_the_task_comes_from_the_file() -> None:
    assert task_of() == {"kind": "single_label", "classes": [*EMOTIONS]}
    numbers = {"classes": None}
    assert task_of(**numbers, label=np.linspace(-2, 2, N)) == {"kind": "regression", "limit": 3.0}
    rated = task_of(
        **numbers, label=np.linspace(1.4, 6.6, 2 * N).reshape(N, 2), targets=np.array(["valence", "arousal"])
    )
    assert rated == {"kind": "ratings", "targets": ["valence", "arousal"], "low": [1, 1], "high": [7, 7]}
    cells = np.eye(3)[np.arange(N) % 3]
    assert task_of(label=cells) == {"kind": "multi_label", "classes": [*EMOTIONS], "threshold": 0.5}


def test_or_from_the_command() -> None:
    whole = {"classes": None, "label": np.arange(N) % 3}
    assert task_of("--task", "single_label", **whole) == {"kind": "single_label", "classes": ["0", "1", "2"]}
    assert task_of("--task", "ratings", **whole) == {"kind": "ratings", "targets": ["label"], "low": [0], "high": [2]}
    assert task_of("--task", "regression", **whole) == {"kind": "regression", "limit": 3.0}
    card = "{kind: ratings, targets: [joy], low: [0], high: [10]}"
    assert task_of("--task", card, **whole) == {"kind": "ratings", "targets": ["joy"], "low": [0], "high": [10]}


def test_or_from_a_catalogue_of_ones_own(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "data").mkdir()
    catalogue = here / "data" / "catalogue.yaml"
    catalogue.write_text("moods:\n  title: my moods\n  task_card: {kind: single_label, classes: [glad, sad]}\n")
    assert load(name="moods", code=2) is None
    assert "say which is which, --classes" in capsys.readouterr().err
    two = {"classes": EMOTIONS[:2], "label": np.arange(N) % 2}
    corpus = load("--classes", "sad: sad, glad: glad", name="moods", **two)
    assert corpus is not None
    assert corpus.card.task["classes"] == ["glad", "sad"]
    assert corpus.target.tolist() == [1, 0] * 30
    assert main(["data", "list", "moods"]) == 0
    assert "my moods" in capsys.readouterr().out
    catalogue.write_text("mosi: {task_card: {kind: regression}}\n")
    assert main(["data", "list"]) == 2
    assert "names of your own; found 'mosi'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "changes", "fragments"),
    [
        (["--as", "mosi"], {}, ["numbers, as mosi has them", "the classes sad, glad, calm", "--as other"]),
        (["--as", "mosi"], {"classes": None, "label": np.linspace(1, 7, N)}, ["labels from -3 to 3", "--as other"]),
        (["--as", "mosi", "--task", "ratings"], {}, ["--task", "mosi has its own"]),
        (["--as", "iemocap4"], {}, ["happy, sad, neutral, angry", "--classes '{mine: theirs, ...}'", "--as other"]),
        (["--as", "iemocap4", "--classes", "sad: sad"], {}, ["every class of the file", "no 'glad'"]),
        (
            ["--as", "iemocap4", "--classes", "sad: sad, glad: hapy, calm: neutral"],
            {},
            ["classes of the corpus", "did you mean 'happy'?"],
        ),
        (["--as", "mine", "--classes", "sad: sad"], {}, ["a corpus whose classes are known"]),
        (["--as", "mine", "--task", "valence"], {}, ["one of regression, ratings", "'valence'"]),
        (["--as", "mine", "--task", "multi_label"], {}, ["a column of 0 and 1 for each class"]),
        (["--as", "mine"], {"classes": None, "label": np.full((N, 2), np.nan)}, ["--allow_missing_labels"]),
    ],
)
def test_contradictions_are_refused_with_the_way_out(
    options: list[str], changes: dict[str, Any], fragments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez("mine.npz", **arrays(**changes))
    assert main(["data", "import", "mine.npz", *options]) == 2
    line = capsys.readouterr().err.strip()
    assert len(line.splitlines()) == 1
    assert all(fragment in line for fragment in fragments), line


def test_own_corpora_are_listed_and_found_and_a_slip_is_asked_about(capsys: pytest.CaptureFixture[str]) -> None:
    load(name="moosi")
    assert "a corpus of your own; did you mean mosi?" in capsys.readouterr().out
    assert main(["data", "list"]) == 0
    said = capsys.readouterr().out
    assert "moosi" in said
    assert "your own" in said
    assert main([*FIT, "--data.corpus", "miine", "--run_dir", "run"]) == 2
    assert "mer-lightning data import FILE --as miine" in capsys.readouterr().err


def test_no_published_table_stands_under_a_name_of_ones_own() -> None:
    values = {"mae": {"a": {"tav": [0.5]}}}
    assert published_tables(setting({}, values, corpus="mosi-aligned"))
    for label in ("mosi-mine-aligned", "mine-utterance", "mosi.npz-utterance"):
        assert published_tables(setting({}, values, corpus=label)) == []


def test_a_file_is_trained_on_as_it_is_and_imported_once(capsys: pytest.CaptureFixture[str]) -> None:
    np.savez("mosi.npz", **arrays())
    for run in ("first", "second"):
        assert main([*FIT, "--data.corpus", "mosi.npz", "--run_dir", run]) == 0
    (imported,) = Path("data/imported").iterdir()
    assert imported.name.startswith("mosi-")
    results = pd.read_csv("first/results.csv")
    assert set(results["corpus"]) == {"mosi.npz-utterance"}
    assert results["value"].equals(pd.read_csv("second/results.csv")["value"])
    np.savez("mosi.npz", **arrays(label=np.arange(N)[::-1] % 3))
    assert main([*FIT, "--data.corpus", "mosi.npz", "--run_dir", "third"]) == 0
    assert len(list(Path("data/imported").iterdir())) == 2
    np.savez("clips.npz", **arrays(label=None, split=None))
    assert main([*FIT, "--data.corpus", "clips.npz", "--run_dir", "fourth"]) == 2
    assert "labels and splits, to train or test on" in capsys.readouterr().err


def test_ratings_from_the_file_to_the_report() -> None:
    rng = np.random.default_rng(1)
    label = np.column_stack([CLASS * 2 + 2.0, rng.uniform(1, 7, N)])
    label[::7, 1] = np.nan
    load("--allow_missing_labels", classes=None, label=label, targets=np.array(["valence", "arousal"]))
    for loss in ("mae", "ccc"):
        given = [*FIT, "--data.corpus", "mine", "--model.loss", loss, "--run_dir", f"runs/{loss}"]
        assert main([*given, "--trainer.max_epochs", "20", "--model.optimizer.lr", "0.01"]) == 0
    results = pd.read_csv("runs/ccc/results.csv").set_index(["condition", "metric"])
    assert results.loc[("t", "valence_ccc"), "value"] > 0.5
    assert set(results["selection"]) == {"max validation ccc under the complete input"}
    stored = pd.read_parquet("runs/ccc/predictions.parquet")
    assert {"prediction valence", "target arousal"} <= set(stored.columns)
    complete = stored[stored["condition"] == "ta"]
    known = complete["target arousal"].notna()
    assert 0 < known.sum() < len(known)
    errors = (complete["prediction arousal"] - complete["target arousal"])[known].abs()
    assert results.loc[("ta", "arousal_mae"), "value"] == pytest.approx(errors.mean(), abs=1e-5)
    np.savez("clips.npz", **{k: v for k, v in arrays().items() if k in ("ids", "text")})
    assert (
        main(["predict", "--run", "runs/ccc", "--data.corpus", "clips.npz", "--output", "p.csv", "--run_dir", "p"]) == 0
    )
    assert pd.read_csv("p.csv")["prediction valence"].between(0, 9).all()
    assert main(["report", "runs", "--by", "speaker", "--output", "out"]) == 0
    assert "CCC" in Path("out/report.md").read_text()


def test_a_loss_for_ratings_needs_ratings(capsys: pytest.CaptureFixture[str]) -> None:
    load()
    assert main([*FIT, "--data.corpus", "mine", "--model.loss", "ccc", "--run_dir", "run"]) == 2
    assert "mae where labels are no ratings but single_label" in capsys.readouterr().err


def test_the_example_of_the_format_is_imported_and_trained_as_it_stands() -> None:
    page = (DOCS / "reference" / "npz-format.md").read_text()
    code = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert code is not None
    exec(compile(code[1], "npz-format.md", "exec"), {})
    commands = re.findall(r"^    mer-lightning (.*)$", page.partition("## Example")[2], re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        assert main([*command.split(), *(QUICK if command.startswith("fit") else [])]) == 0


def test_the_catalogue_of_the_how_to_works_as_it_stands(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = (DOCS / "how-to" / "bring-your-own-data.md").read_text()
    written = re.search(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert written is not None
    (here / "data").mkdir()
    (here / "data" / "catalogue.yaml").write_text(written[1])
    assert main(["data", "list", "moods"]) == 0
    assert "one of calm, glad, sad" in capsys.readouterr().out
    corpus = load(name="moods", classes=np.array(["calm", "glad", "sad"]))
    assert corpus is not None
    assert corpus.card.task == {"kind": "single_label", "classes": ["calm", "glad", "sad"]}


def test_a_name_means_its_aligned_import_or_the_only_one() -> None:
    load()
    assert find_corpus("mine", None).name == "mine-utterance"
    steps = np.full(N, 2)
    sequences = {"text": np.zeros((2 * N, 4)), "text_lengths": steps}
    np.savez("mine.npz", **arrays(**sequences, audio=np.zeros((N, 3, 2)), audio_lengths=steps + 1))
    assert main(["data", "import", "mine.npz", "--as", "mine"]) == 0
    with pytest.raises(Refusal, match=r"one import; found unaligned, utterance; choose --data\.alignment unaligned"):
        find_corpus("mine", None)
    assert find_corpus("mine", "utterance").name == "mine-utterance"
    np.savez("mine.npz", **arrays(**sequences, audio=np.zeros((N, 2, 2)), audio_lengths=steps))
    assert main(["data", "import", "mine.npz", "--as", "mine"]) == 0
    assert find_corpus("mine", None).name == "mine-aligned"

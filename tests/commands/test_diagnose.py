"""`mer-lightning diagnose` on runs that fit made, and on runs that lack something."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mer_lightning.cli import main
from mer_lightning.commands.diagnose import read
from mer_lightning.data.corpus import open_corpus
from mer_lightning.data.store import write_corpus
from mer_lightning.errors import Refusal
from mer_lightning.methods.loading import load_method
from mer_lightning.methods.probing import probes_of
from mer_lightning.numerals import number
from mer_lightning.studies.finished import run_in
from tests.data.test_corpus import absent

QUICK = ["--model.backbone", "early", "--model.backbone.width", "8", "--trainer.max_epochs", "2"]
QUICK += ["--trainer.enable_progress_bar", "false", "--trainer.accelerator", "cpu"]
TWIN = ["--data.synthetic", "true", "--data.samples", "120"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one seed of CDaT and of supervised learning, and a run that was tested under rates only."""
    place = tmp_path_factory.mktemp("diagnose")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MER_DATA", str(place / "data"))
        patch.chdir(place)
        for name in ("cdat", "supervised"):
            assert main(["fit", "--model", name, *QUICK, *TWIN, "--run_dir", f"runs/{name}"]) == 0
        assert (
            main(["fit", "--model", "supervised", *QUICK, *TWIN, "--protocol", "rate-cpm", "--run_dir", "rates"]) == 0
        )
    return place


@pytest.fixture
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(place)
    monkeypatch.setenv("MER_DATA", str(place / "data"))
    monkeypatch.setenv("COLUMNS", "200")
    return place


def test_what_it_says_is_in_the_predictions(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The rescue row of text and the ceiling, counted again from the table that people read."""
    assert main(["diagnose", "runs"]) == 0
    said = capsys.readouterr().out
    table = pd.read_parquet("runs/cdat/predictions.parquet")
    of = {name: part.set_index("id") for name, part in table.groupby("condition")}
    target = of["tav"]["target"]
    decided = target != 0
    right = {name: (np.sign(part["prediction"]) == np.sign(target))[decided] for name, part in of.items()}
    errors, hits = (~right["tav"]).sum(), right["tav"].sum()
    rescued, spoiled = (~right["tav"] & right["av"]).sum(), (right["tav"] & ~right["av"]).sum()
    row = next(line.split() for line in said.splitlines() if line.split()[:1] == ["text"])
    assert [int(row[i]) for i in (3, 4, 6, 7)] == [rescued, errors, spoiled, hits]

    samples = open_corpus(next((here / "data" / "synthetic").iterdir())).samples.set_index("id")
    without = {"": "tav", "text": "av", "audio": "tv", "vision": "ta"}
    who = samples["contradicts"].loc[of["tav"].index]
    chosen = [of[without[each]]["prediction"][i] for i, each in who.items()]
    assert (who != "").any()
    row = next(line.split() for line in said.splitlines() if line.split()[:1] == ["ceiling:"])
    assert float(row[-4]) == pytest.approx(np.abs(np.array(chosen) - target).mean(), abs=6e-4)
    assert int(row[-1]) == (who != "").sum()


def test_methods_stand_side_by_side(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", "runs"]) == 0
    said = capsys.readouterr().out
    head = next(line.split() for line in said.splitlines() if line.split()[:1] == ["measure"])
    assert sorted(head[1:]) == ["cdat", "supervised"]
    assert any(line.startswith(" MAE, ceiling") for line in said.splitlines())
    assert "the method stores no confidence of its own" in said  # supervised


def test_shares_of_gradients_are_means_of_what_was_logged(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", "runs"]) == 0
    said = capsys.readouterr().out
    log = pd.read_csv("runs/cdat/logs/metrics.csv")
    share, cosine = (log[f"gradient_{what}/transfer"].mean() for what in ("share", "cosine"))
    rows = [line.split() for line in said.splitlines() if line.split()[:1] == ["transfer"]]
    assert rows == [["transfer", number(share), number(cosine)]]
    side = next(line.split() for line in said.splitlines() if "gradient share, transfer" in line)
    assert side[-1] == number(share)


def test_codes_of_the_checkpoint_are_probed_when_asked_for(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The R2 of the table is that of the vectors of the same checkpoint, on the test samples."""
    assert main(["diagnose", "runs/supervised"]) == 0
    assert "Codes of the checkpoint" not in capsys.readouterr().out
    assert main(["diagnose", "--codes", "runs"]) == 0
    said = capsys.readouterr().out
    corpus = open_corpus(next((here / "data" / "synthetic").iterdir()))
    method = load_method(here / "runs" / "supervised" / "checkpoints" / "best.ckpt")
    found = probes_of(method, corpus.split("official", "train"), corpus.split("official", "test"))["vectors"]
    rows = [line.split() for line in said.splitlines() if line.split()[:1] == ["vectors"]]
    assert len(rows) == 2
    assert [number(value) for value in found.values()] in [row[1:] for row in rows]
    side = next(line for line in said.splitlines() if line.strip().startswith("vectors: label R2"))
    assert number(found["label R2"]) in side


def test_codes_that_cannot_be_probed_are_a_note(here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    shutil.copytree(here / "runs" / "supervised", folder)
    (folder / "checkpoints" / "best.ckpt").unlink()
    assert main(["diagnose", "--codes", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "codes are not probed" in said
    assert "a checkpoint that mer-lightning fit wrote" in said
    assert "AUROC" in said  # the rest is there


def test_other_protocols_are_named_with_what_to_do(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diagnose", "rates"]) == 0
    said = capsys.readouterr().out
    assert "nothing can be diagnosed: the complete input, tav, was not tested" in said
    command = next(line.partition("others: ")[2] for line in said.splitlines() if "to test the others" in line)
    assert main([*shlex.split(command)[1:], "--run_dir", "tested"]) == 0
    capsys.readouterr()
    assert main(["diagnose", "tested"]) == 0
    assert "Filtering beside its ceiling" in capsys.readouterr().out


def test_a_corpus_that_has_changed_or_gone_is_not_used(here: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(here / "runs" / "supervised", folder)
    card = folder / "corpus.yaml"
    card.write_text(card.read_text().replace("sha256: ", "sha256: 0", 1))
    views, notes = read(run_in(folder))
    assert views.contradicting is None
    assert "now holds other tensors" in notes[0]
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace("corpus: mosi", "corpus: gone").replace("synthetic: true", ""))
    assert "expected the corpus gone; found no such folder" in read(run_in(folder))[1][0]
    (folder / "predictions.parquet").unlink()
    with pytest.raises(Refusal, match="stored predictions"):
        read(run_in(folder))


def test_two_modalities_and_samples_that_lack_one(
    tiny_raw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    raw = absent(tiny_raw(), "vision", [5])  # the first of the test split
    for part in (raw.features, raw.feature_set):
        del part["audio"]
    write_corpus(raw, tmp_path / "two", "two")
    given = ["fit", "--model", "supervised", *QUICK, "--data.corpus", "two", "--protocol", "[t, v, tv]"]
    assert main([*given, "--run_dir", "run"]) == 0
    capsys.readouterr()
    assert main(["diagnose", "run"]) == 0
    said = capsys.readouterr().out
    assert "left out: 1 samples that lack a modality by nature" in said
    assert "9 samples, of which" in said
    assert "known of synthetic twins only" in said
    assert "text against vision" in said
    assert "audio" not in said

"""The ledger of many runs: found once, read once, kept, and read again where a file has changed."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pandas as pd
import pytest
import yaml

from mer_lightning.data.corpus import CorpusCard
from mer_lightning.errors import Refusal
from mer_lightning.studies import ledger
from mer_lightning.studies.ledger import SETTING, open_ledger
from mer_lightning.studies.report.findings import notes
from mer_lightning.studies.report.settings import settings_of
from mer_lightning.studies.variants import variant_labels
from mer_lightning.tasks import Regression

METHOD = "mer_lightning.methods.supervised.Supervised"
CARD = CorpusCard("mosi", "aligned", Regression().card(), {"text": "random 4"}, {"text": 4}, 7, {}, "", {})


def make_run(folder: Path, seed: int, width: int = 64, value: float = 1.0, corpus: str = "mosi") -> Path:
    (folder / "logs").mkdir(parents=True)
    model = {"class_path": METHOD, "init_args": {"backbone": {"init_args": {"width": width}}}}
    (folder / "config.yaml").write_text(yaml.safe_dump({"seed_everything": seed, "model": model, "data": {}}))
    (folder / "corpus.yaml").write_text(CARD.dump())
    (folder / "phases.json").write_text('{"0": {"seconds": 2.0, "epochs": 3, "max_epochs": 4}}')
    (folder / "logs" / "metrics.csv").write_text(f"epoch,valid/score\n0,{-value}\n1,{-value - 1}\n")
    facts = dict.fromkeys([*SETTING, "method", "selection", "training_masks", "backbone"], "1")
    facts |= {"corpus": corpus, "mask_hash": "0012", "samples": 7, "metrics_version": 1}
    row = facts | {"condition": "tav", "metric": "mae", "variant": "MMSA", "value": value, "floor": 2.0, "bayes": None}
    pd.DataFrame([row | {"seed": seed}]).to_csv(folder / "results.csv", index=False)
    return folder


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(ledger, "_MANY", 4)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for seed in range(5):
        make_run(tmp_path / "runs" / str(seed), seed, value=1.0 + seed / 7)
    return tmp_path / "runs"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the runs whose files are read."""
    names: list[str] = []

    def run_in(folder: Path) -> object:
        names.append(folder.name)
        return original(folder)

    original = ledger.run_in
    monkeypatch.setattr(ledger, "run_in", run_in)
    return names


def test_a_kept_ledger_is_the_same_and_reads_nothing(runs: Path, read: list[str]) -> None:
    first = open_ledger([runs])
    assert sorted(read) == ["0", "1", "2", "3", "4"]
    again = open_ledger([runs])
    assert len(read) == 5
    assert [(run.folder, run.facts) for run in again.runs] == [(run.folder, run.facts) for run in first.runs]
    pd.testing.assert_frame_equal(again.rows.astype(object), first.rows.astype(object))
    assert first.rows["value"].tolist() == [1.0 + seed / 7 for seed in range(5)]  # every digit
    assert first.rows["mask_hash"].tolist() == ["0012"] * 5  # a text, though it has digits only
    assert first.rows["budget"].tolist() == [4.0] * 5


@pytest.mark.parametrize("changed", ["config.yaml", "results.csv", "corpus.yaml", "phases.json", "logs/metrics.csv"])
def test_what_has_changed_is_read_again(runs: Path, read: list[str], changed: str) -> None:
    open_ledger([runs])
    read.clear()
    path = runs / "2" / changed
    path.write_text(re.sub(r"(?<![a-z])2", "3", path.read_text()))
    os.utime(path, ns=(0, 1))
    found = open_ledger([runs])
    assert read == ["2"]
    assert [run.folder.name for run in found.runs] == ["0", "1", "2", "3", "4"]
    assert found.rows["run"].tolist() == [str(run.folder) for run in found.runs]
    if changed == "results.csv":
        assert found.rows["value"][2] == pytest.approx(1.385714, abs=1e-6)  # 1.2857 with every 2 a 3


def test_runs_that_are_gone_leave_the_ledger_and_new_ones_enter(runs: Path, read: list[str]) -> None:
    open_ledger([runs])
    read.clear()
    (runs / "1" / "results.csv").unlink()
    make_run(runs / "9", 9)
    found = open_ledger([runs])
    assert read == ["9"]
    assert [run.folder.name for run in found.runs] == ["0", "2", "3", "4", "9"]
    assert found.rows["seed"].tolist() == [0, 2, 3, 4, 9]


@pytest.mark.parametrize("suffix", [".jsonl", ".arrow"])
@pytest.mark.parametrize("damage", ["cut off", "of another time", "gone"])
def test_a_damaged_cache_is_made_anew(runs: Path, read: list[str], suffix: str, damage: str) -> None:
    open_ledger([runs])
    (path,) = (runs.parent / "cache" / "mer_lightning" / "ledgers").glob(f"*{suffix}")
    before = path.read_bytes()
    if damage == "of another time":
        make_run(runs / "9", 9)
        open_ledger([runs])
        path.write_bytes(before)
    elif damage == "gone":
        path.unlink()
    else:
        path.write_bytes(before[: len(before) // 2])
    read.clear()
    found = open_ledger([runs])
    assert len(read) == len(found.runs) == len(found.rows)
    read.clear()
    open_ledger([runs])
    assert not read


def test_few_runs_are_not_kept(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "_MANY", 6)
    open_ledger([runs])
    assert not (runs.parent / "cache").exists()


def test_a_run_counts_once_though_two_folders_lead_to_it(runs: Path) -> None:
    assert len(open_ledger([runs, runs / "3"]).runs) == 5
    (runs / "link").symlink_to(runs / "3")
    assert len(open_ledger([runs]).runs) == 5
    with pytest.raises(Refusal, match="a folder with runs"):
        open_ledger([runs, runs / "3" / "logs"])


def test_of_many_methods_the_best_on_validation_are_drawn(tmp_path: Path) -> None:
    """Test scores would make another choice: here they are the other way round."""
    for width in range(20):
        folder = make_run(tmp_path / str(width), 1, width=width, value=float(width))
        results = folder / "results.csv"
        pd.read_csv(results).assign(value=-float(width)).to_csv(results, index=False)
    (setting,) = settings_of(open_ledger([tmp_path]))
    assert len(setting.contenders) == 20
    assert list(setting.shown) == [f"supervised (width {width})" for width in sorted(map(str, range(12)))]
    assert "Of 20 methods, figures and tests have the 12 best on validation." in notes(setting)
    other = make_run(tmp_path / "other", 1, corpus="mosei")
    assert [len(each.contenders) for each in settings_of(open_ledger([tmp_path]))] == [20, 1]
    assert list(settings_of(open_ledger([other]))[0].shown) == ["supervised"]


def test_labels_name_what_differs() -> None:
    same = {"model.class_path": METHOD, "model.init_args.dropout": 0.1, "data.corpus": "x"}
    labels = variant_labels(
        {
            "a": same,
            "b": same | {"model.init_args.dropout": 0.2, "data.corpus": "y"},
            "c": same | {"model.init_args.optimizer.class_path": "torch.optim.SGD"},
            "d": same | {"model.class_path": "mine.other.Other"},
        }
    )
    assert labels == {
        "a": "supervised (dropout 0.1)",
        "b": "supervised (dropout 0.2)",
        "c": "supervised (dropout 0.1, class_path SGD)",
        "d": "other",
    }
    assert variant_labels({"a": same, "b": same | {"data.corpus": "y"}}) == {"a": "supervised a", "b": "supervised b"}

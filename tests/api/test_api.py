"""`import mer_lightning as mer`: the same runs as on the command line, from names, objects and arrays."""

from __future__ import annotations

import functools
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer

import mer_lightning as mer
from mer_lightning.backbones.early import Early
from mer_lightning.cli import main
from mer_lightning.masks.training import ModalityDropout
from mer_lightning.methods.cdat import CDaT
from mer_lightning.methods.supervised import Supervised

QUIET = {"enable_progress_bar": False, "accelerator": "cpu"}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("api")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


@pytest.fixture(scope="module")
def data(here: Path) -> mer.MERData:
    return mer.data("mosi", synthetic=True, samples=80)


@pytest.fixture(scope="module")
def run(data: mer.MERData) -> mer.Run:
    model = mer.method("supervised", data, backbone="early")
    made = mer.fit(model, data, max_epochs=2, run_dir="runs/python", trainer=QUIET)
    assert model.trained_on == "mosi-aligned (synthetic)"
    trained = made.method.state_dict()
    assert all(torch.equal(value, trained[name]) for name, value in model.state_dict().items())
    return made


def test_a_run_made_in_python_is_the_one_of_the_command_line(run: mer.Run) -> None:
    words = ["--data.corpus", "mosi", "--data.synthetic", "true", "--data.samples", "80", "--trainer.max_epochs", "2"]
    quiet = ["--trainer.enable_progress_bar", "false", "--trainer.accelerator", "cpu"]
    chosen = ["--model", "supervised", "--model.backbone", "early", "--run_dir", "runs/words"]
    assert main(["fit", *chosen, *words, *quiet]) == 0
    other = mer.load("runs/words")
    assert run.predictions.equals(other.predictions)
    assert run.results.frame.equals(other.results.frame)
    assert {path.name for path in run.folder.iterdir()} == {path.name for path in other.folder.iterdir()}


def test_results_show_themselves(run: mer.Run) -> None:
    again = run.test("fixed-7")
    assert again["tav", "mae"] == run.results["tav", "mae"]
    assert "Supervised, seed 1111" in repr(again)
    assert f"{again['tav', 'mae']:.4f}" in again._repr_html_()
    assert again.frame["condition"].nunique() == 9
    drawn = [run.test("rate-cpm-0.5", mask_seed=seed).frame["mask_hash"].iloc[0] for seed in (0, 2)]
    assert drawn[0] == run.test("rate-cpm-0.5").frame["mask_hash"].iloc[0] != drawn[1]
    with pytest.raises(KeyError, match="there are: t, a, v"):
        again["atv", "mae"]
    assert "valid/score" in run.curves
    assert run.config["data"]["samples"] == 80
    assert run.plot("scatter", "ta").axes[0].get_title() == "scatter, ta"
    for kind, condition in (("scatter", "at"), ("pie", "ta"), ("confusion", "ta")):
        with pytest.raises(mer.Refusal):
            run.plot(kind, condition)


def test_a_notebook_shows_tables_without_escape_codes_and_figures_as_pictures(
    run: mer.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # as a notebook's kernel does
    assert "\x1b" not in repr(run.results)
    for figure in (run.plot("scatter"), run.plot("curves")):
        assert figure._repr_png_().startswith(b"\x89PNG")


def test_the_model_answers_for_clips_of_ones_own(run: mer.Run, data: mer.MERData) -> None:
    split = data.corpus.split("official", "test")
    batch = split.batch(torch.arange(3), split.present[:3])
    features = {m: [batch.features[m][i, : batch.lengths[m][i]].numpy() for i in range(3)] for m in batch.features}
    found = run.predict(**features, ids=split.ids[:3])
    stored = run.predictions
    expected = stored[stored["condition"] == "tav"].set_index("id").loc[split.ids[:3], "prediction"]
    np.testing.assert_allclose(found["prediction"], expected, atol=1e-6)
    assert list(found["id"]) == split.ids[:3]
    alone = run.predict(text=features["text"][0])
    assert alone["modalities"].tolist() == ["t"]
    expected = stored[(stored["condition"] == "t") & (stored["id"] == split.ids[0])]["prediction"].item()
    assert alone["prediction"].item() == pytest.approx(expected, abs=1e-6)


def test_predict_refuses_what_does_not_fit(run: mer.Run) -> None:
    with pytest.raises(mer.Refusal, match="768 wide"):
        run.predict(text=np.zeros((4, 5)))
    with pytest.raises(mer.Refusal, match="give one at least"):
        run.predict()


def test_names_classes_and_objects_mean_the_same(data: mer.MERData) -> None:
    asked = {"class_path": "early", "init_args": {"width": 16}}
    named = mer.method("supervised", data, backbone=asked)
    others = [
        Supervised(data=data, backbone=Early(data.dims, width=16)),
        mer.method(Supervised, data, backbone=functools.partial(Early, width=16)),
        Supervised(
            dims=data.dims, task_card=data.task_card, backbone={"class_path": "early", "init_args": {"width": 16}}
        ),
    ]
    for other in others:
        assert dict(other.hparams) == dict(named.hparams)
    assert named.backbone.state_width == 16


def test_masks_by_name_or_object(here: Path) -> None:
    asked = {"class_path": "modality_dropout", "init_args": {"rate": 0.3}}
    named = mer.data("mosi", synthetic=True, samples=60, masks=asked)
    given = mer.data("mosi", synthetic=True, samples=60, masks=ModalityDropout(rate=0.3))
    assert str(named.masks) == str(given.masks) == "ModalityDropout(rate=0.3)"
    with pytest.raises(mer.Refusal, match="modality_dropout"):
        mer.data("mosi", synthetic=True, samples=60, masks="dropout")


def test_arrays_are_a_corpus(here: Path) -> None:
    draw = np.random.default_rng(0)
    label = draw.integers(0, 2, 60)
    arrays = {
        "ids": [f"clip{number}" for number in range(60)],
        "text": draw.normal(size=(60, 4)) + 6 * label[:, None],
        "label": label,
        "classes": ["calm", "glad"],
        "split": ["train"] * 40 + ["valid"] * 10 + ["test"] * 10,
    }
    corpus = mer.data(arrays, name="mine")
    assert corpus.corpus.card.label.startswith("mine")
    model = mer.method("supervised", corpus, backbone="early")
    made = mer.fit(model, corpus, max_epochs=8, run_dir="runs/mine", trainer=QUIET)
    assert made.results["t", "wf1"] > 0.9
    assert made.predict(text=np.full(4, 6.0))["prediction"].tolist() == ["glad"]
    for kind in ("confusion", "calibration", "curves"):
        assert made.plot(kind).axes[0].has_data()
    with pytest.raises(mer.Refusal, match="one number"):
        made.plot("scatter")
    arrays["text"] = np.array([np.zeros(3), np.zeros(4)], dtype=object)
    with pytest.raises(mer.Refusal, match="text_lengths"):
        mer.data(arrays)


def test_a_trainer_of_ones_own(data: mer.MERData) -> None:
    model = Supervised(data=data, backbone="early")
    quiet = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False}
    trainer = Trainer(max_epochs=1, use_distributed_sampler=False, **quiet, **QUIET)
    trainer.fit(model, data)
    (found,) = trainer.test(model, data, verbose=False)
    assert {"test/tav/mae", "test/mean-7/mae"} <= set(found)
    batches = trainer.predict(model, data)
    rows = torch.cat([batch["index"] for batch in batches])
    answers = torch.cat([batch["prediction"] for batch in batches])
    assert rows.tolist() == list(range(80))
    model.eval()
    batch = data.corpus.everything().batch(torch.arange(5), None)
    torch.testing.assert_close(model(batch)[:, 0], answers[:5])
    assert model({"text": batch.features["text"], "audio": None}).shape == (5, 1)


def test_a_trainer_of_ones_own_is_told_of_further_phases(data: mer.MERData) -> None:
    trainer = Trainer(max_epochs=1, fast_dev_run=True, use_distributed_sampler=False, **QUIET)
    with pytest.warns(UserWarning, match="trains the first of 3 phases"):
        trainer.fit(CDaT(data=data, backbone="early"), data)


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        (lambda data: mer.method("cdatt", data), "one of cdat"),
        (lambda data: mer.method("cdat", data, backbone="tfm"), "did you mean tfn"),
        (lambda data: mer.method("cdat", data, bakcbone="tfn"), "bakcbone"),
        (lambda data: mer.load("nowhere"), "a run's folder"),
        (
            lambda data: mer.fit(Supervised(data.dims, data.task_card, Early), data),
            "made by mer_lightning.method",
        ),
        (lambda data: mer.fit(Supervised(data=data, backbone="early"), data, pateince=3), "pateince"),
    ],
)
def test_mistakes_are_refusals(asked: Any, line: str, data: mer.MERData) -> None:
    with pytest.raises(mer.Refusal, match=line):
        asked(data)


def test_the_import_is_light_and_names_are_documented() -> None:
    code = "import sys, mer_lightning; print(sorted({'torch', 'numpy', 'lightning', 'pandas'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
    for name in mer.__all__:
        value = getattr(mer, name)
        assert value.__doc__, name
        assert name in dir(mer)
    for function in (mer.method, mer.fit, mer.load, mer.Run.predict, mer.Run.test):
        hints = inspect.signature(function)
        assert all(each.annotation is not each.empty for key, each in hints.parameters.items() if key != "self")

"""The command line from end to end, on tiny corpora, in this process."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from mer_lightning.cli import main
from mer_lightning.contract import DIMS, TASKS
from mer_lightning.data.store import write_corpus
from mer_lightning.evaluation.metrics import evaluate
from mer_lightning.methods.loading import load_method
from mer_lightning.methods.supervised import Supervised
from mer_lightning.tasks import Regression, SingleLabel

QUICK = [
    "--trainer.max_epochs",
    "2",
    "--trainer.enable_progress_bar",
    "false",
    "--trainer.enable_model_summary",
    "false",
    "--trainer.accelerator",
    "cpu",
    "--model.backbone.width",
    "8",
]


@pytest.fixture
def fit(tmp_path: Path, tiny_corpus, monkeypatch: pytest.MonkeyPatch):
    """A function that fits on a tiny corpus and gives the run's folder."""
    monkeypatch.chdir(tmp_path)

    def run(*more: str, task=None, run_dir: str = "run") -> Path:
        corpus = ["--data.corpus", str(tiny_corpus(task))]
        given = [
            "fit",
            "--model",
            "supervised",
            "--model.backbone",
            "early",
            *corpus,
            "--run_dir",
            run_dir,
            *QUICK,
            *more,
        ]
        assert main(given) == 0
        return tmp_path / run_dir

    return run


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_fit_fills_the_run_folder(fit, task) -> None:
    run = fit(task=task)
    rows = pd.read_csv(run / "results.csv")
    assert list(dict.fromkeys(rows["condition"])) == ["t", "a", "v", "ta", "tv", "av", "tav", "mean-7", "mean-6"]
    for column in ("corpus_sha256", "feature_set", "variant", "selection", "protocol", "mask_hash", "seed", "floor"):
        assert rows[column].notna().any(), column
    said = pd.read_parquet(run / "predictions.parquet")
    assert len(said) == 10 * 7
    assert set(said.groupby("condition")["id"].nunique()) == {10}
    assert (run / "checkpoints" / "best.ckpt").is_file()
    assert (run / "checkpoints" / "last.ckpt").is_file()
    assert json.loads((run / "environment.json").read_text())["packages"]["torch"] == torch.__version__
    assert yaml.safe_load((run / "corpus.yaml").read_text())["samples"] == 60
    assert (run / "logs" / "metrics.csv").is_file()


def test_results_follow_from_the_stored_predictions(fit) -> None:
    run = fit()
    rows, said = pd.read_csv(run / "results.csv"), pd.read_parquet(run / "predictions.parquet")
    for condition, group in said.groupby("condition"):
        values = evaluate(
            Regression(), torch.tensor(group[["logit 0"]].to_numpy()), torch.tensor(group["target"].to_numpy())
        )
        of_condition = rows[rows["condition"] == condition].set_index("metric")["value"]
        for metric, value in values.items():
            assert of_condition[metric] == pytest.approx(value, abs=0.51e-5, nan_ok=True), (condition, metric)


def test_same_seed_same_numbers_and_the_saved_config_repeats_them(fit) -> None:
    first = fit(run_dir="first")
    again = fit(run_dir="again")
    other = fit("--seed_everything", "7", run_dir="other")
    assert main(["fit", "--config", str(first / "config.yaml"), "--run_dir", "repeated"]) == 0
    texts = [(run / "results.csv").read_text() for run in (first, again, first.parent / "repeated")]
    assert texts[0] == texts[1] == texts[2]
    assert (other / "results.csv").read_text() != texts[0]


def test_test_of_a_run_gives_the_same_rows(fit) -> None:
    run = fit()
    assert main(["test", "--run", str(run), "--run_dir", "tested"]) == 0
    assert (run.parent / "tested" / "results.csv").read_text() == (run / "results.csv").read_text()


@pytest.mark.parametrize("size", ["1", "3"])
def test_results_do_not_depend_on_the_size_of_evaluation_batches(size: str, fit) -> None:
    """Logits do, in their last bits."""
    run = fit()
    assert main(["test", "--run", str(run), "--data.eval_batch_size", size, "--run_dir", "tested"]) == 0
    assert Path("tested/results.csv").read_text() == (run / "results.csv").read_text()
    logits = [pd.read_parquet(folder / "predictions.parquet")["logit 0"] for folder in (run, Path("tested"))]
    assert not logits[0].equals(logits[1])


def test_other_protocol_and_masks_from_the_command_line(fit) -> None:
    run = fit("--protocol", "rate-imder", "--data.masks", "modality_dropout", "--data.masks.rate", "0.5")
    rows = pd.read_csv(run / "results.csv")
    assert "rate-imder-0.5" in set(rows["condition"])
    assert rows["training_masks"][0] == "ModalityDropout(rate=0.5)"


def test_checkpoint_loads_as_its_own_class_and_says_the_same(fit) -> None:
    method = load_method(fit() / "checkpoints" / "best.ckpt")
    assert type(method) is Supervised
    assert method.dims == DIMS
    assert method.backbone.state_width == 8


def test_results_are_never_written_over(fit, capfd: pytest.CaptureFixture[str]) -> None:
    before = (fit() / "results.csv").read_text()
    with pytest.raises(AssertionError):
        fit("--seed_everything", "7")
    assert "run: expected a folder without results" in capfd.readouterr().err
    assert (Path("run") / "results.csv").read_text() == before


def test_validate_measures_the_checkpoint_on_validation(fit, capfd: pytest.CaptureFixture[str]) -> None:
    run = fit()
    best = pd.read_csv(run / "logs" / "metrics.csv")["valid/score"].max()
    capfd.readouterr()
    assert main(["validate", "--run", str(run), "--run_dir", "validated"]) == 0
    said = re.search(r"valid/score\s+(\S+)", capfd.readouterr().out)
    assert said is not None
    assert float(said[1]) == pytest.approx(best, abs=0.51e-3)


def test_another_corpus_must_fit_the_run(fit, tmp_path: Path, tiny_raw, capfd: pytest.CaptureFixture[str]) -> None:
    run = fit()
    classes = tiny_raw(SingleLabel(("happy", "sad")))
    write_corpus(classes, tmp_path / "classes", "classes")
    wider = tiny_raw()
    wider.features["audio"] = wider.features["vision"]
    write_corpus(wider, tmp_path / "wider", "wider")
    for corpus, fragment in (("classes", "the task that was trained"), ("wider", "audio features 5 wide")):
        assert main(["test", "--run", str(run), "--data.corpus", str(tmp_path / corpus), "--run_dir", "x"]) == 2
        assert fragment in capfd.readouterr().err


def test_a_refusal_within_an_option_is_one_line_too_in_whatever_order(
    tiny_corpus, capfd: pytest.CaptureFixture[str]
) -> None:
    given = ["--data.masks.rate", "1.5", "--data.masks", "modality_dropout", "--data.corpus", str(tiny_corpus())]
    assert main(["fit", *given, "--model.backbone", "early", "--model", "supervised"]) == 2
    assert capfd.readouterr().err.strip().endswith("found 1.5; choose one in that range")


def test_predict_without_labels_and_without_a_modality(fit, tmp_path: Path) -> None:
    run = fit(task=SingleLabel(("happy", "sad")))
    rng = np.random.default_rng(0)
    clips = {"text": rng.normal(size=(3, 4, DIMS["text"])), "vision": rng.normal(size=(3, DIMS["vision"]))}
    np.savez(tmp_path / "clips.npz", ids=np.array(["a", "b", "c"]), **clips)
    given = ["predict", "--run", str(run), "--data.corpus", str(tmp_path / "clips.npz"), "--output", "said.csv"]
    assert main([*given, "--run_dir", "predicted"]) == 0
    said = pd.read_csv(tmp_path / "said.csv")
    assert list(said["id"]) == ["a", "b", "c"]
    assert set(said["modalities"]) == {"tv"}
    assert set(said["prediction"]) <= {"happy", "sad"}
    np.testing.assert_allclose(said["probability happy"] + said["probability sad"], 1, atol=1e-6)


def test_a_misspelt_array_is_named(fit, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = fit()
    np.savez(tmp_path / "clips.npz", id=np.array(["a"]), audio=np.ones((1, 5, DIMS["audio"]), np.float32))
    given = ["predict", "--run", str(run), "--data.corpus", str(tmp_path / "clips.npz"), "--output", "said.csv"]
    assert main([*given, "--run_dir", "predicted"]) == 0
    assert "! Array id: did you mean ids?" in capfd.readouterr().out


@pytest.mark.parametrize("ids", [["007", "1e5", "a,b"], [2**60 + 1, 2, 3]])
def test_a_run_on_a_twin_predicts_clips_and_gives_their_ids_back(
    ids: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MER_DATA", str(tmp_path / "data"))
    twin = ["--data.synthetic", "true", "--data.samples", "60", "--data.process", "contradiction"]
    method = ["--model", "supervised", "--model.backbone", "early"]
    assert main(["fit", *method, *twin, *QUICK, "--test_after_fit", "false", "--run_dir", "run"]) == 0
    np.savez("clips.npz", ids=np.array(ids), text=np.ones((3, 768), np.float32))
    assert main(["predict", "--run", "run", "--data.corpus", "clips.npz", "--output", "said.csv"]) == 0
    assert list(pd.read_csv("said.csv", dtype=str)["id"]) == list(map(str, ids))


def test_a_single_clip_can_be_predicted(fit, tmp_path: Path) -> None:
    run = fit()
    np.savez(tmp_path / "clip.npz", audio=np.ones((1, 5, DIMS["audio"]), np.float32))
    given = ["predict", "--run", str(run), "--data.corpus", str(tmp_path / "clip.npz"), "--output", "said.csv"]
    assert main([*given, "--run_dir", "predicted"]) == 0
    assert len(pd.read_csv(tmp_path / "said.csv")) == 1


@pytest.mark.parametrize(
    ("given", "fragments"),
    [
        (["fitt"], ["'fitt'", "did you mean 'fit'?"]),
        (["fit", "--model", "supervised", "--data.batchsize", "4"], ["batchsize", "--data.batch_size"]),
        (["fit", "--model", "supervised", "--model.backbne", "early"], ["backbne", "--model.backbone"]),
        (
            ["fit", "--model", "supervised", "--model.backbone", "early", "--data.corpus", "mosi"],
            ["mosi-aligned", "import", "--data.synthetic true"],
        ),
        (
            ["fit", "--model", "os.system"],
            ["a method: cdat, every_combination, mcur, mgr, supervised", "'os.system'", "--trust os"],
        ),
        (["fit", "--model", "supervized"], ["--model", "did you mean supervised?"]),
        (["fit", "--model", "supervised", "--model.backbone", "erly"], ["'erly'", "did you mean early?"]),
        (["fit", "--model", "supervised", "--model.backbone", "early", "--protocol", "fixed7"], ["mean fixed-7"]),
        (["test", "--model", "supervised", "--model.backbone", "early"], ["--run runs/"]),
        (["test", "--run", "nowhere"], ["nowhere", "config.yaml"]),
    ],
)
def test_errors_are_one_line_with_a_remedy(
    given: list[str],
    fragments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MER_DATA", str(tmp_path / "data"))
    try:
        code = main(given)
    except SystemExit as exit_:
        code = exit_.code
    assert code == 2
    lines = capfd.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    for fragment in fragments:
        assert fragment in lines[0]


def test_a_corpus_with_other_classes(fit, tmp_path: Path, tiny_raw, capfd: pytest.CaptureFixture[str]) -> None:
    run = fit(task=SingleLabel(("happy", "sad", "excited")))
    others = SingleLabel(("sadness", "joy", "fear"))
    write_corpus(tiny_raw(others), tmp_path / "others", "others")
    given = ["test", "--run", str(run), "--data.corpus", str(tmp_path / "others"), "--run_dir", "elsewhere"]
    assert main(given) == 2
    assert "say which class is which: test --labels" in capfd.readouterr().err
    assert main([*given, "--labels", "{happy: joy, excited: joy, sad: sadness}"]) == 0
    assert "labels: sad as sadness, happy+excited as joy" in " ".join(capfd.readouterr().out.split())
    rows, said = pd.read_csv("elsewhere/results.csv"), pd.read_parquet("elsewhere/predictions.parquet")
    assert set(rows["trained_on"]) != set(rows["corpus"])
    assert set(said["target"]) <= {"sadness", "joy"}
    complete = said[said["condition"] == "tav"]
    accuracy = rows.query("condition == 'tav' and metric == 'wa'")["value"].item()
    assert accuracy == pytest.approx((complete["prediction"] == complete["target"]).mean(), abs=1e-6)
    everything = pd.read_parquet(run / "predictions.parquet").query("condition == 'tav'")
    assert rows["samples"][0] == len(complete) < len(everything)
    # Beside the run itself it stands in a table of its own.
    assert main(["report", str(run), "elsewhere", "--output", "report"]) == 0
    assert pd.read_csv("report/scores.csv")["setting"].nunique() == 2
    assert ", trained on " in Path("report/report.md").read_text()

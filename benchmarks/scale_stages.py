"""The stages that the scale benchmark measures: what a person runs, in one folder, on files of one size."""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks.scale_inputs import copy_runs, write_sequences, write_utterances

_QUIET = ["--trainer.enable_progress_bar", "false", "--trainer.accelerator", "cpu"]
_BATCHES = ["--data.batch_size", "256", "--data.eval_batch_size", "1024"]
_FIFTEEN = "[fixed-7, rate-cpm]"
_BUDGET = "paper"


def make_ready(folder: Path) -> None:
    """What every stage starts from: the libraries are imported, and nothing is read or written elsewhere."""
    os.chdir(folder)
    os.environ |= {"MER_DATA": str(folder / "data"), "XDG_CACHE_HOME": str(folder / "cache")}
    import warnings

    import lightning.pytorch
    import matplotlib.figure
    import optuna
    import pandas  # noqa: F401
    import pyarrow.csv
    import pyarrow.feather
    import scipy.stats
    import torch

    import mer_lightning.methods.supervised
    import mer_lightning.training.lightning_cli  # noqa: F401

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    del lightning, matplotlib, optuna, pyarrow, scipy


def _command(*words: str) -> None:
    from mer_lightning.cli import main

    if code := main(list(words)):
        raise RuntimeError(f"{' '.join(words)} ended with {code}")


# --- samples


def prepare_utterances(folder: Path, size: int) -> None:
    write_utterances(folder / "corpus.npz", size)


def prepare_sequences(folder: Path, size: int) -> None:
    write_sequences(folder / "corpus.npz", size)


def import_file(folder: Path, size: int) -> None:
    _command("data", "import", "corpus.npz", "--as", "mosi", "-o", "corpus")


def open_file(folder: Path, size: int) -> None:
    from mer_lightning.data.corpus import open_corpus

    corpus = open_corpus(folder / "corpus")
    for split in ("train", "valid", "test"):
        assert len(corpus.split("official", split).ids) > 0


def epoch(folder: Path, size: int) -> None:
    """One epoch of training and validation, its start included."""
    options = ["--model", "supervised", "--model.backbone", "early", "--data.corpus", "corpus", *_BATCHES, *_QUIET]
    _command("fit", *options, "--trainer.max_epochs", "1", "--test_after_fit", "false", "--run_dir", "run")


def tested_under_7(folder: Path, size: int) -> None:
    _command("test", "--run", "run", "--protocol", "fixed-7", *_QUIET, "--run_dir", "tests/fixed-7")


def tested_under_15(folder: Path, size: int) -> None:
    _command("test", "--run", "run", "--protocol", _FIFTEEN, *_QUIET, "--run_dir", "tests/fifteen")


def write_15(folder: Path, size: int) -> None:
    """Scores and files of predictions under 15 conditions that are there already; a fifth of the samples are tested."""
    import torch

    from mer_lightning.data.corpus import open_corpus
    from mer_lightning.evaluation.metrics import evaluate
    from mer_lightning.evaluation.predictions import Predictions, prediction_table

    test = open_corpus(folder / "corpus").split("official", "test")
    task = open_corpus(folder / "corpus").task
    predictions = Predictions(torch.randn(len(test), 15, 1), test.target, torch.arange(len(test)))
    for condition in range(15):
        evaluate(task, predictions.under(condition), test.target)
    table = prediction_table(predictions, task, [f"condition {k}" for k in range(15)], test.ids)
    table.to_parquet(folder / "written.parquet")


def predict(folder: Path, size: int) -> None:
    output = ["--output", "all.csv", "--run_dir", "predicted"]
    _command("predict", "--run", "run", "--data.corpus", "corpus", *output, *_QUIET)


def diagnose(folder: Path, size: int) -> None:
    _command("diagnose", "tests/fixed-7")


def report(folder: Path, size: int) -> None:
    """Of two methods of one seed, with the tests of their difference."""
    copy_runs(folder / "tests" / "fixed-7", folder / "two", 2, seeds=1)
    _command("report", "two", "--output", "report")


# --- conditions


def prepare_conditions(folder: Path, size: int) -> None:
    prepare_utterances(folder, 20_000)
    import_file(folder, size)
    epoch(folder, size)


def test_conditions(folder: Path, size: int) -> None:
    rates = [f"rate-cpm-{number / 1000:.3f}" for number in range(1, size + 1)]
    _command("test", "--run", "run", "--protocol", f"[{', '.join(rates)}]", *_QUIET, "--run_dir", "tested")


# --- runs


def prepare_runs(folder: Path, size: int) -> None:
    prepare_utterances(folder, 2_000)
    import_file(folder, size)
    epoch(folder, size)
    tested_under_7(folder, size)
    copy_runs(folder / "tests" / "fixed-7", folder / "runs", size)


def first_ledger(folder: Path, size: int) -> None:
    from mer_lightning.studies.ledger import open_ledger

    assert len(open_ledger([Path("runs")]).runs) == size


def ledger_again(folder: Path, size: int) -> None:
    first_ledger(folder, size)


def report_runs(folder: Path, size: int) -> None:
    _command("report", "runs", "--output", "report")


def plan_reproduction(folder: Path, size: int) -> None:
    from mer_lightning.studies.reproduction import BUDGETS, Experiment, plan

    files = size // BUDGETS[_BUDGET].seeds
    experiments = [Experiment(Path(f"{number}.yaml"), synthetic=True) for number in range(files)]
    assert len(plan(experiments, _BUDGET, folder)) == size


# --- trials


def prepare_nothing(folder: Path, size: int) -> None:
    """The stages of a sweep make what they need."""


def random_trials(folder: Path, size: int) -> None:
    _trials(folder, size, "random")


def bayes_trials(folder: Path, size: int) -> None:
    _trials(folder, size, "bayes")


def _trials(folder: Path, size: int, method: str) -> None:
    """The bookkeeping of a sweep: what each trial costs beside its runs."""
    from mer_lightning.studies.search import Search
    from mer_lightning.studies.sweep_file import read_sweep
    from mer_lightning.studies.sweep_storage import FileStorage

    (folder / "x.yaml").touch()
    file = folder / f"{method}.yaml"
    file.write_text(
        f"method: {method}\ncommand: [mer-lightning, fit, --config, x.yaml, --config, '${{args_json_file}}']\n"
        "metric: {name: valid/score, goal: maximize}\nparameters:\n"
        "  model.optimizer.init_args.lr: {min: 0.0001, max: 0.01, distribution: log_uniform_values}\n"
        "  model.backbone.init_args.width: {values: [16, 32, 64]}\n"
    )
    search = Search(read_sweep(file), FileStorage(folder / method), size)
    ended = 0
    for trial in search.trials_to_run():
        search.record(trial, float(trial.overrides["model.optimizer.init_args.lr"]), search.was_pruned(trial))
        ended += 1
    assert ended == size

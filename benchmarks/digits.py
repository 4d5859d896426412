"""`python -m benchmarks.digits`: one short run of each method and of each backbone, and a hash of all that it predicts.

Run it before and after a change that must not change results, on one machine, and compare what it prints:

    python -m benchmarks.digits > before.txt
    python -m benchmarks.digits > after.txt && diff before.txt after.txt
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import tempfile
from pathlib import Path

import pandas as pd
import torch

from mer_lightning.backbones.base import all_backbones
from mer_lightning.cli import main

_EXPERIMENTS = Path(__file__).parents[1] / "experiments"
_METHODS = {
    "supervised": ("supervised_mosi", []),
    "modality_dropout": ("modality_dropout_mosi", []),
    "cdat": ("cdat_mosi", []),
    "cdat ce": ("cdat_iemocap4", ["--model.preset", "ce"]),
    "cdat released": ("cdat_iemocap4", ["--model.preset", "cdat_r1"]),
    "mgr": ("mgr_mosi", []),
    "mgr iemocap4": ("mgr_iemocap4", []),
    "mcur": ("mcur_mosi", []),
    "mcur iemocap4": ("mcur_iemocap4", []),
}


def experiments() -> dict[str, tuple[str, list[str]]]:
    """{what the row is called: (experiment, more options)}"""
    backbones = {
        f"backbone {name}": ("supervised_mosi", ["--model.backbone", name])
        for name, cls in all_backbones().items()
        if not cls.needs_tokens
    }
    return _METHODS | backbones


def digits(experiment: str, options: list[str], folder: Path) -> str:
    """A hash of all predictions and scores of two epochs on a small synthetic twin."""
    given = ["fit", "--config", str(_EXPERIMENTS / f"{experiment}.yaml"), *options, "--run_dir", str(folder)]
    given += ["--data.synthetic", "true", "--data.samples", "200", "--trainer.max_epochs", "2"]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as complaints:
        code = main([*given, "--trainer.enable_progress_bar", "false"])
    if code:
        return complaints.getvalue().strip()
    predictions = pd.read_parquet(folder / "predictions.parquet")
    scores = pd.read_csv(folder / "results.csv")["value"]
    found = hashlib.sha256()
    for column in [*predictions.select_dtypes("number").columns]:
        found.update(predictions[column].to_numpy().tobytes())
    found.update(scores.to_numpy().tobytes())
    return found.hexdigest()[:16]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.digits", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="rows to print (default: all)")
    asked = parser.parse_args().names
    torch.set_num_threads(1)  # sums in another order have other digits
    for name, (experiment, options) in experiments().items():
        if not asked or name in asked:
            with tempfile.TemporaryDirectory() as folder:
                print(f"{name:24} {digits(experiment, options, Path(folder) / 'run')}", flush=True)

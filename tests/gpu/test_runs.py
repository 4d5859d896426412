"""Runs on a GPU: `python -m pytest -m gpu`. The slow suite runs the same tests on the CPU, so that they cannot rot."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from mer_lightning.cli import main
from mer_lightning.data.datamodule import MERData
from mer_lightning.methods.base import MERMethod

# Noise of 16-bit products: 8 bits of a number are kept, and a logit is a sum of a few products of sums.
BF16 = 2**-5
FLOAT32 = 1e-4  # of logits; the order of sums differs from one device to another

EARLY = ["--model.backbone", "early", "--model.backbone.width", "16"]
SUPERVISED = ["--model", "supervised", *EARLY, "--model.optimizer.lr", "1e-2"]
CDAT = ["--model", "cdat", *EARLY, "--model.weight", "1"]  # three phases

Fit = Callable[..., Path]


@pytest.fixture(params=[pytest.param("cpu", marks=pytest.mark.slow), pytest.param("gpu", marks=pytest.mark.gpu)])
def accelerator(request: pytest.FixtureRequest) -> str:
    if request.param == "gpu" and not torch.cuda.is_available():
        pytest.skip("needs a GPU that torch can use")
    return str(request.param)


@pytest.fixture
def options(accelerator: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Of a small fit with kernels that give the same digits each time, where the device has such."""
    monkeypatch.setenv("MER_DATA", str(tmp_path / "data"))
    data = ["--data.corpus", "iemocap4", "--data.synthetic", "true", "--data.samples", "240", "--data.batch_size", "16"]
    trainer = ["--trainer.accelerator", accelerator, "--trainer.devices", "1", "--trainer.deterministic", "warn"]
    return [*data, *trainer, "--trainer.max_epochs", "9", "--trainer.enable_progress_bar", "false"]


@pytest.fixture
def fit(options: list[str], tmp_path: Path) -> Fit:
    """Makes a run of that name, of that model with its options, and returns its folder."""

    def make(name: str, *more: str) -> Path:
        assert main(["fit", *(more or SUPERVISED), *options, "--run_dir", str(tmp_path / name)]) == 0
        return tmp_path / name

    return make


def evaluated(run: Path, accelerator: str, precision: str = "32-true") -> Path:
    """The checkpoint of a run, tested again."""
    folder = run / f"test-{len(list(run.glob('test-*')))}"
    given = ["--trainer.accelerator", accelerator, "--trainer.devices", "1", "--trainer.precision", precision]
    assert main(["test", "--run", str(run), *given, "--run_dir", str(folder)]) == 0
    return folder


def logits(run: Path) -> np.ndarray:
    predictions = pd.read_parquet(run / "predictions.parquet")
    return predictions.filter(like="logit").to_numpy(np.float64)


def weights(run: Path) -> dict[str, torch.Tensor]:
    state = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True, map_location="cpu")["state_dict"]
    return dict(state)


def test_a_fit_learns_on_the_device(fit: Fit, accelerator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    devices = set()
    step = MERMethod.training_step

    def watched(self: MERMethod, batch: Any, *given: Any) -> torch.Tensor:
        devices.add((self.device.type, batch.target.device.type, next(iter(batch.features.values())).device.type))
        return step(self, batch, *given)

    monkeypatch.setattr(MERMethod, "training_step", watched)
    run = fit("run")
    kind = "cuda" if accelerator == "gpu" else "cpu"
    assert devices == {(kind, kind, kind)}
    if accelerator == "gpu":
        assert json.loads((run / "environment.json").read_text())["devices"][0] == torch.cuda.get_device_name(0)
    results = pd.read_csv(run / "results.csv").query("metric == 'wf1' and condition == 'tav'")
    assert results["value"].item() > results["floor"].item() + 0.1


@pytest.mark.parametrize("after", [5, 20, 50])
def test_a_fit_that_broke_off_ends_with_the_same_digits(
    after: int, fit: Fit, options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fit("whole", *CDAT)
    broken, step, done = tmp_path / "broken", MERMethod.training_step, 0

    def breaking(self: MERMethod, *given: Any) -> torch.Tensor:
        nonlocal done
        done += 1
        if done == after:
            raise ConnectionError("pulled the plug")
        return step(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(MERMethod, "training_step", breaking)
        with pytest.raises(ConnectionError):
            main(["fit", *CDAT, *options, "--run_dir", str(broken)])
    assert main(["fit", "--resume", str(broken)]) == 0
    expected = weights(whole)
    assert all(torch.equal(value, expected[name]) for name, value in weights(broken).items())
    assert (broken / "results.csv").read_text() == (whole / "results.csv").read_text()


def test_16_bits_change_logits_by_their_rounding_alone(fit: Fit, accelerator: str) -> None:
    run = fit("run", *SUPERVISED, "--trainer.precision", "bf16-mixed")
    exact, rounded = (logits(evaluated(run, *given)) for given in (("cpu",), (accelerator, "bf16-mixed")))
    difference = np.abs(exact - rounded).max()
    assert 0 < difference < BF16 * np.abs(exact).max()


def test_batches_that_stay_on_the_device_train_the_same(fit: Fit, accelerator: str) -> None:
    device = torch.device("cuda" if accelerator == "gpu" else "cpu")
    data = MERData("iemocap4", synthetic=True, samples=240)
    data.setup("validate")
    split = data.split("valid")
    resident = split.on(device).batch(torch.arange(4))
    assert {value.device.type for value in (*resident.features.values(), resident.present)} == {device.type}
    gathered, stayed = fit("gathered"), fit("resident", *SUPERVISED, "--data.resident", "true")
    expected = weights(gathered)
    assert all(torch.equal(value, expected[name]) for name, value in weights(stayed).items())
    assert (stayed / "results.csv").read_text() == (gathered / "results.csv").read_text()


def test_masks_and_decisions_are_those_of_a_test_on_the_cpu(fit: Fit, accelerator: str) -> None:
    run = fit("run")
    here, there = (evaluated(run, kind) for kind in (accelerator, "cpu"))
    masks = [pd.read_csv(each / "results.csv")["mask_hash"].unique().tolist() for each in (here, there)]
    assert masks[0] == masks[1]
    decisions = [
        pd.read_parquet(each / "predictions.parquet")[["id", "condition", "prediction"]] for each in (here, there)
    ]
    pd.testing.assert_frame_equal(*decisions)
    np.testing.assert_allclose(logits(here), logits(there), atol=FLOAT32)
    values = [pd.read_csv(each / "results.csv").drop(columns="seed") for each in (here, there)]
    pd.testing.assert_frame_equal(*values, atol=FLOAT32)


def test_two_workers_of_a_sweep_on_one_device(
    options: list[str], accelerator: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("optuna")
    monkeypatch.chdir(tmp_path)
    sweep = {
        "name": "s",
        "method": "grid",
        "metric": {"name": "valid/score", "goal": "maximize"},
        "parameters": {"model.optimizer.lr": {"values": [1e-4, 3e-4, 1e-3, 3e-3]}},
        "command": ["mer-lightning", "fit", *SUPERVISED, *options, "${args}"],
    }
    Path("sweep.yaml").write_text(json.dumps(sweep))
    tables = []
    for workers in ("2", "1"):
        assert main(["sweep", "sweep.yaml", "--workers", workers, "--runs", f"with {workers}"]) == 0
        tables.append(pd.read_csv(Path(f"with {workers}") / "s" / "trials.csv"))
    assert tables[0]["state"].tolist() == ["complete"] * 4
    pd.testing.assert_frame_equal(*tables)
    if accelerator == "gpu":
        environments = Path("with 2").glob("s/trial-*/run/environment.json")
        devices = [json.loads(path.read_text())["devices"] for path in environments]
        assert devices == [[torch.cuda.get_device_name(0)]] * 4

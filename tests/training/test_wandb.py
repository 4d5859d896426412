"""What W&B gets of a run, read back from its own offline record, and what happens when it refuses."""

from __future__ import annotations

import json
import struct
import time
from pathlib import Path

import pandas as pd
import pytest

from mer_lightning.cli import main
from mer_lightning.training.wandb_logger import send_results


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return tmp_path


def records(folder: Path) -> list:
    """What W&B wrote: a LevelDB log of protocol buffers, in blocks of 32 KiB, after a header of 7 bytes."""
    from wandb.proto import wandb_internal_pb2

    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    data, place, whole, found = path.read_bytes(), 7, b"", []
    while place + 7 <= len(data):
        if 32768 - place % 32768 < 7:  # too little for another header: padding
            place += 32768 - place % 32768
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        whole += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            record = wandb_internal_pb2.Record()
            record.ParseFromString(whole)
            found.append(record)
            whole = b""
    return found


def test_name_group_tags_config_table_and_checkpoint(offline: Path, tiny_corpus) -> None:
    given = ["fit", "--model", "supervised", "--model.backbone", "early", "--data.corpus", str(tiny_corpus())]
    given += ["--logger", "wandb", "--name", "study", "--trainer.max_epochs", "2", "--trainer.accelerator", "cpu"]
    assert main([*given, "--trainer.enable_progress_bar", "false"]) == 0
    deadline = time.monotonic() + 60
    said = []
    while not any(record.HasField("run") for record in said) and time.monotonic() < deadline:
        said = records(offline / "runs" / "study" / "1")  # another process writes it, in its own time
    run = next(record.run for record in said if record.HasField("run"))
    assert run.display_name == "study/1"
    assert run.run_group == "study"
    assert set(run.tags) >= {"supervised", "early"}
    keys = {item.key or "/".join(item.nested_key) for record in said for item in record.history.item}
    assert {"valid/score", "test/tav/mae"} <= keys
    assert any(key.startswith("results/") for key in keys)
    metrics = [record.metric for record in said if record.HasField("metric")]
    assert any(metric.name == "valid/score" and metric.summary.max for metric in metrics)
    assert any(
        record.request.log_artifact.artifact.type == "model" or record.artifact.type == "model" for record in said
    )
    config = json.dumps([str(record.config) + str(record.run.config) for record in said])
    assert "max_epochs" in config


def test_a_lost_connection_stops_nothing(tmp_path: Path) -> None:
    class WandbLogger:
        @property
        def experiment(self):
            raise ConnectionError("no network")

    rows = pd.DataFrame(
        {"condition": ["tav"], "metric": ["mae"], "variant": ["x"], "value": [1.0], "floor": [1.0], "linear": [1.0]}
    )
    pytest.importorskip("wandb", reason="wandb is not installed")
    with pytest.warns(UserWarning, match="no network"):
        send_results(WandbLogger(), tmp_path, rows)  # type: ignore[arg-type]

"""What the scale benchmark works on: feature files of any number of samples, and any number of run folders."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

UTTERANCE_WIDTHS = {"text": 200, "audio": 55, "vision": 20}  # 2 million samples are 2.2 GB
SEQUENCES = {"text": (100, 20), "audio": (74, 40), "vision": (35, 40)}  # width, mean steps
_CHUNK = 20_000  # samples written at a time


def write_utterances(path: Path, samples: int) -> None:
    """An .npz of one vector per sample and modality, in which text knows the label."""
    label = np.random.default_rng(0).uniform(-3, 3, samples).astype(np.float32)
    with zipfile.ZipFile(path, "w") as file:
        _write_facts(file, label)
        for number, (modality, width) in enumerate(UTTERANCE_WIDTHS.items()):
            draw = np.random.default_rng(number)
            with _array(file, modality, np.float32, (samples, width)) as array:
                for start in range(0, samples, _CHUNK):
                    part = label[start : start + _CHUNK]
                    values = draw.standard_normal((len(part), width), dtype=np.float32)
                    values[:, 0] += part * (modality == "text")
                    array.write(values.tobytes())


def write_sequences(path: Path, samples: int) -> None:
    """The same of sequences, one after the other without padding."""
    label = np.random.default_rng(0).uniform(-3, 3, samples).astype(np.float32)
    with zipfile.ZipFile(path, "w") as file:
        _write_facts(file, label)
        for number, (modality, (width, mean)) in enumerate(SEQUENCES.items()):
            draw = np.random.default_rng(number)
            lengths = np.clip(draw.gamma(4, mean / 4, samples).astype(np.int64), 1, 200)
            _write(file, f"{modality}_lengths", lengths)
            block = draw.standard_normal((200, width), dtype=np.float32)
            with _array(file, modality, np.float32, (int(lengths.sum()), width)) as array:
                for steps in lengths:
                    array.write(block[:steps].tobytes())


def _write_facts(file: zipfile.ZipFile, label: NDArray[np.float32]) -> None:
    """Of ten samples in a row, which are one video, all are in one split: 7 of 10 videos train, 1 validates, 2 test."""
    number = np.arange(len(label))
    _write(file, "ids", number.astype("U8"))
    _write(file, "label", label)
    _write(file, "video_id", (number // 10).astype("U8"))
    _write(file, "split", np.array(["train"] * 7 + ["valid"] + ["test"] * 2)[number // 10 % 10])


def _write(file: zipfile.ZipFile, name: str, values: NDArray[Any]) -> None:
    with _array(file, name, values.dtype, values.shape) as array:
        array.write(np.ascontiguousarray(values).tobytes())


def _array(file: zipfile.ZipFile, name: str, dtype: Any, shape: tuple[int, ...]) -> Any:
    array = file.open(f"{name}.npy", "w", force_zip64=True)
    description = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_2_0(array, description)
    return array


def copy_runs(run: Path, folder: Path, runs: int, seeds: int = 5) -> None:
    """``runs`` folders like ``run``, of variants with five seeds each and scores of their own; one is the baseline.

    Checkpoints stay behind; predictions are links to the same file.
    """
    import pandas as pd
    import yaml

    config = yaml.safe_load((run / "config.yaml").read_text())
    results = pd.read_csv(run / "results.csv")
    draw = np.random.default_rng(0)
    for number in range(runs):
        variant, seed = divmod(number, seeds)
        copy = folder / str(variant) / str(seed)
        (copy / "logs").mkdir(parents=True)
        config["seed_everything"] = seed
        config["model"]["init_args"]["preset"] = f"variant_{variant}" if variant else None
        (copy / "config.yaml").write_text(yaml.safe_dump(config))
        values = results["value"] + draw.normal(0, 0.01, len(results))
        results.assign(seed=seed, value=values).to_csv(copy / "results.csv", index=False)
        for path in (run / "corpus.yaml", run / "phases.json"):
            if path.is_file():  # a run that was only tested has no phases
                shutil.copy(path, copy / path.name)
        for log in (run / "logs").rglob("metrics.csv"):
            shutil.copy(log, copy / "logs" / "metrics.csv")
        (copy / "predictions.parquet").hardlink_to(run / "predictions.parquet")

"""One small whole sample of every format that is read, before anything is done to it."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from mer_lightning.cli import main
from tests.public_files import meld_files, mosi_files, write_files

SPLITS = {"train": 4, "valid": 2, "test": 2}
IDS = [f"video{number}_{number}" for number in range(8)]
_DRAW = np.random.default_rng(0)


def _features(samples: int, width: int, steps: int = 3) -> np.ndarray:
    return _DRAW.normal(size=(samples, steps, width)).astype(np.float32)


def _split_dicts(labels: str, shape: tuple[int, ...]) -> dict[str, Any]:
    return {
        split: {
            "text": _features(n, 4),
            "audio": _features(n, 5),
            "vision": _features(n, 6),
            labels: _DRAW.uniform(-3, 3, (n, *shape)),
            "id": [f"{split}{i}$_$1" for i in range(n)],
        }
        for split, n in SPLITS.items()
    }


def mmsa(folder: Path) -> Path:
    content = _split_dicts("regression_labels", ())
    for split, n in SPLITS.items():
        tokens = np.ones((n, 3, 3), np.float32)
        content[split] |= {"text_bert": tokens, "raw_text": [f"caf\xe9 {i}" for i in range(n)]}
    return _write(folder / "aligned_50.pkl", pickle.dumps(content, 4))


def mult(folder: Path) -> Path:
    return _write(folder / "mosi_data.pkl", pickle.dumps(_split_dicts("labels", (1, 1)), 2))


def mag(folder: Path) -> Path:
    def example(name: str) -> tuple[Any, ...]:
        return (["a", "word"], _features(1, 6, 2)[0], _features(1, 5, 2)[0]), np.array([[1.5]]), name

    names = {"train": "train", "valid": "dev", "test": "test"}
    content = {names[split]: [example(f"{split}{i}[0]") for i in range(n)] for split, n in SPLITS.items()}
    return _write(folder / "mosi.pkl", pickle.dumps(content, 5))


def gcnet(folder: Path) -> Path:
    videos = {f"video{i}": [f"video{i}_{k}" for k in range(2)] for i in range(6)}
    per_video: list[Any] = [videos, *({v: [x, x] for v in videos} for x in (np.float64(1.0), "", "yes"))]
    sets = [{"video0", "video1"}, {"video2", "video3"}, {"video4", "video5"}]
    _write(folder / "CMUMOSI_features_raw_2way.pkl", pickle.dumps([*per_video, *sets], 2))
    for name in ("deberta-large-4-UTT", "wav2vec-large-c-UTT", "manet_UTT"):
        for utterance in (each for video in videos.values() for each in video):
            _save(folder / "features" / name / f"{utterance}.npy", _features(1, 4, 1)[0])
    return folder


def merbench(folder: Path) -> Path:
    folder.mkdir(parents=True)
    names = {split: [f"{split}{i}_1" for i in range(n)] for split, n in SPLITS.items()}
    keys = {"train": "train_corpus", "valid": "val_corpus", "test": "test_corpus"}
    labels: dict[str, Any] = {keys[s]: {name: {"emo": 0, "val": 1.5} for name in names[s]} for s in SPLITS}
    np.savez_compressed(folder / "label.npz", **labels)
    for feature_set in ("A-UTT", "B-UTT", "C-UTT"):
        for name in (name for split in names.values() for name in split):
            _save(folder / "features" / feature_set / f"{name}.npy", _features(1, 4, 1)[0])
    return folder


def mmin(folder: Path) -> Path:
    import h5py

    names = [f"Ses01F_impro01_F{number:03}" for number in range(8)]
    for place in ("A/comparE.h5", "V/denseface.h5", "L/bert_large.h5"):
        (folder / place).parent.mkdir(parents=True)
        with h5py.File(folder / place, "w") as file:
            for name in names:
                file.create_dataset(name, data=_features(1, 4)[0], compression="gzip")
    for prefix, own in {"trn": names[:4], "val": names[4:6], "tst": names[6:]}.items():
        _save(folder / "target" / "1" / f"{prefix}_label.npy", np.eye(4)[[number % 4 for number in range(len(own))]])
        _save(folder / "target" / "1" / f"{prefix}_int2name.npy", np.array([[name.encode()] for name in own]))
    return folder


def csd(folder: Path) -> Path:
    import h5py

    folder.mkdir(parents=True)
    videos = [f"video{number}" for number in range(4)]
    times = np.array([[0.0, 1.0], [1.0, 2.0]])
    words = np.array([[b"well"], [b"fine"]], "S8")
    for name, root, width in (("Words", "words", 0), ("WordVectors", "glove", 4), ("COVAREP", "covarep", 5)):
        with h5py.File(folder / f"{name}.csd", "w") as file:
            for video in videos:
                file[f"{root}/data/{video}/features"] = _features(1, width, 2)[0] if width else words
                file[f"{root}/data/{video}/intervals"] = times
    with h5py.File(folder / "Labels.csd", "w") as file:
        for video in videos:
            file[f"All Labels/data/{video}/features"] = np.array([[1.0]])
            file[f"All Labels/data/{video}/intervals"] = np.array([[0.0, 2.0]])
        file["All Labels/metadata/dimension names"] = np.array([json.dumps(["sentiment"])], h5py.string_dtype())
    splits = {"train": videos[:2], "valid": videos[2:3], "test": videos[3:]}
    (folder / "splits.yaml").write_text(yaml.safe_dump(splits))
    return folder


def npz(folder: Path) -> Path:
    folder.mkdir(parents=True)
    arrays: dict[str, Any] = {
        "ids": np.array(IDS),
        "text": _features(8, 4),
        "audio": _features(8, 5),
        "vision": _features(8, 6),
        "text_lengths": np.array([1, 2, 3, 1, 2, 3, 1, 2]),
        "label": _DRAW.uniform(-3, 3, 8),
        "split": np.array(["train"] * 4 + ["valid"] * 2 + ["test"] * 2),
        "video_id": np.array([name.split("_")[0] for name in IDS]),
    }
    np.savez_compressed(folder / "mine.npz", **arrays)
    return folder / "mine.npz"


def own_folder(folder: Path) -> Path:
    import pandas as pd

    folder.mkdir(parents=True)
    splits = [split for split, n in SPLITS.items() for _ in range(n)]
    labels = pd.DataFrame({"id": IDS, "split": splits, "label": _DRAW.uniform(-3, 3, 8), "speaker": ["a", "b"] * 4})
    labels.to_csv(folder / "labels.csv", index=False)
    frames = pd.DataFrame(_features(1, 3, 16)[0], columns=["x", "y", "z"]).assign(id=IDS * 2)
    frames.to_csv(folder / "audio.csv", index=False)
    frames.to_parquet(folder / "vision.parquet", index=False)
    for name in IDS:
        _save(folder / "text" / f"{name}.npy", _features(1, 4, 2)[0])
    return folder


def conversations(folder: Path) -> Path:
    dialogues = [f"dialogue{number}" for number in range(6)]

    def each(make: Callable[[str, int], Any]) -> dict[str, list[Any]]:
        return {dialogue: [make(dialogue, turn) for turn in range(2)] for dialogue in dialogues}

    vectors = [each(lambda dialogue, turn, width=width: _features(1, width, 1)[0, 0]) for width in (4, 5, 6)]
    told = (each(lambda dialogue, turn: f"{dialogue}_{turn}"), each(lambda dialogue, turn: "M"))
    content = [*told, each(lambda dialogue, turn: 0.5 - turn), *vectors, each(lambda dialogue, turn: "yes")]
    return _write(folder / "AVEC_features.pkl", pickle.dumps([*content, dialogues[:4], set(dialogues[4:])], 2))


def tensors(folder: Path) -> Path:
    import torch

    folder.mkdir(parents=True)
    content = {
        split: {
            **{f"src-{name}": torch.from_numpy(_features(n, width)) for name, width in (("text", 4), ("visual", 6))},
            "labels": torch.from_numpy(_DRAW.uniform(-3, 3, n)),
            "ids": [f"{split}{i}" for i in range(n)],
        }
        for split, n in SPLITS.items()
    }
    torch.save(content, folder / "data.pt")
    return folder / "data.pt"


def split_h5(folder: Path) -> Path:
    import h5py

    folder.mkdir(parents=True)
    for split, n in SPLITS.items():
        arrays = {"audio_{}": _features(n, 4), "text_{}_emb": _features(n, 5), "y_{}": _DRAW.uniform(-3, 3, n)}
        for name, values in arrays.items():
            with h5py.File(folder / f"{name.format(split)}.h5", "w") as file:
                file.create_dataset("data", data=values, compression="gzip")
    return folder


def hugging_face(folder: Path) -> Path:
    """Two splits in Arrow and one in Parquet."""
    import pyarrow as pa
    from pyarrow import parquet

    for split, n in SPLITS.items():
        (folder / split).mkdir(parents=True)
        columns = {
            "id": [f"{split}{number}" for number in range(n)],
            "label": _DRAW.uniform(-3, 3, n),
            "audio": pa.array([*_features(n, 4, 1)[:, 0].tolist()], pa.list_(pa.float32())),
            "vision": pa.array(_features(n, 5, 2).tolist(), pa.list_(pa.list_(pa.float32()))),
        }
        if split == "test":
            parquet.write_table(pa.table(columns), folder / split / "0.parquet")
            continue
        with pa.ipc.new_stream(str(folder / split / "data.arrow"), pa.table(columns).schema) as sink:
            sink.write_table(pa.table(columns))
        info = {"features": {"label": {"dtype": "float64", "_type": "Value"}}}
        _write(folder / split / "dataset_info.json", json.dumps(info).encode())
    return folder


def public_mosi(folder: Path) -> Path:
    return write_files(folder, mosi_files())


def public_meld(folder: Path) -> Path:
    return write_files(folder, meld_files())


def corpus(folder: Path) -> Path:
    """A stored corpus."""
    main(["data", "import", str(npz(folder / "from")), "--as", "mosi", "-o", str(folder / "corpus")])
    return folder / "corpus"


def run(folder: Path) -> Path:
    """A folder with the corpus of a run, its config, and the run itself in `runs/1`."""
    corpus(folder)
    options = {
        "model": {"class_path": "supervised", "init_args": {"backbone": {"class_path": "early"}}},
        "data": {"corpus": str(folder / "corpus"), "batch_size": 2},
        "trainer": {"max_epochs": 1, "enable_progress_bar": False},
        "protocol": "fixed-7",
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(options))
    main(["fit", "--config", str(folder / "config.yaml"), "--run_dir", str(folder / "runs" / "1")])
    return folder


def unfinished(folder: Path) -> Path:
    """A run whose fit was ended after its last epoch, before anything was tested."""
    run(folder)
    for name in ("results.csv", "predictions.parquet", "phases.json"):
        (folder / "runs" / "1" / name).unlink()
    return folder


def sweep(folder: Path) -> Path:
    content = {
        "name": "widths",
        "method": "random",
        "run_cap": 3,
        "metric": {"name": "valid/score", "goal": "maximize"},
        "parameters": {
            "seed_everything": {"values": [1, 2]},
            "model.init_args.lr": {"distribution": "log_uniform_values", "min": 0.001, "max": 0.1},
            "model": {"parameters": {"width": {"distribution": "q_uniform", "min": 8, "max": 64, "q": 8}}},
            "data.batch_size": {"min": 8, "max": 16},
        },
        "early_terminate": {"type": "hyperband", "min_iter": 2},
        "command": ["${env}", "mer-lightning", "fit", "--config", "config.yaml", "--config", "${args_json_file}"],
    }
    return _write(folder / "sweep.yaml", yaml.safe_dump(content).encode())


def ablation(folder: Path) -> Path:
    _write(folder / "full.yaml", b"model: supervised\n")
    content = {"full": "full.yaml", "repeat": {"seed_everything": [1, 2]}, "without": {"part": {"model.width": 8}}}
    return _write(folder / "ablation.yaml", yaml.safe_dump(content).encode())


SAMPLES: dict[str, Callable[[Path], Path]] = {
    each.__name__: each
    for each in (
        *(mmsa, mult, mag, gcnet, merbench, mmin, csd, npz, own_folder, conversations, tensors, split_h5, hugging_face),
        *(public_mosi, public_meld, corpus, run, unfinished, sweep, ablation),
    )
}


def make(root: Path, names: list[str]) -> dict[str, Path]:
    """{name: what its maker wrote} below ``root``."""
    shutil.rmtree(root, ignore_errors=True)
    return {name: SAMPLES[name](root / name) for name in names}


def _write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def _save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)

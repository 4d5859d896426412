"""Small files of the shape of those that `mer-lightning data fetch` downloads."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np

EMOTIONS = ["neutral", "joy", "sadness", "anger", "surprise", "fear", "disgust"]
WORDS = ["well", "you're", "great", "no", "why", "oh"]


def mosi_files() -> dict[str, bytes]:
    """12 segments of 6 videos; the tables have them in another order than the transcripts."""
    rng = np.random.default_rng(0)
    names = [f"video{number // 2}_{number % 2 + 1}" for number in range(12)]
    label = {name: 2.0 - number % 5 for number, name in enumerate(names)}
    signs = [int(label[name] > 0) for name in names]
    rows = {"train": [7, 0, 1, 2, 3, 4, 5, 6], "test": [9, 8, 10, 11]}
    lines = [f'{name},"SO, {name}",{label[name]},{sign}' for name, sign in zip(names, signs, strict=True)]
    files = {"transcripts.csv": "\n".join(lines).encode()}
    for each, own in rows.items():
        files[f"text_{each}.csv"] = "\n".join(f"{row},words that are not read" for row in own).encode()
        for folder, width in (("text", 3), ("audio", 2), ("video", 4)):
            cells = [[row, *rng.normal(size=width - 1).round(3), signs[row]] for row in own]
            files[f"{folder}/{folder}_{each}0.csv"] = "\n".join(",".join(map(str, row)) for row in cells).encode()
    by_video = {f"video{k}": names[2 * k : 2 * k + 2] for k in range(6)}
    content = [
        by_video,
        {video: [np.float64(label[name]) for name in own] for video, own in by_video.items()},
        {video: ["", ""] for video in by_video},
        {video: np.array(own) for video, own in by_video.items()},
        *({"video0", "video4"}, {"video1"}, {"video2", "video3", "video5"}),
    ]
    return files | {"CMUMOSI_features_raw_2way.pkl": pickle.dumps(content, 2)}


def meld_files() -> dict[str, bytes]:
    rng = np.random.default_rng(1)
    files = {}
    header = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime"
    for split, samples in (("train", 28), ("dev", 7), ("test", 7)):
        keys = [(number // 4, number % 4) for number in range(samples)]
        lines = [header] + [
            f'{row},"{rng.choice(WORDS)}, {rng.choice(WORDS)}!",Ross,{EMOTIONS[row % 7]},x,{a},{b},1,1,"0:0,1","0:0,2"'
            for row, (a, b) in enumerate(keys)
        ]
        files[f"{split}_sent_emo.csv"] = "\ufeff".encode() + "\n".join(lines).encode()
        faces = {f"{a}_{b}": np.full(5, 10 * a + b, np.float32) for a, b in keys[1:]}
        files[f"{split}_vis_35_aus.pickle"] = pickle.dumps(faces)
    return files


def write_files(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder

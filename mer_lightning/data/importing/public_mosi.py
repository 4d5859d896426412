"""CMU-MOSI as `mer-lightning data fetch mosi` downloads it: one vector per segment, in tables without a header.

    transcripts.csv                         row k: id VIDEO_CLIP, sentence, two numbers
    text_train.csv, text_test.csv           the first column is the row k of each sample of the other tables
    text/text_train0.csv, audio/..., video/...   features, and the sign of the label
    CMUMOSI_features_raw_2way.pkl           the labels from -3 to 3, and the official split, of GCNet

The networks that made the features of text and vision were trained on the videos of `*_train`. So the partition that
splits by these files comes first. The official one has some of these videos in its test set: its scores are too high.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mer_lightning.data.catalogue import CatalogueEntry, lookup
from mer_lightning.data.importing.base import Reader
from mer_lightning.data.importing.gcnet import video_utterances
from mer_lightning.data.raw import PackedSequences, RawCorpus, Sequences
from mer_lightning.data.store import carve_valid, partition_from
from mer_lightning.errors import Refusal, reading

_TRANSCRIPTS, _LABELS = "transcripts.csv", "CMUMOSI_features_raw_2way.pkl"
_SETS = ("train", "test")
_FOLDERS = {"text": "text", "audio": "audio", "vision": "video"}
_SAME_SIGNS = 0.95  # of rows that belong together; by chance half of them are the same
_REMEDY = "fetch it again: mer-lightning data fetch mosi"
_NOTES = [
    "Partition declare trains on the videos on which the networks of text and vision were trained. Whole videos with "
    "about 15 % of its samples became the validation set, whose scores are therefore too high.",
    "Partition official has some of those videos in its test set: its scores are too high.",
]


class PublicMOSI(Reader):
    name = "public-mosi"
    describes = "CMU-MOSI as `data fetch mosi` downloads it: transcripts.csv, text/text_train0.csv, ..."

    def detects(self, path: Path) -> bool:
        return (path / _TRANSCRIPTS).is_file() and (path / "text" / "text_train0.csv").is_file()

    def read(self, path: Path, entry: CatalogueEntry | None, features: dict[str, str]) -> RawCorpus:
        sentences, signs = _transcripts(path / _TRANSCRIPTS)
        names = list(sentences)
        rows = {each: _table(path / f"text_{each}.csv", 0)[:, 0].astype(np.int64) for each in _SETS}
        for each, own in rows.items():
            if len(own) and not (own.min() >= 0 and own.max() < len(names)):
                expected = f"rows of {_TRANSCRIPTS}, 0 to {len(names) - 1}, in the first column"
                raise Refusal(path / f"text_{each}.csv", expected, f"{own.min()} to {own.max()}", _REMEDY)
        ids = [names[row] for own in rows.values() for row in own]
        known = {each.name: each for each in video_utterances(path / _LABELS)}
        if missing := [name for name in ids if name not in known]:
            raise Refusal(path / _LABELS, "a label for every segment", f"none for {missing[0]}", _REMEDY)
        utterances = [known[name] for name in ids]
        videos = [each.dialogue for each in utterances]
        split = [name for name, own in rows.items() for _ in own]
        read: dict[str, Sequences] = {}
        for modality, folder in _FOLDERS.items():
            parts = []
            for each, own in rows.items():
                file = path / folder / f"{folder}_{each}0.csv"
                table = _table(file)
                if len(table) != len(own):
                    raise Refusal(file, f"{len(own)} rows, as text_{each}.csv has", f"{len(table)}", _REMEDY)
                same = float((table[:, -1] == signs[own]).mean())
                if same < _SAME_SIGNS:
                    expected = f"the labels of the rows of {_TRANSCRIPTS} in the last column"
                    raise Refusal(file, expected, f"those of {same:.0%} of the rows", _REMEDY)
                parts.append(table[:, :-1])
            read[modality] = PackedSequences(np.concatenate(parts), np.ones(len(ids), np.int64))
        return RawCorpus(
            format=self.name,
            source=path,
            task=entry.task if entry else lookup("mosi").task,
            alignment="utterance",
            features=read,
            feature_set={modality: f"declare-lab {each.width}" for modality, each in read.items()},
            target=np.array([each.label for each in utterances]),
            ids=ids,
            partitions={
                "declare": carve_valid(partition_from(split), videos),
                "official": partition_from([each.split for each in utterances]),
            },
            groups=videos,
            columns={"sentence": [sentences[name] for name in ids]},
            notes=list(_NOTES),
        )


def _transcripts(path: Path) -> tuple[dict[str, str], NDArray[np.float32]]:
    """({id: sentence} in the order of the file, the last number of each row); a sentence may have commas."""
    with (
        reading(path, "rows of id, sentence and two numbers", _REMEDY),
        open(path, encoding="utf-8", newline="") as file,
    ):
        rows = [row for row in csv.reader(file) if row]
        return {row[0]: ",".join(row[1:-2]) for row in rows}, np.array([row[-1] for row in rows], np.float32)


def _table(path: Path, column: int | None = None) -> NDArray[np.float32]:
    """Numbers separated by commas, in rows of one length; one column, where only that has numbers."""
    with reading(path, "a table of numbers", _REMEDY):
        table = np.loadtxt(path, np.float32, delimiter=",", ndmin=2, comments=None, usecols=column, encoding="utf-8")
        if not table.size:
            raise Refusal(path, "a table of numbers", "nothing", _REMEDY)
        return table

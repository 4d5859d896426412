"""Folders of GCNet, MoMKE, MCULoRA and TMDC: a label pickle and utterance-level features.

    CMUMOSI_features_raw_2way.pkl, or IEMOCAP_features_raw_4way.pkl and ..._6way.pkl
    features/deberta-large-4-UTT/<utterance>.npy
    features/wav2vec-large-c-UTT/<utterance>.npy
    features/manet_UTT/<utterance>.npy, or for IEMOCAP <utterance>/compress_F.npy and compress_M.npy

A folder without one of the three feature sets is a corpus without that modality. An IEMOCAP utterance has features of
two faces. Only those of the person who speaks are read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mer_lightning.data.catalogue import CatalogueEntry, lookup
from mer_lightning.data.importing.base import Reader
from mer_lightning.data.importing.feature_files import FileSequences, ZeroFilled, feature_folders, files_of
from mer_lightning.data.importing.folds import FOLDS_NOTE, session_folds
from mer_lightning.data.importing.unpickle import load_pickle
from mer_lightning.data.raw import SPLITS, RawCorpus, Sequences
from mer_lightning.data.store import partition_from
from mer_lightning.errors import Refusal

FEATURES = {"text": "deberta-large-4-UTT", "audio": "wav2vec-large-c-UTT", "vision": "manet_UTT"}
_PICKLES = "*_features_raw_*way.pkl"
_CORPORA = {  # the pickle of each corpus in the catalogue
    "CMUMOSI_features_raw_2way.pkl": "mosi",
    "CMUMOSEI_features_raw_2way.pkl": "mosei",
    "IEMOCAP_features_raw_4way.pkl": "iemocap4",
    "IEMOCAP_features_raw_6way.pkl": "iemocap6",
}
_LABELS = "a list of videoIDs, videoLabels, videoSpeakers, videoSentences and two or three sets of videos"


@dataclass
class Utterance:
    name: str
    dialogue: str
    position: int
    label: float
    speaker: str
    sentence: str
    split: str  # "" where the file names no validation set, and the folds are by session


class GCNet(Reader):
    name = "gcnet"
    describes = "GCNet / MoMKE folder: *_features_raw_*way.pkl and features/<name>/<utterance>.npy"

    def detects(self, path: Path) -> bool:
        # A folder of MERBench may hold the same pickles, but also the label*.npz that MERBench makes of them.
        has_features = (path / "features").is_dir() and not any(path.glob("label*.npz"))
        return has_features and any(path.glob(_PICKLES))

    def read(self, path: Path, entry: CatalogueEntry | None, features: dict[str, str]) -> RawCorpus:
        pickle = _choose_pickle(path, entry)
        entry = entry or lookup(_CORPORA[pickle.name])
        utterances = _utterances(pickle, float if entry.task.kind == "regression" else int)
        chosen = _there(path / "features") | features
        notes = [f"No {name} is in features/: no {m}." for m, name in FEATURES.items() if m not in chosen]
        read: dict[str, Sequences] = {}
        folders = feature_folders(path / "features", chosen)
        for modality, folder in folders.items():
            sequences: Sequences = _read_features(folder, utterances)
            if empty := int((sequences.lengths == 0).sum()):
                notes.append(f"{empty} utterances without {modality} features are zero vectors, as in GCNet.")
                sequences = ZeroFilled(sequences)
            read[modality] = sequences
        dialogues = [utterance.dialogue for utterance in utterances]
        if any(utterance.split for utterance in utterances):
            partitions = {"official": partition_from([utterance.split for utterance in utterances])}
        else:
            partitions = session_folds(dialogues, pickle)
            notes.append(FOLDS_NOTE)
        return RawCorpus(
            format=self.name,
            source=path,
            task=entry.task,
            alignment="utterance",
            features=read,
            feature_set={modality: f"{folders[modality].name} {read[modality].width}" for modality in read},
            target=np.array([utterance.label for utterance in utterances]),
            ids=[utterance.name for utterance in utterances],
            partitions=partitions,
            groups=dialogues,
            columns={
                "sentence": [utterance.sentence for utterance in utterances],
                "speaker": [utterance.speaker for utterance in utterances],
                "position": [str(utterance.position) for utterance in utterances],
            },
            notes=notes,
        )


def _there(root: Path) -> dict[str, str]:
    """The usual feature sets of which there is a folder; all of them if there is none, to be refused by name."""
    return {modality: name for modality, name in FEATURES.items() if (root / name).is_dir()} or FEATURES


def _choose_pickle(path: Path, entry: CatalogueEntry | None) -> Path:
    known = {file.name: file for file in sorted(path.glob(_PICKLES)) if file.name in _CORPORA}
    fitting = [file for name, file in known.items() if entry is None or _CORPORA[name] == entry.name]
    if len(fitting) == 1:
        return fitting[0]
    names = ", ".join(known) or ", ".join(file.name for file in path.glob(_PICKLES)) or "none"
    wanted = f"the label pickle of {entry.name}" if entry else "one label pickle"
    remedy = "import it as " + (" or as ".join(_CORPORA[name] for name in known) or "another format")
    raise Refusal(path, wanted, names, remedy)


def _utterances(pickle: Path, number: Callable[[Any], float]) -> list[Utterance]:
    """All utterances in GCNet's order: dialogues sorted by name within each split, utterances by time."""
    content = load_pickle(pickle)
    remedy = "check that this is GCNet's label file"
    if not isinstance(content, (list, tuple)) or len(content) not in (6, 7):
        size = f" of {len(content)}" if isinstance(content, (list, tuple, dict)) else ""
        raise Refusal(pickle, _LABELS, f"a {type(content).__name__}{size}", remedy)
    ids, labels, speakers, sentences, *sets = content
    utterances = []
    video = ""
    try:
        # Sets have no fixed order. Sorting makes an import the same on every machine.
        if len(sets) == 3:
            by_split = dict(zip(SPLITS, sets, strict=True))
            order = [(video, split) for split, videos in by_split.items() for video in sorted(videos)]
        else:
            order = [(video, "") for video in sorted({*sets[0], *sets[1]})]
        for video, split in order:
            rows = zip(ids[video], labels[video], speakers[video], sentences[video], strict=True)
            for position, (name, label, speaker, sentence) in enumerate(rows):
                row = (str(name), video, position, number(label), str(speaker), str(sentence), split)
                utterances.append(Utterance(*row))
    except (KeyError, IndexError, TypeError, ValueError) as error:
        found = f"{type(error).__name__} {error} at '{video}'"
        raise Refusal(pickle, _LABELS, found, remedy) from error
    return utterances


def video_utterances(pickle: Path) -> list[Utterance]:
    """All utterances of a label pickle whose labels are sentiment."""
    return _utterances(pickle, float)


def _read_features(folder: Path, utterances: list[Utterance]) -> FileSequences:
    files = []
    for utterance in utterances:
        paths = files_of(folder, utterance.name)
        if paths is None:
            expected = f"{utterance.name}.npy or a folder of that name"
            raise Refusal(folder, expected, "neither", "extract the features of every utterance, or copy them all")
        if (folder / utterance.name).is_dir() and utterance.speaker in ("F", "M"):
            # As in GCNet: a file with an F in its name shows the woman, and all others show the man.
            paths = [path for path in paths if ("F" in path.name) == (utterance.speaker == "F")]
        files.append(paths)
    return FileSequences(folder, files, pooled=True)

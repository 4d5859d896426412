"""MELD as `mer-lightning data fetch meld` downloads it: sentences, and action units of the face.

    train_sent_emo.csv, dev_..., test_...        Utterance, Speaker, Emotion, Dialogue_ID, Utterance_ID, StartTime, ...
    train_vis_35_aus.pickle, dev_..., test_...   {'DIALOGUE_UTTERANCE': (35,) means of OpenFace's action units}

Sentences become vectors without any network: counts of words and of pairs of words, weighted by how rare they are
(TF-IDF), in the directions in which they differ most (SVD). Both are fitted on the training split. The sentences are
kept, for a text encoder.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mer_lightning.data.catalogue import CatalogueEntry, lookup
from mer_lightning.data.importing.base import Reader
from mer_lightning.data.importing.csv_file import csv_columns
from mer_lightning.data.importing.unpickle import load_pickle
from mer_lightning.data.raw import PackedSequences, RawCorpus
from mer_lightning.data.store import partition_from
from mer_lightning.errors import Refusal

_SETS = {"train": "train", "dev": "valid", "test": "test"}
_COLUMNS = {"speaker": "Speaker", "sentence": "Utterance", "start": "StartTime", "end": "EndTime"}
_NEEDED = ("Emotion", "Dialogue_ID", "Utterance_ID", *_COLUMNS.values())
_REMEDY = "fetch it again: mer-lightning data fetch meld"
_WIDTH, _OFTEN = 256, 3  # of the vectors of text; sentences that a word is in at least
_WORDS = r"(?u)\b\w[\w']*\b|[!?.]"  # marks that carry emotion count as words


class PublicMELD(Reader):
    name = "public-meld"
    describes = "MELD as `data fetch meld` downloads it: train_sent_emo.csv, train_vis_35_aus.pickle, ..."

    def detects(self, path: Path) -> bool:
        return (path / "train_sent_emo.csv").is_file() and (path / "train_vis_35_aus.pickle").is_file()

    def read(self, path: Path, entry: CatalogueEntry | None, features: dict[str, str]) -> RawCorpus:
        task = entry.task if entry else lookup("meld").task
        classes: tuple[str, ...] = getattr(task, "classes", ())
        columns: dict[str, list[str]] = {
            name: [] for name in ("ids", "dialogue", "turn", "split", "emotion", *_COLUMNS)
        }
        faces: list[NDArray[np.float32] | None] = []
        for given, split in _SETS.items():
            table = _table(path / f"{given}_sent_emo.csv")
            vectors = _faces(path / f"{given}_vis_35_aus.pickle")
            pairs = list(zip(table["Dialogue_ID"], table["Utterance_ID"], strict=True))
            # The numbers of dialogues begin anew in each split.
            columns["dialogue"] += [f"{given}_dia{dialogue}" for dialogue, _ in pairs]
            columns["turn"] += [turn for _, turn in pairs]
            columns["ids"] += [f"{given}_dia{dialogue}_{turn}" for dialogue, turn in pairs]
            columns["split"] += [split] * len(pairs)
            columns["emotion"] += table["Emotion"]
            for name, theirs in _COLUMNS.items():
                columns[name] += table[theirs]
            faces += [vectors.get(f"{dialogue}_{turn}") for dialogue, turn in pairs]
        if unknown := sorted(set(columns["emotion"]) - set(classes)):
            raise Refusal(path, f"the emotions {', '.join(classes)}", f"'{unknown[0]}'", "import it --as meld")
        training = np.array([split == "train" for split in columns["split"]])
        text = _vectors(path, columns["sentence"], training)
        there = np.array([face is not None for face in faces])
        if not there.any():
            raise Refusal(path, "vectors of the utterances in the tables", "none", _REMEDY)
        vision = np.stack([face for face in faces if face is not None])
        return RawCorpus(
            format=self.name,
            source=path,
            task=task,
            alignment="utterance",
            features={
                "text": PackedSequences(text, np.ones(len(text), np.int64)),
                "vision": PackedSequences(vision, there.astype(np.int64)),
            },
            feature_set={"text": f"tf-idf {text.shape[1]}", "vision": f"openface-aus {vision.shape[1]}"},
            target=np.array([classes.index(emotion) for emotion in columns["emotion"]]),
            ids=columns["ids"],
            partitions={"official": partition_from(columns["split"])},
            groups=columns["dialogue"],
            columns={name: columns[name] for name in ("dialogue", "turn", *_COLUMNS)},
            notes=[
                "Text is TF-IDF of words and pairs, reduced by an SVD; both are fitted on the training split.",
                f"{int((~there).sum())} of {len(there)} utterances have no vision.",
            ],
        )


def _table(path: Path) -> dict[str, list[str]]:
    table = csv_columns(path)
    if missing := [name for name in _NEEDED if name not in table]:
        raise Refusal(path, f"a column '{missing[0]}'", f"only {', '.join(table)}", _REMEDY)
    return table


def _faces(path: Path) -> dict[str, NDArray[np.float32]]:
    content = load_pickle(path)
    vectors = list(content.values()) if isinstance(content, dict) else []
    shapes = {each.shape if isinstance(each, np.ndarray) and each.dtype.kind == "f" else None for each in vectors}
    if len(shapes) != 1 or None in shapes or len(*shapes) != 1:  # type: ignore[arg-type]
        raise Refusal(path, "{'DIALOGUE_UTTERANCE': one vector}", "something else", _REMEDY)
    return {str(name): each for name, each in content.items()}


def _vectors(path: Path, sentences: list[str], training: NDArray[np.bool_]) -> NDArray[np.float32]:
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    counts = TfidfVectorizer(ngram_range=(1, 2), min_df=_OFTEN, sublinear_tf=True, token_pattern=_WORDS)
    own = [sentence for sentence, trains in zip(sentences, training, strict=True) if trains]
    try:
        known = counts.fit_transform(own)
    except ValueError as error:
        raise Refusal(path, f"words that {_OFTEN} training sentences have", str(error), _REMEDY) from error
    width = min(_WIDTH, *known.shape)
    svd = TruncatedSVD(width, random_state=0).fit(known)
    return np.asarray(svd.transform(counts.transform(sentences)), np.float32)

"""The folders of corpora, and the message for one that is missing."""

from __future__ import annotations

import os
from pathlib import Path

from mer_lightning.errors import Refusal


def data_root() -> Path:
    """$MER_DATA, or ./data."""
    return Path(os.environ.get("MER_DATA") or "data")


def synthetic_cache() -> Path:
    """In $MER_DATA if it is set, else in the user's cache folder."""
    if os.environ.get("MER_DATA"):
        return data_root() / "synthetic"
    return user_cache() / "synthetic"


def user_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mer_lightning"


def corpus_folder(corpus: str, alignment: str | None) -> Path:
    """``corpus`` itself if it is a folder with a card, else the folder of that name under the data root."""
    if (Path(corpus) / "card.yaml").is_file():
        return Path(corpus)
    return data_root() / (f"{corpus}-{alignment}" if alignment else corpus)


def find_corpus(corpus: str, alignment: str | None) -> Path:
    from mer_lightning.data.catalogue import lookup

    folder = corpus_folder(corpus, alignment)
    if (folder / "card.yaml").is_file():
        return folder
    entry = lookup(corpus)
    raise Refusal(
        folder,
        f"the corpus {corpus}",
        "no such folder",
        f"{entry.obtain} Then: mer-lightning data import FILE --as {corpus}. "
        "Or add --data.synthetic true to run the same on its synthetic twin",
    )

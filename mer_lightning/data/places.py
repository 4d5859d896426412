"""The folders of corpora, and the message for one that is missing."""

from __future__ import annotations

import os
from pathlib import Path

from mer_lightning.errors import Refusal

DATA_VARIABLE = "MER_DATA"
ALIGNMENTS = ("aligned", "unaligned", "utterance")


def data_root() -> Path:
    """$MER_DATA, or ./data."""
    return Path(os.environ.get(DATA_VARIABLE) or "data")


def cache_folder(name: str) -> Path:
    """In $MER_DATA if it is set, else in the user's cache folder."""
    if os.environ.get(DATA_VARIABLE):
        return data_root() / name
    return user_cache() / name


def user_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mer_lightning"


def synthetic_cache() -> Path:
    return cache_folder("synthetic")


def corpus_folder(corpus: str, alignment: str) -> Path:
    """Where an import of that name goes."""
    return data_root() / f"{corpus}-{alignment}"


def imports_of(corpus: str) -> dict[str, Path]:
    """{alignment: folder} of what was imported under a name, under the data root."""
    folders = {alignment: corpus_folder(corpus, alignment) for alignment in ALIGNMENTS}
    return {alignment: folder for alignment, folder in folders.items() if (folder / "card.yaml").is_file()}


def find_corpus(corpus: str, alignment: str | None) -> Path:
    """The folder itself if ``corpus`` is one, else the import of that name.

    Without an ``alignment``: the aligned import, or the only one.
    """
    if (Path(corpus) / "card.yaml").is_file():
        return Path(corpus)
    imports = imports_of(corpus)
    if alignment is None and (len(imports) == 1 or "aligned" in imports):
        return imports.get("aligned") or next(iter(imports.values()))
    if alignment in imports:
        return imports[alignment]
    where = corpus_folder(corpus, alignment or "aligned")
    if imports:
        raise Refusal(where, "one import", ", ".join(imports), f"choose --data.alignment {next(iter(imports))}")
    from mer_lightning.data.catalogue import TWINS, known_corpus, nearest

    entry = known_corpus(corpus)
    if entry is None:
        remedy = nearest(corpus) or f"import it: mer-lightning data import FILE --as {corpus}"
    else:
        remedy = f"{entry.obtain} Then: mer-lightning data import FILE --as {corpus}. "
    if corpus in TWINS:
        remedy += "Or add --data.synthetic true to run the same on its synthetic twin"
    raise Refusal(where, f"the corpus {corpus}", "no such folder", remedy.strip())


def refuse_absent(corpus: str, alignment: str | None, synthetic: bool, process: str) -> None:
    """Refuse what cannot be opened because it is not there, as far as that is known without torch."""
    if synthetic:
        from mer_lightning.data.catalogue import refuse_no_twin

        refuse_no_twin(corpus)
    elif process != "default":
        remedy = "add --data.synthetic true, or leave out --data.process"
        raise Refusal("--data.process", "a synthetic twin", f"'{process}' beside the corpus itself", remedy)
    elif Path(corpus).suffix != ".npz":
        find_corpus(corpus, alignment)
    elif not Path(corpus).is_file():
        raise Refusal(corpus, "an .npz file", "none", "check the path")

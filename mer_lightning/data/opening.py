"""From the words of a configuration to an opened corpus."""

from __future__ import annotations

import hashlib
from pathlib import Path

from mer_lightning.data.corpus import Corpus, open_corpus
from mer_lightning.data.places import cache_folder, find_corpus, refuse_absent, synthetic_cache


def open_named(
    corpus: str,
    alignment: str | None,
    synthetic: bool = False,
    samples: int | None = None,
    process: str = "default",
) -> Corpus:
    """What `--data.corpus` and the options beside it name: a corpus folder, an .npz file, or a synthetic twin."""
    refuse_absent(corpus, alignment, synthetic, process)
    if synthetic:
        from mer_lightning.data.synthetic.twins import synthetic_corpus

        folder = synthetic_corpus(corpus, alignment or "aligned", synthetic_cache(), samples=samples, process=process)
        return open_corpus(folder)
    if Path(corpus).suffix == ".npz":
        return open_file(Path(corpus))
    return open_corpus(find_corpus(corpus, alignment))


def open_file(path: Path) -> Corpus:
    """An .npz file with labels and splits is imported into a cache, by its content; one without is for prediction."""
    from mer_lightning.data.importing.npz import NPZ, array_names, open_npz
    from mer_lightning.data.store import IMPORTER_VERSION, write_corpus

    names = array_names(path)
    if "label" not in names or not any(name.startswith("split") for name in names):
        return open_npz(path)
    with open(path, "rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()
    folder = cache_folder("imported") / f"{path.stem}-{content[:16]}-{IMPORTER_VERSION}"
    if not (folder / "card.yaml").is_file():
        # By the name of the file, so that no file passes for a corpus of the field.
        write_corpus(NPZ().read(path, None, {}), folder, path.name)
    return open_corpus(folder)

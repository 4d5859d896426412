"""From the words of a configuration to an opened corpus."""

from __future__ import annotations

from pathlib import Path

from mer_lightning.data.corpus import Corpus, open_corpus
from mer_lightning.data.places import find_corpus, synthetic_cache
from mer_lightning.errors import Refusal


def open_named(
    corpus: str,
    alignment: str,
    synthetic: bool = False,
    samples: int | None = None,
    process: str = "default",
) -> Corpus:
    """What `--data.corpus` and the options beside it name: a corpus folder, an .npz file, or a synthetic twin."""
    if synthetic:
        from mer_lightning.data.synthetic.twins import synthetic_corpus

        return open_corpus(synthetic_corpus(corpus, alignment, synthetic_cache(), samples=samples, process=process))
    if process != "default":
        remedy = "add --data.synthetic true, or leave out --data.process"
        raise Refusal("--data.process", "a synthetic twin", f"'{process}' beside the corpus itself", remedy)
    if Path(corpus).suffix == ".npz":
        from mer_lightning.data.importing.npz import open_npz

        return open_npz(Path(corpus))
    return open_corpus(find_corpus(corpus, alignment))

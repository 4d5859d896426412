"""A corpus in its native form: a folder with a card, memory-mapped tensors and a table of samples.

card.yaml            name, source, task, counts, and the SHA-256 of the tensors
tensors.safetensors  {modality}.values (sum of lengths, D) packed without padding, {modality}.offsets (N + 1,),
                     target, partition.{name} (N,), extra.{name}
samples.parquet      id, group and other columns, one row per sample
"""

from __future__ import annotations

import functools
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml
from safetensors import safe_open
from torch import Tensor

from mer_lightning.batch import Batch
from mer_lightning.data.raw import SENTENCE, SPLITS, Alignment
from mer_lightning.data.tables import read_table
from mer_lightning.data.verification import check_tensors
from mer_lightning.errors import Refusal, reading
from mer_lightning.masks.training import left_by
from mer_lightning.modalities import MODALITIES
from mer_lightning.plain_values import fits, made_of
from mer_lightning.tasks import Task, task_from_card
from mer_lightning.yaml_text import read_yaml

if TYPE_CHECKING:
    import pandas as pd

CARD, TENSORS, SAMPLES = "card.yaml", "tensors.safetensors", "samples.parquet"


@dataclass(frozen=True)
class TwinFacts:
    """What is known of a synthetic corpus before any model: scores on the test rows of its first partition."""

    process: str
    bayes: dict[str, dict[str, float]]
    ceiling: dict[str, float]
    linear: dict[str, float]


@dataclass
class CorpusCard:
    """The description of a corpus, in plain values."""

    name: str
    alignment: Alignment
    task: dict[str, Any]
    feature_set: dict[str, str]
    dims: dict[str, int]
    samples: int
    partitions: dict[str, dict[str, int]]  # {partition: {split: count}}
    sha256: str  # of tensors.safetensors
    source: dict[str, Any]
    fingerprint: str = ""  # of the ends of the tensors; older cards have none
    cleaned: dict[str, dict[str, int]] = field(default_factory=dict)  # {modality: non-finite values by kind}
    nonfinite: str = "zero"  # what became of them; older imports set them to 0
    notes: list[str] = field(default_factory=list)
    synthetic: bool = False
    process: str = ""  # that made a synthetic corpus
    bayes: dict[str, dict[str, float]] = field(default_factory=dict)  # {combination: {metric: best possible}}
    ceiling: dict[str, float] = field(default_factory=dict)  # {metric: best possible with what contradicts masked}
    linear: dict[str, float] = field(default_factory=dict)  # {metric: of a linear model of mean features}

    @property
    def label(self) -> str:
        """How tables call it; synthetic data says so wherever it appears, and which process made it."""
        process = f"-{self.process}" if self.process not in ("", "default") else ""
        return f"{self.name}-{self.alignment}{process}" + (" (synthetic)" if self.synthetic else "")

    @property
    def feature_set_label(self) -> str:
        return " + ".join(self.feature_set[m] for m in MODALITIES if m in self.feature_set)

    def dump(self) -> str:
        return yaml.safe_dump(asdict(self), sort_keys=False, allow_unicode=True, width=110)


class Corpus:
    """An opened corpus. Tensors are views of the mapped file until they are indexed."""

    def __init__(self, card: CorpusCard, tensors: dict[str, Tensor], folder: Path | None) -> None:
        self.card, self.tensors, self.folder = card, tensors, folder
        self.task: Task = task_from_card(card.task)
        self.target = tensors.get("target")
        self.test_sealed = False  # True while a fit runs: the test split cannot be read

    @property
    def dims(self) -> dict[str, int]:
        return {m: self.card.dims[m] for m in MODALITIES if m in self.card.dims}

    @functools.cached_property
    def samples(self) -> pd.DataFrame:
        import pandas as pd

        if self.folder is None:
            return pd.DataFrame({"id": [str(i) for i in range(self.card.samples)]})
        path = self.folder / SAMPLES
        samples = read_table(path, "the table of the samples", texts=("id", "group"))
        if len(samples) != self.card.samples:
            found = f"{len(samples)} rows"
            raise Refusal(path, f"{self.card.samples} samples, as in {CARD}", found, "import the corpus again")
        return samples

    def rows(self, partition: str, split: str) -> Tensor:
        """The sample numbers of one split, ascending."""
        if split == "test" and self.test_sealed:
            raise RuntimeError("the test split cannot be reached during fit")
        if not self.card.partitions:
            remedy = "give it an array label and an array split, see mer-lightning docs npz-format"
            raise Refusal(self.card.name, "labels and splits, to train or test on", "a file for prediction", remedy)
        if partition not in self.card.partitions:
            known = list(self.card.partitions)
            expected, remedy = f"one of the partitions {', '.join(known)}", f"set --data.partition {known[0]}"
            raise Refusal(self.folder or self.card.name, expected, f"'{partition}'", remedy)
        return torch.nonzero(self.tensors[f"partition.{partition}"] == SPLITS.index(split)).squeeze(1)

    def split(self, partition: str, split: str) -> Split:
        rows = self.rows(partition, split)
        if len(rows) == 0:
            raise Refusal(
                self.folder or self.card.name,
                f"samples in split '{split}' of partition '{partition}'",
                "none",
                "import the corpus again with that split, or choose another partition",
            )
        return Split(self, rows)

    def everything(self) -> Split:
        """All samples, whatever their split."""
        return Split(self, torch.arange(self.card.samples))


class Split:
    """Some samples of a corpus, numbered 0 to n - 1, which can be gathered into batches."""

    def __init__(self, corpus: Corpus, rows: Tensor) -> None:
        self.corpus, self.rows = corpus, rows
        self.modalities = tuple(corpus.dims)
        self.values = {m: corpus.tensors[f"{m}.values"] for m in self.modalities}
        offsets = {m: corpus.tensors[f"{m}.offsets"] for m in self.modalities}
        self.starts = {m: offsets[m][rows] for m in self.modalities}
        self.lengths = {m: offsets[m][rows + 1] - self.starts[m] for m in self.modalities}
        self.present = torch.stack(
            [
                self.lengths[m] > 0 if m in self.lengths else torch.zeros(len(rows), dtype=torch.bool)
                for m in MODALITIES
            ],
            dim=1,
        )
        self.target = None if corpus.target is None else corpus.target[rows]
        self._host_lengths = self.lengths

    def __len__(self) -> int:
        return len(self.rows)

    @functools.cached_property
    def there(self) -> tuple[str, ...]:
        """The modalities that some sample of the split has."""
        return tuple(m for m in self.modalities if bool((self._host_lengths[m] > 0).any()))

    @functools.cached_property
    def ids(self) -> list[str]:
        """Of each sample, in the order of :attr:`rows`."""
        return self.corpus.samples["id"].iloc[self.rows.cpu().numpy()].tolist()

    def described_samples(self) -> pd.DataFrame:
        """id, the sentence where the corpus has it, and the columns whose values are those of several samples."""
        samples = self.corpus.samples.iloc[self.rows.cpu().numpy()]
        others = [name for name in samples.columns if name != "id"]
        names = [name for name in others if name == SENTENCE or 2 * samples[name].nunique() <= len(samples)]
        return samples[["id", *names]]

    def on(self, device: torch.device) -> Split:
        """A copy of its own samples on ``device``, where batches are then gathered."""
        resident = object.__new__(Split)
        resident.corpus, resident.rows, resident.modalities = self.corpus, self.rows, self.modalities
        resident.values, resident.starts = {}, {}
        for m in self.modalities:
            resident.values[m] = self.frames(m, torch.arange(len(self))).to(device)
            resident.starts[m] = (self.lengths[m].cumsum(0) - self.lengths[m]).to(device)
        resident._host_lengths = self.lengths
        resident.lengths = {m: length.to(device) for m, length in self.lengths.items()}
        resident.present = self.present.to(device)
        resident.target = None if self.target is None else self.target.to(device)
        return resident

    def frames(self, modality: str, index: Tensor) -> Tensor:
        """(n, D): all steps of some samples, one sample after the other."""
        starts, lengths = self.starts[modality][index], self.lengths[modality][index]
        sample = torch.repeat_interleave(lengths)
        within = torch.arange(len(sample), device=sample.device) - (lengths.cumsum(0) - lengths)[sample]
        return self.values[modality][starts[sample] + within]

    def batch(self, index: Tensor, present: Tensor | None = None) -> Batch:
        """One indexed gather per modality, trimmed to the longest sequence among ``index``."""
        device = self.present.device
        on_host, index = index.cpu(), index.to(device)
        features, lengths = {}, {}
        for m in self.modalities:
            lengths[m] = self.lengths[m][index]
            values = self.values[m]
            # Computed on the host, because the host would have to wait for a maximum from the accelerator.
            shortest, longest = (int(bound) for bound in self._host_lengths[m][on_host].aminmax())
            if shortest == longest == 1:
                features[m] = values[self.starts[m][index]].unsqueeze(1)
                continue
            steps = torch.arange(max(longest, 1), device=device)
            padding = steps >= lengths[m].unsqueeze(1)
            positions = (self.starts[m][index].unsqueeze(1) + steps).masked_fill_(padding, 0)
            if len(values):
                features[m] = values.index_select(0, positions.flatten()).view(*positions.shape, -1)
                # Values are finite, so a product with 0 clears the padding. masked_fill takes six times as long.
                if shortest < len(steps):
                    features[m].mul_(~padding.unsqueeze(2))
            else:
                features[m] = values.new_zeros(*padding.shape, values.shape[1])
        available = self.present[index]
        return Batch(
            features=features,
            lengths=lengths,
            present=available if present is None else left_by(present.to(device), available),
            target=None if self.target is None else self.target[index],
            index=index,
            available=available,
        )


def read_card(folder: Path) -> CorpusCard:
    return card_in(folder / CARD, "import the corpus again: mer-lightning data import FILE --as NAME")


def card_in(path: Path, remedy: str = "copy the folder again") -> CorpusCard:
    """The card of a corpus, in its own folder or in that of a run."""
    card = made_of(CorpusCard, read_yaml(path, "the card of an imported corpus", remedy), path, remedy)
    with reading(path, "the card of an imported corpus", remedy):
        task = task_from_card(card.task)
    classes = getattr(task, "classes", ("a",))
    if not all(isinstance(name, str) for name in classes) or len(set(classes)) < len(classes) or not classes:
        raise Refusal(path, "classes with different names", str(card.task), remedy)
    if not fits(getattr(task, "limit", 1.0), float) or getattr(task, "limit", 1.0) <= 0:
        raise Refusal(path, "a limit above 0", str(card.task), remedy)
    if not card.dims or not card.dims.keys() <= set(MODALITIES) or min(card.dims.values()) < 1 or card.samples < 1:
        raise Refusal(path, f"samples, and widths of {', '.join(MODALITIES)}", str(card.dims), remedy)
    return card


def open_corpus(folder: str | Path) -> Corpus:
    """Map a corpus folder. Of the features only the ends are read, to see that they are what the card describes."""
    folder = Path(folder)
    card = read_card(folder)
    path = folder / TENSORS
    with reading(path, f"the tensors that {CARD} describes", "import the corpus again"):
        tensors = map_tensors(path)
    check_tensors(card, tensors, path)
    return Corpus(card, tensors, folder)


def map_tensors(path: Path) -> dict[str, Tensor]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)

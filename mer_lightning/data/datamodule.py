"""The DataModule: one class for every corpus, aligned or not."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mer_lightning.batch import Batch
from mer_lightning.data.corpus import Split
from mer_lightning.data.opening import open_named
from mer_lightning.data.plans import EvaluationPlan, Groups, Request, TrainingPlan
from mer_lightning.errors import Refusal
from mer_lightning.made_with import MadeWith
from mer_lightning.masks.training import Complete, TrainingMasks

# Enough frames for a mean and a deviation, few enough to take no time on a corpus of gigabytes.
_FRAMES_FOR_STATISTICS = 20_000


class MERData(MadeWith, LightningDataModule):
    """Batches of one corpus.

    Args:
        corpus: a name (`mer-lightning data list`), a corpus folder, or an .npz file.
        alignment: which import of a named corpus; default: the aligned one, or the only one. A folder knows its own.
        partition: the assignment of samples to train, valid and test, e.g. `official` or `fold-1`; default: the first.
        batch_size: samples per training step (and process).
        eval_batch_size: samples per evaluation step.
        masks: the masks of training samples, drawn anew for each epoch.
        bucket: form training batches of samples of similar length.
        balanced: form training batches that contain several samples of the same category and combination. Losses over
            pairs need such samples, and small random batches have few.
        resident: keep the splits in the memory of the accelerator.
        workers: processes that gather batches; 0 is fastest unless features come from a slow disk.
        synthetic: use the synthetic twin of the named corpus.
        samples: size of the synthetic twin; default: that of the corpus, where it is small.
        process: that makes the synthetic twin: `default`, `contradiction`, `redundant`, `complementary`, or one of
            them with constants of one's own, e.g. `contradiction,cue=2`.
        seed: of orders and masks; default: the seed of the run.
    """

    def __init__(
        self,
        corpus: str = "mosi",
        alignment: Literal["aligned", "unaligned", "utterance"] | None = None,
        partition: str | None = None,
        batch_size: int = 32,
        eval_batch_size: int = 256,
        masks: TrainingMasks | None = None,
        bucket: bool = False,
        balanced: bool = False,
        resident: bool = False,
        workers: int = 0,
        synthetic: bool = False,
        samples: int | None = None,
        process: str = "default",
        seed: int = 0,
    ) -> None:
        super().__init__()
        if batch_size < 2:
            raise Refusal("--data.batch_size", "2 or more", str(batch_size), "losses over pairs need two samples")
        self.batch_size, self.eval_batch_size, self.bucket = batch_size, eval_batch_size, bucket
        if bucket and balanced:
            remedy = "choose one: both decide which samples form a batch"
            raise Refusal("--data.balanced", "false together with --data.bucket", "true", remedy)
        self.balanced = balanced
        self.resident, self.workers, self.seed = resident, workers, seed
        self.masks = masks or Complete()
        self.corpus = open_named(corpus, alignment, synthetic, samples, process)
        self.masks.present(1, 0, seed, tuple(self.dims))  # masks that the corpus cannot have are refused now
        self.partition = partition or next(iter(self.corpus.card.partitions), "all")
        self._splits: dict[str, Split] = {}

    @property
    def dims(self) -> dict[str, int]:
        return self.corpus.dims

    @property
    def task_card(self) -> dict[str, Any]:
        return self.corpus.card.task

    def setup(self, stage: str) -> None:
        # During fit no code can read the test split (rule 1 of honest numbers).
        self.corpus.test_sealed = stage == "fit"
        names = {"fit": ("train", "valid"), "validate": ("train", "valid"), "test": ("train", "test")}.get(stage, ())
        for name in names:
            self._splits.setdefault(name, self.corpus.split(self.partition, name))
        if stage == "fit" and len(self._splits["train"]) < 2:
            remedy = "choose another --data.partition, or a corpus with more samples"
            raise Refusal(f"{self.corpus.card.label}, {self.partition}", "2 training samples or more", "1", remedy)
        if stage == "predict":
            self._splits["predict"] = self.corpus.everything()

    def teardown(self, stage: str) -> None:
        self.corpus.test_sealed = False

    def split(self, name: str) -> Split:
        """A split in the memory of the host. The test split cannot be read during fit."""
        if name == "test" and self.corpus.test_sealed:
            raise RuntimeError("the test split cannot be reached during fit")
        return self._splits[name]

    def feature_statistics(self) -> dict[str, tuple[Tensor, Tensor]]:
        """{modality: (mean (D,), deviation (D,))} over frames of the training split, evenly spaced ones if many."""
        statistics = {}
        for m in self.split("train").modalities:
            frames = self.training_frames(m, _FRAMES_FOR_STATISTICS).double()
            if len(frames):
                statistics[m] = (frames.mean(0).float(), frames.std(0, unbiased=False).float())
        return statistics

    def training_frames(self, modality: str, about: float = math.inf) -> Tensor:
        """(n, D) frames of the training split, those of evenly spaced samples if there are more than ``about``."""
        train = self.split("train")
        lengths = train.lengths[modality]
        with_data = lengths.nonzero().squeeze(1)
        every = max(int(len(with_data) * float(lengths.double().mean()) // about), 1)
        return train.frames(modality, with_data[::every])

    def train_dataloader(self) -> DataLoader[Batch]:
        split = self.split("train")
        rank, world = self._place
        steps = torch.stack(list(split.lengths.values())).sum(0) if self.bucket else None
        groups = None
        if self.balanced and split.target is not None:
            groups = Groups(self.corpus.task.category(split.target), split.present)
        plan = TrainingPlan(len(split), self.batch_size, self.masks, self.seed, steps, rank, world, groups, split.there)
        return self._loader(split, plan)

    def val_dataloader(self) -> DataLoader[Batch]:
        return self._evaluation_loader("valid")

    def test_dataloader(self) -> DataLoader[Batch]:
        return self._evaluation_loader("test")

    def predict_dataloader(self) -> DataLoader[Batch]:
        return self._evaluation_loader("predict")

    def _evaluation_loader(self, name: str) -> DataLoader[Batch]:
        split = self.split(name)
        return self._loader(split, EvaluationPlan(len(split), self.eval_batch_size, *self._place))

    def _loader(self, split: Split, plan: TrainingPlan | EvaluationPlan) -> DataLoader[Batch]:
        on_accelerator = self._device.type != "cpu"
        if self.resident:
            split = split.on(self._device)
        return DataLoader(
            _Batches(split, self.masks if isinstance(plan, TrainingPlan) else Complete(), self.seed),
            sampler=plan,
            batch_size=None,
            num_workers=0 if self.resident else self.workers,
            pin_memory=on_accelerator and not self.resident,
            persistent_workers=bool(self.workers) and not self.resident,
        )

    @property
    def _device(self) -> torch.device:
        return self.trainer.strategy.root_device if self.trainer else torch.device("cpu")

    @property
    def _place(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)


class _Batches(Dataset[Batch]):
    """A data set whose keys are requests and whose items are batches."""

    def __init__(self, split: Split, masks: TrainingMasks, seed: int) -> None:
        self.source, self.masks, self.seed = split, masks, seed

    def __getitem__(self, request: Request) -> Batch:
        batch = self.source.batch(request.index, request.present)
        return self.masks.frames(batch, request.epoch, self.seed)

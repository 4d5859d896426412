"""Plans of one pass over a split: which samples form which batch, and which of their modalities are present.

Plans yield what a split needs to gather a batch. They are pure functions of (seed, epoch), so that an epoch is the same
on any number of processes, except for its distribution among them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Sampler

from mer_lightning.masks.training import TrainingMasks, combination_number, left_by
from mer_lightning.modalities import MODALITIES
from mer_lightning.randomness import name_key, uniform

_TOGETHER = 4  # samples of one group that follow each other in a balanced order


@dataclass(frozen=True)
class Groups:
    """What a balanced order groups samples by: the category of each sample, and the modalities that it has."""

    categories: Tensor  # (N,) int64
    available: Tensor  # (N, M)


@dataclass(frozen=True)
class Request:
    """One batch to gather: its rows, the modalities that are present (None: all that are available) and the epoch."""

    index: Tensor  # (B,)
    present: Tensor | None  # (B, M)
    epoch: int


class TrainingPlan(Sampler[Request]):
    """Every sample once per epoch in a fresh order, with fresh masks.

    Each of W processes takes every W-th sample of the same order. The first samples are repeated at the end, so that
    all processes take equally many steps, as DDP needs. A last batch of one sample is left out: losses over pairs need
    two.

    With ``groups`` the order is balanced: four samples of one category whose combination under the masks of this epoch
    is the same follow each other, and these groups of four are shuffled. Only the composition of batches changes: each
    sample still occurs once per epoch, with the same mask as without ``groups``. A batch of 32 has about eight groups
    with four samples each; a random batch has most groups with one or two samples each. Several processes divide each
    group of four among them, so that losses over pairs should then use the samples of all processes.
    """

    def __init__(
        self,
        samples: int,
        batch_size: int,
        masks: TrainingMasks,
        seed: int,
        steps: Tensor | None = None,
        rank: int = 0,
        world: int = 1,
        groups: Groups | None = None,
        modalities: Sequence[str] = MODALITIES,
    ) -> None:
        self.modalities = modalities  # of the corpus
        self.samples, self.batch_size, self.masks, self.seed = samples, batch_size, masks, seed
        self.steps, self.rank, self.world, self.groups = steps, rank, world, groups
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        full, rest = divmod(self._share, self.batch_size)
        return max(full + (rest > 1), 1)

    @property
    def _share(self) -> int:
        return -(-self.samples // self.world)

    def __iter__(self) -> Iterator[Request]:
        present = self.masks.present(self.samples, self.epoch, self.seed, self.modalities)
        order = self._order(present)
        wrapped = torch.cat([order, order[: self._share * self.world - self.samples]])
        batches = wrapped[self.rank :: self.world].split(self.batch_size)
        for index in self._shuffled(batches[: len(self)]):
            yield Request(index, present[index], self.epoch)

    def _order(self, present: Tensor) -> Tensor:
        draws = uniform(self.seed, name_key("order"), self.epoch, torch.arange(self.samples))
        if self.groups is not None:
            return self._balanced(draws, present)
        if self.steps is None:
            return draws.argsort()
        # Sorted by length with a random factor of .95 to 1.05: similar lengths, but other neighbours in each epoch.
        return (self.steps.double() * (0.95 + 0.1 * draws)).argsort()

    def _balanced(self, draws: Tensor, present: Tensor) -> Tensor:
        """In random order within each group; each four of them stay together, and the fours are in random order."""
        assert self.groups is not None
        combinations = combination_number(left_by(present, self.groups.available))
        group = self.groups.categories * 8 + combinations
        order = draws.argsort()
        order = order[group[order].argsort(stable=True)]
        _, sizes = group[order].unique_consecutive(return_counts=True)
        position = torch.arange(self.samples) - (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
        lots = uniform(self.seed, name_key("balanced"), self.epoch, group[order], position // _TOGETHER)
        return order[lots.argsort(stable=True)]

    def _shuffled(self, batches: tuple[Tensor, ...]) -> list[Tensor]:
        if self.steps is None:
            return list(batches)
        draws = uniform(self.seed, name_key("batches"), self.epoch, torch.arange(len(batches)))
        return [batches[i] for i in draws.argsort().tolist()]


class EvaluationPlan(Sampler[Request]):
    """Every sample once, in order. Processes take whole batches in turn: each batch, and so each prediction, is the
    same to the last bit on any number of processes, and no sample counts twice.

    A process without a batch repeats the first one, because DDP needs all processes in the first forward pass. Of a
    sample that is predicted twice, one prediction is kept.
    """

    def __init__(self, samples: int, batch_size: int, rank: int = 0, world: int = 1) -> None:
        batches = torch.arange(samples).split(batch_size)
        self.batches = batches[rank::world] or batches[:1]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Request]:
        for index in self.batches:
            yield Request(index, None, 0)

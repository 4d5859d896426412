"""Which samples form which batch, and what of them may be seen: the order of one pass over a split.

Plans yield what a split needs to gather a batch. They are pure functions of (seed, epoch), so an epoch is the same on
any number of processes up to how it is shared out among them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import Sampler

from mer_lightning.masks.training import TrainingMasks, combination_number, left_by
from mer_lightning.randomness import name_key, uniform

_TOGETHER = 4  # samples of a like group that follow each other in a balanced order: each then finds three others


@dataclass(frozen=True)
class Groups:
    """From what a balanced order knows who is alike: the category of each sample, and the modalities that it has."""

    categories: Tensor  # (N,) int64
    available: Tensor  # (N, M)


@dataclass(frozen=True)
class Request:
    """One batch to gather: its rows, the modalities to show (None: all that are there) and the epoch."""

    index: Tensor  # (B,)
    present: Tensor | None  # (B, M)
    epoch: int


class TrainingPlan(Sampler[Request]):
    """Every sample once per epoch in a fresh order, with fresh masks.

    With several processes each takes every W-th sample of the same order; the order is wrapped round so that all
    take equally many steps, as DDP needs. A last batch of one sample is left out: losses over pairs need two.

    With ``groups`` the order is balanced: samples of one category that the epoch's masks show in one combination follow
    each other by fours, and these fours are shuffled. What changes is who meets whom in a batch, and nothing else: each
    sample still comes once per epoch with the mask that it would have had. A batch of 32 holds about eight groups with
    four members each, where a random one holds most of the groups with one or two. Of each four, W processes take their
    share, so that there losses over pairs should look across processes.
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
    ) -> None:
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
        present = self.masks.present(self.samples, self.epoch, self.seed)
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
        # Sorted by length up to a tenth of a jitter: batches of like lengths, yet other neighbours in each epoch.
        return (self.steps.double() * (0.95 + 0.1 * draws)).argsort()

    def _balanced(self, draws: Tensor, present: Tensor) -> Tensor:
        """Random within each group, cut into fours, and the fours in random order."""
        assert self.groups is not None
        combinations = combination_number(left_by(present, self.groups.available))
        group = self.groups.categories * 8 + combinations
        order = draws.argsort()
        order = order[group[order].argsort(stable=True)]
        _, sizes = group[order].unique_consecutive(return_counts=True)
        place = torch.arange(self.samples) - (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
        lots = uniform(self.seed, name_key("balanced"), self.epoch, group[order], place // _TOGETHER)
        return order[lots.argsort(stable=True)]

    def _shuffled(self, batches: tuple[Tensor, ...]) -> list[Tensor]:
        if self.steps is None:
            return list(batches)
        draws = uniform(self.seed, name_key("batches"), self.epoch, torch.arange(len(batches)))
        return [batches[i] for i in draws.argsort().tolist()]


class EvaluationPlan(Sampler[Request]):
    """Every sample once, in order. Processes take whole batches in turn: each batch, and so each prediction, is the
    same to the last bit on any number of processes, and no sample counts twice.

    A process for which no batch is left repeats the first one, because all processes meet in the first forward pass of
    DDP; predictions of a sample that was seen twice are kept once.
    """

    def __init__(self, samples: int, batch_size: int, rank: int = 0, world: int = 1) -> None:
        batches = torch.arange(samples).split(batch_size)
        self.batches = batches[rank::world] or batches[:1]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Request]:
        for index in self.batches:
            yield Request(index, None, 0)

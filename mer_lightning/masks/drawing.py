"""Drawing masks over modalities.

A mask is drawn for a whole split at once. It depends on its keys only (seed, epoch, ...), and not on how the split is
cut into batches. Each row of a drawn mask keeps at least one modality.

Shapes: N samples of a split, M = 3 modalities.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from mer_lightning.errors import Refusal
from mer_lightning.modalities import COMBINATIONS, MODALITIES, combination_present
from mer_lightning.randomness import name_key, uniform

Scheme = Literal["cpm", "imder"]

# {missing rate: (share of samples that keep one modality, share that keep two)}, from the code of DiCMoR and IMDer.
IMDER_SHARES = {
    0.1: (0.1, 0.1),
    0.2: (0.2, 0.2),
    0.3: (0.3, 0.3),
    0.4: (0.5, 0.2),
    0.5: (0.7, 0.1),
    0.6: (0.9, 0.0),
    0.7: (1.0, 0.0),
}
LARGEST_RATE = 0.7  # each sample keeps one of its three modalities: 2/3, which the field writes 0.7
_CPM_TOLERANCE, _CPM_ROWS = 0.005, 32  # of the released code: how near the rate must be, and over how many rows


def draw_combinations(weights: Sequence[float], samples: int, *keys: int) -> Tensor:
    """(N, M): one combination per sample, with probabilities proportional to ``weights`` (order of COMBINATIONS)."""
    cumulative = torch.tensor(weights, dtype=torch.float64).cumsum(0)
    draws = uniform(*keys, name_key("combination"), torch.arange(samples))
    chosen = torch.searchsorted(cumulative / cumulative[-1], draws, right=True)
    return torch.tensor([combination_present(name) for name in COMBINATIONS])[chosen]


def per_modality_rates(rates: Sequence[float], samples: int, *keys: int) -> Tensor:
    """(N, M): modality m is dropped with probability r_m, independently of the others.

    A row that would be empty keeps one modality, chosen uniformly. So P(m is absent) = r_m - r_t r_a r_v / 3, a little
    less than r_m.
    """
    kept = _uniform_cells("keep", samples, *keys) >= torch.tensor(rates, dtype=torch.float64)
    return kept | (_one_modality_per_row("rescue", samples, *keys) & ~kept.any(1, keepdim=True))


def cpm_mask(rate: float, samples: int, *keys: int) -> Tensor:
    """(N, M): random missing at rate MR with the matrix of CPM-Net, as GCNet and later methods draw it.

    Each row keeps one uniformly chosen modality. Each other modality is kept with probability p = 1 - 3/2 MR, so that
    the expected share of kept cells is 1/3 + 2/3 p = 1 - MR. The whole matrix is drawn again until that share is within
    0.005 of 1 - MR, or within half a cell where the matrix is so small that one cell counts for more. The released code
    rounds p to whole percents; we do not.
    """
    rows = max(samples, _CPM_ROWS)
    cells = rows * len(MODALITIES)
    probability = max(1 - 1.5 * rate, 0.0)
    wanted = (1 + 2 * probability) / 3
    for attempt in itertools.count():
        kept = _one_modality_per_row("cpm-kept", rows, *keys, attempt)
        kept = kept | (_uniform_cells("cpm-further", rows, *keys, attempt) < probability)
        if abs(int(kept.sum()) / cells - wanted) <= max(_CPM_TOLERANCE, 0.5 / cells):
            break
    return kept[:samples]


def imder_mask(rate: float, samples: int, *keys: int) -> Tensor:
    """(N, M): random missing at rate MR in the shares of DiCMoR and IMDer, see IMDER_SHARES.

    Their code gives all samples of a batch the same mask. Here the samples that keep one modality, and those that keep
    two, are chosen at random in the same shares (exact up to rounding), and each sample draws which modalities it
    keeps. So the mask does not depend on batches.
    """
    keep_one, keep_two = (round(share * samples) for share in IMDER_SHARES[round(rate, 6)])
    order = uniform(*keys, name_key("imder-order"), torch.arange(samples)).argsort(stable=True)
    single = _one_modality_per_row("imder-choice", samples, *keys)
    mask = torch.ones(samples, len(MODALITIES), dtype=torch.bool)
    ones, twos = order[:keep_one], order[keep_one : keep_one + keep_two]
    mask[ones] = single[ones]
    mask[twos] = ~single[twos]
    return mask


SCHEMES: dict[Scheme, Callable[..., Tensor]] = {"cpm": cpm_mask, "imder": imder_mask}


def _uniform_cells(purpose: str, samples: int, *keys: int) -> Tensor:
    """(N, M) uniform draws."""
    return uniform(*keys, name_key(purpose), torch.arange(samples).unsqueeze(1), torch.arange(len(MODALITIES)))


def _one_modality_per_row(purpose: str, samples: int, *keys: int) -> Tensor:
    """(N, M) with one uniformly chosen modality in each row."""
    chosen = (uniform(*keys, name_key(purpose), torch.arange(samples)) * len(MODALITIES)).long()
    return F.one_hot(chosen, len(MODALITIES)).bool()


def check_share(where: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise Refusal(where, "a rate between 0 and 1", str(value), "choose one in that range")


def check_missing_rate(where: str, scheme: Scheme, rate: float) -> None:
    if scheme == "imder" and round(rate, 6) not in IMDER_SHARES:
        listed = ", ".join(map(str, IMDER_SHARES))
        raise Refusal(where, f"for scheme imder one of the rates {listed}", str(rate), "choose one, or scheme cpm")
    if not 0 <= rate <= LARGEST_RATE:
        remedy = "choose a lower one: each sample keeps at least one of its three modalities"
        raise Refusal(where, f"a missing rate between 0 and {LARGEST_RATE}", str(rate), remedy)

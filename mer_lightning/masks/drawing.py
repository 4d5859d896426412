"""Drawing masks over modalities.

A mask is drawn for a whole split at once. It depends on its keys only (seed, epoch, ...), and not on how the split is
cut into batches. Each row of a drawn mask keeps at least one modality of those that the corpus has, and no other one.

Shapes: N samples of a split, M = 3 modalities, of which the corpus has M'.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mer_lightning.errors import Refusal
from mer_lightning.masks.rates import IMDER_SHARES, Scheme
from mer_lightning.modalities import COMBINATIONS, MODALITIES, combination_present, combinations_of
from mer_lightning.randomness import name_key, uniform

_CPM_TOLERANCE, _CPM_ROWS = 0.005, 32  # of the released code: how near the rate must be, and over how many rows


def draw_combinations(
    weights: Sequence[float], samples: int, *keys: int, modalities: Sequence[str] = MODALITIES
) -> Tensor:
    """(N, M): one combination per sample, with probabilities proportional to ``weights`` (order of COMBINATIONS).

    Combinations with a modality that the corpus lacks are left out.
    """
    possible = combinations_of(modalities)
    weights = [weight if name in possible else 0.0 for name, weight in zip(COMBINATIONS, weights, strict=True)]
    if not any(weights):
        found = f"none on {', '.join(possible)}, which the corpus has"
        raise Refusal("WeightedCombinations.weights", "a weight above 0", found, f"name one of {', '.join(possible)}")
    cumulative = torch.tensor(weights, dtype=torch.float64).cumsum(0)
    draws = uniform(*keys, name_key("combination"), torch.arange(samples))
    chosen = torch.searchsorted(cumulative / cumulative[-1], draws, right=True)
    return torch.tensor([combination_present(name) for name in COMBINATIONS])[chosen]


def per_modality_rates(
    rates: Sequence[float], samples: int, *keys: int, modalities: Sequence[str] = MODALITIES
) -> Tensor:
    """(N, M): modality m is dropped with probability r_m, independently of the others.

    ``rates`` has one rate for each of ``modalities``. A row that would be empty keeps one modality, chosen uniformly.
    So P(m is absent) = r_m - r_t r_a r_v / 3 (of three), a little less than r_m.
    """
    rate_of = dict(zip(modalities, rates, strict=True))
    every = torch.tensor([rate_of.get(m, 1.0) for m in MODALITIES], dtype=torch.float64)
    kept = _uniform_cells("keep", samples, *keys) >= every
    return kept | (_one_modality_per_row("rescue", samples, *keys, modalities=modalities) & ~kept.any(1, keepdim=True))


def cpm_mask(rate: float, samples: int, *keys: int, modalities: Sequence[str] = MODALITIES) -> Tensor:
    """(N, M): random missing at rate MR with the matrix of CPM-Net, as GCNet and later methods draw it.

    Each row keeps one uniformly chosen modality of M'. Each other modality is kept with probability
    p = 1 - M' / (M' - 1) MR, so that the expected share of kept cells is 1/M' + (M' - 1)/M' p = 1 - MR. The whole
    matrix is drawn again until that share is within 0.005 of 1 - MR, or within half a cell where the matrix is so small
    that one cell counts for more. The released code, with three modalities, rounds p to whole percents; we do not.
    """
    count = len(modalities)
    rows = max(samples, _CPM_ROWS)
    cells = rows * count
    probability = max(1 - (count / max(count - 1, 1)) * rate, 0.0)
    wanted = (1 + (count - 1) * probability) / count
    there = _there(modalities)
    for attempt in itertools.count():
        kept = _one_modality_per_row("cpm-kept", rows, *keys, attempt, modalities=modalities)
        kept = kept | ((_uniform_cells("cpm-further", rows, *keys, attempt) < probability) & there)
        if abs(int(kept.sum()) / cells - wanted) <= max(_CPM_TOLERANCE, 0.5 / cells):
            break
    return kept[:samples]


def imder_mask(rate: float, samples: int, *keys: int, modalities: Sequence[str] = MODALITIES) -> Tensor:
    """(N, M): random missing at rate MR in the shares of DiCMoR and IMDer, see IMDER_SHARES.

    Their code gives all samples of a batch the same mask. Here the samples that keep one modality, and those that keep
    two, are chosen at random in the same shares (exact up to rounding), and each sample draws which modalities it
    keeps. So the mask does not depend on batches.

    Of two modalities, a share of 2 MR of the samples keeps one: the only way to reach MR. The authors have three.
    """
    shares = IMDER_SHARES[round(rate, 6)] if len(modalities) == len(MODALITIES) else (2 * rate, 0.0)
    keep_one, keep_two = (round(share * samples) for share in shares)
    order = uniform(*keys, name_key("imder-order"), torch.arange(samples)).argsort(stable=True)
    single = _one_modality_per_row("imder-choice", samples, *keys, modalities=modalities)
    mask = all_present(samples, modalities)
    ones, twos = order[:keep_one], order[keep_one : keep_one + keep_two]
    mask[ones] = single[ones]
    mask[twos] = ~single[twos]
    return mask


SCHEMES: dict[Scheme, Callable[..., Tensor]] = {"cpm": cpm_mask, "imder": imder_mask}


def all_present(samples: int, modalities: Sequence[str] = MODALITIES) -> Tensor:
    """(N, M): everything that the corpus has."""
    return _there(modalities).repeat(samples, 1)


def _there(modalities: Sequence[str]) -> Tensor:
    """(M,) bool"""
    return torch.tensor([m in modalities for m in MODALITIES])


def _uniform_cells(purpose: str, samples: int, *keys: int) -> Tensor:
    """(N, M) uniform draws."""
    return uniform(*keys, name_key(purpose), torch.arange(samples).unsqueeze(1), torch.arange(len(MODALITIES)))


def _one_modality_per_row(purpose: str, samples: int, *keys: int, modalities: Sequence[str]) -> Tensor:
    """(N, M) with one uniformly chosen modality in each row."""
    positions = torch.tensor([MODALITIES.index(m) for m in modalities])
    chosen = (uniform(*keys, name_key(purpose), torch.arange(samples)) * len(modalities)).long()
    return F.one_hot(positions[chosen], len(MODALITIES)).bool()

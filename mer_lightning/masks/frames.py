"""Removing single frames from sequences: the features of a removed frame become zero.

The sequence keeps its length: a removed frame is still a step that the model sees as zeros, as in the papers. What is
padding is never touched and never counted. Training masks and evaluation conditions both remove frames here.

Which frames fall, at rate r:
- rmfm_same: each frame of each modality with probability r, by separate draws per modality (TFR-Net, EMT, LNLN);
- rmfm: each position of the text, audio and vision frames laid end to end with probability r, by one draw (CIDer);
- tmfm: each time step with probability r, in all modalities at once (NIAT);
- stmfm: one block of round((L-2) r) successive time steps, in all modalities at once (NIAT).

At one rate, rmfm and rmfm_same have the same law; what sets them apart is the rate in training (`training_rates`).

Shapes: B batch, T time, D width, M = 3 modalities.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, get_args

import torch
from torch import Tensor

from mer_lightning.batch import Batch
from mer_lightning.errors import Refusal
from mer_lightning.modalities import MODALITIES
from mer_lightning.randomness import name_key, uniform

FrameKind = Literal["rmfm_same", "rmfm", "tmfm", "stmfm"]
FRAME_KINDS: tuple[FrameKind, ...] = get_args(FrameKind)
ALIGNED_KINDS: tuple[FrameKind, ...] = ("tmfm", "stmfm")  # a time step must mean the same in all modalities


def mask_frames(batch: Batch, kind: FrameKind, rate: float | Tensor, *keys: int) -> Batch:
    """The batch with the features of some frames set to zero; lengths and ``present`` stay.

    ``rate`` is one for all, (B,) one per sample, or for rmfm_same (B, M). A frame's fate depends on the keys, the
    sample's index and the frame's position only.
    """
    if kind in ALIGNED_KINDS:
        _refuse_unaligned_batch(kind, batch)
    key_mask = {modality: batch.key_mask(modality) for modality in MODALITIES if modality in batch.features}
    removed = removed_frames(kind, rate, batch.index, key_mask, *keys)
    features = {m: values.masked_fill(removed[m].unsqueeze(2), 0.0) for m, values in batch.features.items()}
    return replace(batch, features=features)


def removed_frames(
    kind: FrameKind, rate: float | Tensor, index: Tensor, key_masks: dict[str, Tensor], *keys: int
) -> dict[str, Tensor]:
    """{modality: (B, T_m) bool}, True at the frames that are removed, never at padding.

    ``key_masks`` {modality: (B, T_m)} are True at real frames, and in the order t, a, v.
    """
    sample, seed = index.unsqueeze(1), (*keys, name_key(kind))
    # Doubles throughout, because a comparison in single precision could come out otherwise on another device.
    rates = rate.double() if isinstance(rate, Tensor) else index.new_full((1,), rate, dtype=torch.float64)
    if rates.dim() == 1:
        rates = rates.unsqueeze(1)

    if kind == "rmfm_same":
        own = dict(zip(MODALITIES, rates.expand(-1, len(MODALITIES)).split(1, dim=1), strict=True))
        return {
            m: here & (uniform(*seed, MODALITIES.index(m), sample, _steps(here)) < own[m])
            for m, here in key_masks.items()
        }
    if kind == "rmfm":
        lengths = torch.stack([here.sum(1) for here in key_masks.values()], 1)
        starts = dict(zip(key_masks, (lengths.cumsum(1) - lengths).split(1, dim=1), strict=True))
        return {m: here & (uniform(*seed, sample, starts[m] + _steps(here)) < rates) for m, here in key_masks.items()}

    longest = max(key_masks.values(), key=lambda here: here.shape[1])
    steps = _steps(longest)
    if kind == "tmfm":
        fallen = uniform(*seed, sample, steps) < rates
    else:
        lengths = torch.stack([here.sum(1) for here in key_masks.values()], 1).amax(1, keepdim=True)
        fallen = _block(steps, lengths, rates, uniform(*seed, sample))
    return {m: here & fallen[:, : here.shape[1]] for m, here in key_masks.items()}


def _block(steps: Tensor, lengths: Tensor, rates: Tensor, draw: Tensor) -> Tensor:
    """(B, T): n = round((L-2) r) successive steps, half to even, that begin anywhere in 1 .. L-1-n.

    The first and the last step stay: in the papers they are [CLS] and [SEP].
    """
    inner = (lengths - 2).clamp(min=0)
    size = (inner * rates).round().long()
    start = 1 + (draw * (inner - size + 1)).long()
    return (steps >= start) & (steps < start + size)


def training_rates(kind: FrameKind, index: Tensor, *keys: int) -> Tensor:
    """Rates for training when none is given, drawn by the rule of each kind's authors.

    rmfm_same, (B, M): 0 with probability 1/2, otherwise U(0, 1), for each sample and modality (LNLN, whose code resets
    exactly half of the samples). rmfm, (B,): 1/2, because CIDer draws a rate from U(0, 1) for every single position,
    and then P(u < r) = 1/2. tmfm and stmfm, (B,): U(0, 1) for each sample; our choice.
    """
    seed = (*keys, name_key("frame-rate"))
    if kind == "rmfm":
        return torch.full(index.shape, 0.5, dtype=torch.float64, device=index.device)
    if kind == "rmfm_same":
        modality = torch.arange(len(MODALITIES), device=index.device)
        rates = uniform(*seed, index.unsqueeze(1), modality)
        return rates.where(uniform(*seed, name_key("any"), index.unsqueeze(1), modality) < 0.5, 0.0)
    return uniform(*seed, index)


def refuse_unaligned(where: str, kind: FrameKind, lengths: dict[str, Tensor]) -> None:
    """Refuse modalities of different lengths; a modality that a sample lacks (length 0) is no difference."""
    longest = torch.stack(list(lengths.values())).amax(0)
    for modality, steps in lengths.items():
        other = (steps != longest) & (steps > 0)
        if other.any():
            row = int(other.nonzero()[0])
            found = f"a sample with {int(steps[row])} {modality} steps and {int(longest[row])} of another modality"
            raise _unaligned(where, kind, found)


def _refuse_unaligned_batch(kind: FrameKind, batch: Batch) -> None:
    """Without waiting for an accelerator: there only the shapes are compared (one step: a modality that nobody has)."""
    steps = {modality: values.shape[1] for modality, values in batch.features.items()}
    if len(set(steps.values()) - {1}) > 1:
        raise _unaligned("batch", kind, ", ".join(f"{count} {modality} steps" for modality, count in steps.items()))
    if batch.index.device.type == "cpu":
        refuse_unaligned("batch", kind, batch.lengths)


def _unaligned(where: str, kind: FrameKind, found: str) -> Refusal:
    remedy = "use an aligned corpus (--data.alignment aligned), or remove frames by rmfm_same"
    return Refusal(where, f"for {kind} the same steps in all modalities", found, remedy)


def _steps(key_mask: Tensor) -> Tensor:
    return torch.arange(key_mask.shape[1], device=key_mask.device)

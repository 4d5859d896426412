"""Removing single frames from sequences: the features of a removed frame become zero.

The sequence keeps its length: the model still sees a removed frame, as a step of zeros, as in the papers. Padding is
neither changed nor counted. The masks of training and the conditions of evaluation both remove frames with this module.

Which frames are removed, at rate r:
- rmfm_same: each frame of each modality with probability r, by separate draws per modality (TFR-Net, EMT-DLFR, NIAT);
- rmfm_lnln: the same, but audio and vision share their draws, and a frame that is removed at one rate is removed at
  every higher rate, too (LNLN on MOSEI);
- rmfm: each position of the text, audio and vision frames laid end to end with probability r, by one draw (CIDer);
- tmfm: each time step with probability r, in all modalities at once (NIAT);
- stmfm: one block of round((L-2) r) successive time steps, in all modalities at once (NIAT).

At one rate, rmfm and rmfm_same have the same law. They differ in the rates of training (`training_rates`).

Why rmfm_lnln shares draws: the code of LNLN seeds its generator with one number before it draws the frames of each
modality and each rate. Modalities that are padded to the same length then lose the same frames: audio and vision of
MOSEI, with 500 frames each, but not text with 50. TFR-Net and EMT-DLFR give each modality a seed of its own.

Shapes: B batch, T time, D width, M = 3 modalities.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from mer_lightning.batch import Batch
from mer_lightning.errors import Refusal
from mer_lightning.masks.rates import ALIGNED_KINDS, FrameKind
from mer_lightning.modalities import MODALITIES
from mer_lightning.randomness import name_key, uniform

# {kind: {modality: number of its stream of draws}}: modalities with one number read the same draws.
_STREAMS = {
    "rmfm_same": {modality: number for number, modality in enumerate(MODALITIES)},
    "rmfm_lnln": {"text": 0, "audio": 1, "vision": 1},
}


def mask_frames(batch: Batch, kind: FrameKind, rate: float | Tensor, *keys: int) -> Batch:
    """The batch with the features of some frames set to zero; lengths and ``present`` stay.

    ``rate`` is one number for all samples, (B,) one per sample, or for rmfm_same and rmfm_lnln (B, M). Whether a frame
    is removed depends on the keys, the sample's index and the frame's position only.
    """
    if kind in ALIGNED_KINDS:
        _refuse_unaligned_batch(kind, batch)
    key_masks = {modality: batch.key_mask(modality) for modality in MODALITIES if modality in batch.features}
    removed = removed_frames(kind, rate, batch.index, key_masks, *keys)
    features = {m: values.masked_fill(removed[m].unsqueeze(2), 0.0) for m, values in batch.features.items()}
    return replace(batch, features=features)


def removed_frames(
    kind: FrameKind, rate: float | Tensor, index: Tensor, key_masks: dict[str, Tensor], *keys: int
) -> dict[str, Tensor]:
    """{modality: (B, T_m) bool}, True at the frames that are removed, never at padding.

    ``key_masks`` {modality: (B, T_m)} are True at real frames, and in the order t, a, v.
    """
    sample, seed = index.unsqueeze(1), (*keys, name_key(kind))
    # Doubles throughout, because a comparison in single precision could have another result on another device.
    rates = rate.double() if isinstance(rate, Tensor) else index.new_full((1,), rate, dtype=torch.float64)
    if rates.dim() == 1:
        rates = rates.unsqueeze(1)

    if kind in _STREAMS:
        rate_of = dict(zip(MODALITIES, rates.expand(-1, len(MODALITIES)).split(1, dim=1), strict=True))
        return {
            m: mask & (uniform(*seed, _STREAMS[kind][m], sample, _steps(mask)) < rate_of[m])
            for m, mask in key_masks.items()
        }
    if kind == "rmfm":
        lengths = torch.stack([mask.sum(1) for mask in key_masks.values()], 1)
        starts = dict(zip(key_masks, (lengths.cumsum(1) - lengths).split(1, dim=1), strict=True))
        return {m: mask & (uniform(*seed, sample, starts[m] + _steps(mask)) < rates) for m, mask in key_masks.items()}

    longest = max(key_masks.values(), key=lambda mask: mask.shape[1])
    steps = _steps(longest)
    if kind == "tmfm":
        removed_steps = uniform(*seed, sample, steps) < rates
    else:
        lengths = torch.stack([mask.sum(1) for mask in key_masks.values()], 1).amax(1, keepdim=True)
        removed_steps = _block(steps, lengths, rates, uniform(*seed, sample))
    return {m: mask & removed_steps[:, : mask.shape[1]] for m, mask in key_masks.items()}


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

    rmfm_same and rmfm_lnln, (B, M): 0 with probability 1/2, otherwise U(0, 1), for each sample and modality (LNLN; its
    code resets exactly half of the samples). rmfm, (B,): 1/2, because CIDer draws a rate from U(0, 1) for every single
    position, and then P(u < r) = 1/2. tmfm and stmfm, (B,): U(0, 1) for each sample; our choice.
    """
    seed = (*keys, name_key("frame-rate"))
    if kind == "rmfm":
        return torch.full(index.shape, 0.5, dtype=torch.float64, device=index.device)
    if kind in _STREAMS:
        modality = torch.arange(len(MODALITIES), device=index.device)
        rates = uniform(*seed, index.unsqueeze(1), modality)
        return rates.where(uniform(*seed, name_key("any"), index.unsqueeze(1), modality) < 0.5, 0.0)
    return uniform(*seed, index)


def refuse_unaligned(where: str, kind: FrameKind, lengths: dict[str, Tensor]) -> None:
    """Refuse samples whose modalities differ in length. A modality that a sample lacks (length 0) is left out."""
    longest = torch.stack(list(lengths.values())).amax(0)
    for modality, steps in lengths.items():
        differs = (steps != longest) & (steps > 0)
        if differs.any():
            row = int(differs.nonzero()[0])
            found = f"a sample with {int(steps[row])} {modality} steps and {int(longest[row])} of another modality"
            raise _unaligned(where, kind, found)


def _refuse_unaligned_batch(kind: FrameKind, batch: Batch) -> None:
    """The same for a batch. On an accelerator only the shapes are compared, because reading lengths would wait for it.

    A modality of one padded step is one that no sample of the batch has.
    """
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

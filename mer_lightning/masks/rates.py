"""The kinds of masks and the rates that each of them allows: names are checked here, without torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from mer_lightning.errors import Refusal
from mer_lightning.modalities import MODALITIES

Scheme = Literal["cpm", "imder"]  # of drawing whole modalities, see drawing.py
SCHEME_NAMES: tuple[Scheme, ...] = get_args(Scheme)

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
# {number of modalities: where each sample keeps one of them}; the field writes 2/3 as 0.7.
LARGEST_RATE = {1: 0.0, 2: 0.5, 3: 0.7}

FrameKind = Literal["rmfm_same", "rmfm_lnln", "rmfm", "tmfm", "stmfm"]
FRAME_KINDS: tuple[FrameKind, ...] = get_args(FrameKind)
ALIGNED_KINDS: tuple[FrameKind, ...] = ("tmfm", "stmfm")  # a time step must mean the same in all modalities
NESTED_KINDS: tuple[FrameKind, ...] = ("rmfm_lnln",)  # in evaluation, all rates compare the same draws with the rate


def check_share(where: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise Refusal(where, "a rate between 0 and 1", str(value), "choose one in that range")


def check_missing_rate(where: str, scheme: Scheme, rate: float, modalities: Sequence[str] = MODALITIES) -> None:
    largest = LARGEST_RATE[len(modalities)]
    if not 0 <= rate <= largest:
        remedy = "choose a lower one: each sample keeps at least one of its modalities"
        found = f"{rate} of {len(modalities)}"
        raise Refusal(where, f"a missing rate between 0 and {largest}", found, remedy)
    if scheme == "imder" and round(rate, 6) not in IMDER_SHARES:
        listed = ", ".join(str(each) for each in IMDER_SHARES if each <= largest)
        raise Refusal(where, f"for scheme imder one of the rates {listed}", str(rate), "choose one, or scheme cpm")

"""Protocols: lists of conditions, how their scores are averaged, and the masks of a protocol on one split.

Shapes: N samples of a split, B batch, M = 3 modalities, K conditions.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

from mer_lightning.data.corpus import Split
from mer_lightning.errors import Refusal
from mer_lightning.masks.conditions import Condition, FrameCondition, condition_named, our_combination
from mer_lightning.masks.drawing import IMDER_SHARES, SCHEMES
from mer_lightning.masks.frames import ALIGNED_KINDS, FRAME_KINDS, refuse_unaligned
from mer_lightning.modalities import COMBINATIONS, COMPLETE, MODALITIES, combination_name

MISSING_RATES = tuple(IMDER_SHARES)
FRAME_RATES = tuple(tenths / 10 for tenths in range(10))

# {protocol: the names of its conditions}; any single condition is a protocol too.
PROTOCOLS: dict[str, tuple[str, ...]] = {
    "fixed-7": COMBINATIONS,
    "fixed-6": tuple(name for name in COMBINATIONS if name != COMPLETE),
    **{f"rate-{scheme}": tuple(f"rate-{scheme}-{rate}" for rate in MISSING_RATES) for scheme in SCHEMES},
    **{kind: tuple(f"{kind}-{rate}" for rate in FRAME_RATES) for kind in FRAME_KINDS},
}
_UNSEEN = "unseen-"
_PATTERNS = ("modality-rates-T-A-V", "unseen-ta-av", "rate-cpm-0.5", "rmfm_same-0.3")
_SAMPLES_AT_ONCE = 1024  # when frame masks are hashed; the hash does not depend on it


class Protocol:
    """Conditions under which a model is evaluated. A condition that belongs to several names occurs once.

    Args:
        names: protocols (`fixed-7`, `fixed-6`, `rate-cpm`, `rate-imder`, `rmfm`, `rmfm_same`, `rmfm_lnln`,
            `tmfm`, `stmfm`, `unseen-ta-av`) and single conditions (`tav`, `rate-cpm-0.5`, `tmfm-0.2`,
            `modality-rates-0.3-0.5-0.7`).
        seed: of the masks that are drawn.
    """

    def __init__(self, names: list[str], seed: int = 0) -> None:
        if not names:
            raise Refusal("--protocol", "at least one protocol or condition", "none", "name one, e.g. fixed-7")
        self.names, self.seed = tuple(names), seed
        self.unseen = _unseen(names)  # combinations that do not occur in training
        conditions = {condition.name: condition for name in names for condition in _conditions(name)}
        self.conditions = tuple(conditions.values())

    def __str__(self) -> str:
        return " + ".join(self.names)

    def refuse_if_shown(self, present: Tensor) -> None:
        """Refuse training masks (N, M) in which a combination occurs that this protocol calls unseen."""
        for row in present.unique(dim=0).tolist():
            if (shown := combination_name(row)) in self.unseen:
                raise Refusal(
                    f"--protocol {self}",
                    f"training masks without {shown}",
                    "some that show it",
                    f"train with WeightedCombinations and no weight on {', '.join(self.unseen)}",
                )


@dataclass(frozen=True)
class FrozenProtocol:
    """The masks of a protocol on one split, a function of the protocol, its seed and the split's lengths alone."""

    conditions: tuple[Condition, ...]
    seed: int
    present: Tensor  # (K, N, M) bool
    lengths: dict[str, Tensor]  # {modality: (N,)} of the split

    @functools.cached_property
    def mask_hash(self) -> str:
        """The first 16 digits of the SHA-256 of the conditions' names, in order, and of every cell and frame masked."""
        digest = hashlib.sha256()
        for condition, present in zip(self.conditions, self.present, strict=True):
            digest.update(f"{condition.name}\n{len(present)}\n".encode() + present.numpy().tobytes())
            if isinstance(condition, FrameCondition):
                for modality, each in self._frame_digests(condition).items():
                    digest.update(f"{modality} {each}\n".encode())
        return digest.hexdigest()[:16]

    def _frame_digests(self, condition: FrameCondition) -> dict[str, str]:
        digests = {m: hashlib.sha256() for m in self.lengths}
        for index in torch.arange(self.present.shape[1]).split(_SAMPLES_AT_ONCE):
            lengths = {m: steps[index].unsqueeze(1) for m, steps in self.lengths.items()}
            is_data = {m: torch.arange(int(steps.max())) < steps for m, steps in lengths.items()}
            for m, removed in condition.removed(index, is_data, self.seed).items():
                digests[m].update(removed[is_data[m]].numpy().tobytes())
        return {m: digest.hexdigest() for m, digest in digests.items()}


def freeze(protocol: Protocol, split: Split) -> FrozenProtocol:
    """Draw the masks of ``protocol`` for ``split``, once. Refuse a condition that needs more than the split has."""
    present = torch.stack([condition.present(len(split), protocol.seed) for condition in protocol.conditions])
    lengths = {m: split.lengths[m].cpu() for m in MODALITIES if m in split.lengths}
    absent = torch.tensor([m not in lengths for m in MODALITIES])
    for condition, mask in zip(protocol.conditions, present, strict=True):
        if (mask & absent).any() and not mask.all():  # tav shows all that a sample has, and needs no more
            raise Refusal(
                f"condition '{condition.name}'",
                f"a corpus with {', '.join(MODALITIES)}",
                f"only {', '.join(lengths)} in {split.corpus.card.name}",
                "name the conditions that this corpus allows one by one, e.g. [t, a, ta]",
            )
        if isinstance(condition, FrameCondition) and condition.kind in ALIGNED_KINDS:
            refuse_unaligned(f"condition '{condition.name}'", condition.kind, lengths)
    return FrozenProtocol(protocol.conditions, protocol.seed, present, lengths)


def averages(values: Mapping[str, float], protocol: Protocol) -> dict[str, float]:
    """{name of an average: value} of one metric, given {condition: value}.

    An average is left out unless ``values`` has all of its conditions. The averages are:
    ``mean-7`` and ``mean-6`` over the combinations with and without ``tav``; ``mean-X`` over all conditions of a
    protocol X of rates; ``auilc-X`` the area under the values of a protocol X of frame rates,
    sum_i (r_i+1 - r_i) (y_i + y_i+1) / 2 over r = 0.0, ..., 0.9; ``mean-seen`` and ``mean-unseen``.
    """
    groups = {f"mean-{name.removeprefix('fixed-')}": conditions for name, conditions in PROTOCOLS.items()}
    if protocol.unseen:
        groups["mean-unseen"] = protocol.unseen
        groups["mean-seen"] = tuple(name for name in COMBINATIONS if name not in protocol.unseen)
    result = {name: fmean(values[c] for c in group) for name, group in groups.items() if values.keys() >= set(group)}
    for kind in FRAME_KINDS:
        if values.keys() >= set(PROTOCOLS[kind]):
            curve = torch.tensor([values[name] for name in PROTOCOLS[kind]], dtype=torch.float64)
            result[f"auilc-{kind}"] = float(torch.trapezoid(curve, torch.tensor(FRAME_RATES, dtype=torch.float64)))
    return result


def _conditions(name: str) -> Iterator[Condition]:
    """The conditions of one name, in order."""
    names = COMBINATIONS if name.startswith(_UNSEEN) else PROTOCOLS.get(name, (name,))
    for each in names:
        condition = condition_named(each)
        if condition is None:
            raise _unknown(name)
        yield condition


def _unseen(names: list[str]) -> tuple[str, ...]:
    listed = [name for name in names if name.startswith(_UNSEEN)]
    if not listed:
        return ()
    if len(listed) > 1:
        raise Refusal("--protocol", f"one '{_UNSEEN}...' protocol", " and ".join(listed), "evaluate them in turn")
    combinations = listed[0].removeprefix(_UNSEEN).split("-")
    for each in combinations:
        if each not in COMBINATIONS:
            raise Refusal(
                f"--protocol {listed[0]}", f"combinations out of {', '.join(COMBINATIONS)}", f"'{each}'", _hint(each)
            )
    if set(combinations) == set(COMBINATIONS):
        raise Refusal(f"--protocol {listed[0]}", "at least one seen combination", "none", "leave one out")
    return tuple(name for name in COMBINATIONS if name in combinations)


def _unknown(name: str) -> Refusal:
    known = ", ".join((*PROTOCOLS, *_PATTERNS))
    return Refusal("--protocol", f"one of {known} or a combination", f"'{name}'", _hint(name))


def _hint(name: str) -> str:
    """What the user may have meant by ``name``."""
    if ours := our_combination(name):
        return f"did you mean {ours}?"
    every = [*PROTOCOLS, *_PATTERNS, *COMBINATIONS, *(each for group in PROTOCOLS.values() for each in group)]
    near = list(dict.fromkeys(difflib.get_close_matches(name, every, n=3)))
    return f"did you mean {' or '.join(near)}?" if near else "see docs/reference/protocols.md for all"

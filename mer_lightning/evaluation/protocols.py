"""Protocols: lists of conditions, how their scores are averaged, and the masks of a protocol on one split.

Shapes: N samples of a split, B batch, M = 3 modalities, K conditions.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Literal

from mer_lightning.errors import Refusal
from mer_lightning.masks.conditions import Condition, FrameCondition, RateCondition, condition_named, our_combination
from mer_lightning.masks.rates import ALIGNED_KINDS, FRAME_KINDS, IMDER_SHARES, SCHEME_NAMES
from mer_lightning.modalities import COMBINATIONS, COMPLETE, MODALITIES, combination_name, combinations_of, means_over

if TYPE_CHECKING:
    from torch import Tensor

    from mer_lightning.data.corpus import Split

MISSING_RATES = tuple(IMDER_SHARES)
FRAME_RATES = tuple(tenths / 10 for tenths in range(10))

# What a corpus decides: all combinations of its modalities; everything that it has.
BY_CORPUS = ("combinations", "complete")
# {protocol: the names of its conditions}; any single condition is a protocol too.
PROTOCOLS: dict[str, tuple[str, ...]] = {
    "fixed-7": COMBINATIONS,
    "fixed-6": tuple(name for name in COMBINATIONS if name != COMPLETE),
    **{f"rate-{scheme}": tuple(f"rate-{scheme}-{rate}" for rate in MISSING_RATES) for scheme in SCHEME_NAMES},
    **{kind: tuple(f"{kind}-{rate}" for rate in FRAME_RATES) for kind in FRAME_KINDS},
}
_UNSEEN = "unseen-"
_PATTERNS = ("modality-rates-T-A-V", "unseen-ta-av", "rate-cpm-0.5", "rmfm_same-0.3")
_SAMPLES_AT_ONCE = 1024  # when frame masks are hashed; the hash does not depend on it


class Protocol:
    """Conditions under which a model is evaluated. A condition that belongs to several names occurs once.

    Args:
        names: protocols (`combinations`, `complete`, `fixed-7`, `fixed-6`, `rate-cpm`, `rate-imder`, `rmfm`,
            `rmfm_same`, `rmfm_lnln`, `tmfm`, `stmfm`, `unseen-ta-av`) and single conditions (`tav`, `rate-cpm-0.5`,
            `tmfm-0.2`, `modality-rates-0.3-0.5-0.7`).
        seed: of the masks that are drawn.
        modalities: of the corpus; a condition that it cannot meet is refused, or left out if others remain.
        impossible: what is done about a condition that needs a modality which is not there.
    """

    def __init__(
        self,
        names: Sequence[str],
        seed: int = 0,
        modalities: Sequence[str] = MODALITIES,
        impossible: Literal["refuse", "leave out"] = "refuse",
    ) -> None:
        if not names:
            raise Refusal("--protocol", "at least one protocol or condition", "none", "name one, e.g. combinations")
        self.names, self.seed, self.modalities = tuple(names), seed, tuple(modalities)
        self.unseen = _unseen(names)  # combinations that do not occur in training
        conditions = {each.name: each for name in names for each in _conditions(name, self.modalities)}
        possible = [each for each in conditions.values() if each.possible(self.modalities)]
        if len(possible) < len(conditions) and (impossible == "refuse" or not possible):
            raise self._impossible([name for name in conditions if name not in {each.name for each in possible}])
        self.conditions = tuple(possible)

    def __str__(self) -> str:
        """As results name it. With three modalities `combinations` is what the field calls fixed-7."""
        seven = len(self.modalities) == len(MODALITIES)
        return " + ".join("fixed-7" if name == "combinations" and seven else name for name in self.names)

    def among(self, modalities: Sequence[str]) -> Protocol:
        """What remains of it where only some of its modalities are there: in no sample of a split, say."""
        there = tuple(m for m in self.modalities if m in modalities)
        if not there:
            found = "no sample with one of them"
            raise Refusal(
                f"--protocol {self}", f"samples with {' or '.join(self.modalities)}", found, "choose other data"
            )
        return self if there == self.modalities else Protocol(self.names, self.seed, there, "leave out")

    def _impossible(self, found: list[str]) -> Refusal:
        every = combinations_of(self.modalities)
        listed = [each for each in every if each not in found]
        return Refusal(
            f"--protocol {self}",
            f"conditions for {' and '.join(self.modalities)}, which the corpus has",
            ", ".join(found),
            f"write --protocol combinations, which is '[{', '.join(listed)}]' here",
        )

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

    protocol: Protocol  # what of it the split allows
    present: Tensor  # (K, N, M) bool
    lengths: dict[str, Tensor]  # {modality: (N,)} of the split

    @property
    def conditions(self) -> tuple[Condition, ...]:
        return self.protocol.conditions

    @property
    def seed(self) -> int:
        return self.protocol.seed

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
        import torch

        digests = {m: hashlib.sha256() for m in self.lengths}
        for index in torch.arange(self.present.shape[1]).split(_SAMPLES_AT_ONCE):
            lengths = {m: steps[index].unsqueeze(1) for m, steps in self.lengths.items()}
            is_data = {m: torch.arange(int(steps.max())) < steps for m, steps in lengths.items()}
            for m, removed in condition.removed(index, is_data, self.seed).items():
                digests[m].update(removed[is_data[m]].numpy().tobytes())
        return {m: digest.hexdigest() for m, digest in digests.items()}


def freeze(protocol: Protocol, split: Split) -> FrozenProtocol:
    """Draw the masks of ``protocol`` for ``split``, once.

    A condition that needs a modality which no sample of the split has is left out: it would measure something else.
    """
    import torch

    from mer_lightning.masks.frames import refuse_unaligned

    protocol = protocol.among(split.there)
    drawn = [each.present(len(split), protocol.seed, protocol.modalities) for each in protocol.conditions]
    lengths = {m: split.lengths[m].cpu() for m in MODALITIES if m in split.lengths}
    for condition in protocol.conditions:
        if isinstance(condition, FrameCondition) and condition.kind in ALIGNED_KINDS:
            refuse_unaligned(f"condition '{condition.name}'", condition.kind, lengths)
    return FrozenProtocol(protocol, torch.stack(drawn), lengths)


def averages(values: Mapping[str, float], protocol: Protocol) -> dict[str, float]:
    """{name of an average: value} of one metric, given {condition: value}.

    An average is left out unless ``values`` has all of its conditions. The averages are: ``mean-7`` and ``mean-6``
    over the combinations with and without ``tav``, ``mean-3`` over those of two modalities; ``mean-X`` over all
    conditions of a protocol X of rates; ``auilc-X`` the area under the values of a protocol X of frame rates,
    sum_i (r_i+1 - r_i) (y_i + y_i+1) / 2 over r = 0.0, ..., 0.9; ``mean-seen`` and ``mean-unseen``.
    """
    import torch

    groups = means_over(values)
    for name in PROTOCOLS:
        possible = tuple(each.name for each in _conditions(name, protocol.modalities))
        groups.setdefault(f"mean-{name.removeprefix('fixed-')}", possible)
    if protocol.unseen:
        groups["mean-unseen"] = protocol.unseen
        groups["mean-seen"] = tuple(name for name in COMBINATIONS if name not in protocol.unseen)
    result = {name: fmean(values[c] for c in group) for name, group in groups.items() if values.keys() >= set(group)}
    for kind in FRAME_KINDS:
        if values.keys() >= set(PROTOCOLS[kind]):
            curve = torch.tensor([values[name] for name in PROTOCOLS[kind]], dtype=torch.float64)
            result[f"auilc-{kind}"] = float(torch.trapezoid(curve, torch.tensor(FRAME_RATES, dtype=torch.float64)))
    return result


def _conditions(name: str, modalities: Sequence[str]) -> Iterator[Condition]:
    """The conditions of one name, in order. Of a missing rate's protocol, the rates that these modalities allow."""
    combinations = combinations_of(modalities)
    by_corpus = {"combinations": combinations, "complete": combinations[-1:]}
    names = by_corpus.get(name) or (COMBINATIONS if name.startswith(_UNSEEN) else PROTOCOLS.get(name, (name,)))
    made = []
    for each in names:
        condition = condition_named(each)
        if condition is None:
            raise _unknown(name)
        made.append(condition)
    if all(isinstance(condition, RateCondition) for condition in made):
        made = [condition for condition in made if condition.possible(modalities)] or made
    yield from made


def refuse_unknown(names: Sequence[str]) -> None:
    """What no corpus could meet, before there is a corpus."""
    _unseen(names)
    for name in names:
        list(_conditions(name, MODALITIES))


def _unseen(names: Sequence[str]) -> tuple[str, ...]:
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
    known = ", ".join((*BY_CORPUS, *PROTOCOLS, *_PATTERNS))
    return Refusal("--protocol", f"one of {known} or a combination", f"'{name}'", _hint(name))


def _hint(name: str) -> str:
    """What the user may have meant by ``name``."""
    if ours := our_combination(name):
        return f"did you mean {ours}?"
    every = [
        *BY_CORPUS,
        *PROTOCOLS,
        *_PATTERNS,
        *COMBINATIONS,
        *(each for group in PROTOCOLS.values() for each in group),
    ]
    near = list(dict.fromkeys(difflib.get_close_matches(name, every, n=3)))
    return f"did you mean {' or '.join(near)}?" if near else "see mer-lightning docs protocols"

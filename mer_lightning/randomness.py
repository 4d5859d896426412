"""Random numbers as pure functions of keys (seed, epoch, sample, position, ...), without a generator.

So masks are the same for any batch size, order, device or number of processes, and a further draw does not change the
others.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

# Constants of the SplitMix64 finaliser (Steele, Lea and Flood, 2014), as signed 64-bit integers: torch has no uint64
# arithmetic, and two's-complement multiplication wraps to the same bits.
_GAMMA = 0x9E3779B97F4A7C15 - 2**64
_MULTIPLIER_1 = 0xBF58476D1CE4E5B9 - 2**64
_MULTIPLIER_2 = 0x94D049BB133111EB - 2**64


def _shift_right(bits: Tensor, by: int) -> Tensor:
    return (bits >> by) & ((1 << (64 - by)) - 1)


def _mix(bits: Tensor) -> Tensor:
    bits = (bits ^ _shift_right(bits, 30)) * _MULTIPLIER_1
    bits = (bits ^ _shift_right(bits, 27)) * _MULTIPLIER_2
    return bits ^ _shift_right(bits, 31)


def uniform(*keys: int | Tensor) -> Tensor:
    """Numbers in [0, 1), one for each element of the broadcast integer ``keys``; float64."""
    import torch  # here, because names have keys before there is a number to draw

    state = torch.zeros((), dtype=torch.int64)  # on the host: single numbers need no device
    for key in keys:
        key = torch.as_tensor(key, dtype=torch.int64)
        state = _mix((state ^ _mix(key + _GAMMA)) + _GAMMA)
    return _shift_right(state, 11).double() / 2**53


def name_key(name: str) -> int:
    """A stable integer key for a name, to use with :func:`uniform`."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "big")

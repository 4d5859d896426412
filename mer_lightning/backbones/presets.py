"""Whose faults a backbone repeats: those of a released implementation, for comparison, or none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Preset = Literal["fixed", "mmsa", "official"]


def resolve(
    preset: Preset, faults: Mapping[str, tuple[Preset, ...]], given: Mapping[str, bool | None]
) -> dict[str, bool]:
    """{switch: whether the fault is there}.

    ``faults`` says for each switch which presets have the fault; ``given`` holds what the user set by hand, None where
    the preset decides.
    """
    return {
        switch: (preset in presets) if given.get(switch) is None else bool(given[switch])
        for switch, presets in faults.items()
    }

"""Which released implementation a backbone equals, for comparison: every difference from it is a switch.

Most switches are faults of the release; a few are choices of its authors that `fixed` makes in another way. Under the
preset of a release all of its switches are on, and each can be set by hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Preset = Literal["fixed", "mmsa", "official"]


def resolve(
    preset: Preset, faults: Mapping[str, tuple[Preset, ...]], given: Mapping[str, bool | None]
) -> dict[str, bool]:
    """{switch: whether it is on}.

    ``faults`` names the presets that turn each switch on; ``given`` holds what the user set by hand, None where the
    preset decides.
    """
    return {
        switch: (preset in presets) if given.get(switch) is None else bool(given[switch])
        for switch, presets in faults.items()
    }

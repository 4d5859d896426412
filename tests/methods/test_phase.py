"""How the phases of a method divide the epochs of a run."""

from __future__ import annotations

import pytest

from mer_lightning.methods.phase import Phase, epochs_of


@pytest.mark.parametrize(
    ("lengths", "max_epochs", "expected"),
    [
        ((1.0,), 40, [40]),
        ((1.0, 2.5, 1.0), 18, [4, 10, 4]),
        ((1.0, 2.5, 1.0), 40, [9, 22, 9]),
        ((2.0, 5.0, 2.0), 40, [9, 22, 9]),  # lengths are relative
        ((1.0, 1.0, 1.0), 20, [7, 6, 7]),
        ((1.0, 2.5, 1.0), 1, [1, 1, 1]),  # no phase without an epoch
        ((1.0, 2.5), -1, [-1, -1]),
    ],
)
def test_phases_divide_the_epochs(lengths: tuple[float, ...], max_epochs: int, expected: list[int]) -> None:
    phases = [Phase(str(number), lambda batch: {}, epochs=length) for number, length in enumerate(lengths)]
    actual = epochs_of(phases, max_epochs)
    assert list(actual) == [phase.name for phase in phases]
    assert list(actual.values()) == expected

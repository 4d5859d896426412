"""Numbers as tables print them."""

from __future__ import annotations

import math

import pytest

from mer_lightning.numerals import interval, number, spread


@pytest.mark.parametrize(
    ("value", "sign", "expected"),
    [
        (0.6124, "", ".612"),
        (-0.0404, "", "-.040"),
        (0.0031, "+", "+.003"),
        (1.0, "", "1.000"),
        (0.99996, "", "1.000"),
        (10.123, "", "10.123"),  # the zero of ten is not one to leave out
        (-20.5, "+", "-20.500"),
        (math.nan, "", ""),
        (None, "", ""),
    ],
)
def test_numbers(value: float | None, sign: str, expected: str) -> None:
    assert number(value, sign) == expected


def test_spreads_and_intervals() -> None:
    assert spread(0.5, 0.01) == ".500±.010"
    assert spread(0.5, math.nan) == ".500"
    assert interval(-0.01, 0.032) == "-.010 to +.032"

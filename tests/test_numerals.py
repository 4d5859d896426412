"""Numbers as tables print them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mer_lightning.numerals import interval, number, p_value, spread


@pytest.mark.parametrize(
    ("value", "sign", "expected"),
    [
        (0.6124, "", ".612"),
        (-0.0404, "", "-.040"),
        (0.0031, "+", "+.003"),
        (1.0, "", "1.000"),
        (-0.0003, "+", ".000"),
        (0.0003, "+", ".000"),
        (0.99996, "", "1.000"),
        (10.123, "", "10.123"),  # the zero of ten is not one to leave out
        (-20.5, "+", "-20.500"),
        (math.nan, "", ""),
        (None, "", ""),
    ],
)
def test_numbers(value: float | None, sign: str, expected: str) -> None:
    assert number(value, sign) == expected


def test_numbers_of_numpy_print_alike() -> None:
    assert number(np.float64(0.225), decimals=2) == number(0.225, decimals=2)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.0004, "<.001"), (0.0005, ".001"), (0.041, ".041"), (0.9996, "1"), (1.0, "1"), (math.nan, ""), (None, "")],
)
def test_p_values(value: float | None, expected: str) -> None:
    assert p_value(value) == expected


def test_intervals() -> None:
    assert interval(-0.01, 0.032) == "-.010 to +.032"
    assert interval(-math.inf, math.inf) == "-∞ to ∞"


@pytest.mark.parametrize(
    ("mean", "deviation", "expected"),
    [
        (0.5, math.nan, ".500"),  # one run
        (0.5361, 0.0114, ".536±.011"),  # a first digit of 1 takes another one along
        (0.4112, 0.0214, ".41±.02"),
        (0.5361, 0.0021, ".536±.002"),
        (0.5361, 0.00002, ".536±.000"),
        (0.5361, 0.0, ".536±.000"),
        (0.612, 0.31, ".6±.3"),
        (10.25, 1.94, "10.2±1.9"),
        (10.25, 2.3, "10±2"),
        (1253.4, 23.0, "1253±23"),
        (math.nan, math.nan, ""),
    ],
)
def test_as_many_digits_as_the_deviation_allows(mean: float, deviation: float, expected: str) -> None:
    assert spread(mean, deviation) == expected

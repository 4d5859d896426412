"""Numbers as in the tables of this field: three digits at most, and no zero before the point."""

from __future__ import annotations

import math

_DECIMALS = 3


def number(value: float | None, sign: str = "", decimals: int = _DECIMALS) -> str:
    """`.612`, `-.040`, `10.250`; with the sign "+" also `+.003`; empty for None and NaN.

    What prints as 0 has no sign.
    """
    if value is None or value != value:
        return ""
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    rounded = round(float(value), decimals) or 0.0  # no minus zero; NumPy's numbers round .225 in another way
    written = f"{rounded:{sign if rounded else ''}.{decimals}f}"
    whole, point, rest = written.partition(".")
    return f"{whole.removesuffix('0')}.{rest}" if point and whole.lstrip("+-") == "0" else written


def digits_allowed(deviation: float) -> int:
    """Decimals of a number that is known up to this deviation, whose first digit is then the last one printed.

    A deviation that begins with 1 keeps one digit more: .14 would lose a third of itself as .1.
    """
    if not deviation > 0 or math.isinf(deviation):
        return _DECIMALS
    first = math.floor(math.log10(deviation))
    return min(max(-first + (deviation < 2 * 10.0**first), 0), _DECIMALS)


def spread(mean: float | None, deviation: float) -> str:
    """`.612±.014`, `.61±.04`: as many digits as the deviation allows; the mean alone where there is one run."""
    if deviation != deviation:
        return number(mean)
    decimals = digits_allowed(deviation)
    return f"{number(mean, decimals=decimals)}±{number(deviation, decimals=decimals)}"


def p_value(value: float | None) -> str:
    """`.041`, `1`; `<.001` for what would print as zero, which no p-value is."""
    if value is None or value != value:
        return ""
    return "<.001" if value < 0.0005 else "1" if value >= 0.9995 else number(value)


def interval(low: float, high: float) -> str:
    """`-.010 to +.032`"""
    return f"{number(low, '+')} to {number(high, '+')}"

"""Numbers as in the tables of this field: three digits, and no zero before the point."""

from __future__ import annotations


def number(value: float | None, sign: str = "") -> str:
    """`.612`, `-.040`, `10.250`; with the sign "+" also `+.003`; empty for None and NaN."""
    if value is None or value != value:
        return ""
    written = f"{value:{sign}.3f}"
    whole, _, rest = written.partition(".")
    return f"{whole.removesuffix('0')}.{rest}" if whole.lstrip("+-") == "0" else written


def spread(mean: float | None, deviation: float) -> str:
    """`.612±.010`; the mean alone where there is one run."""
    return number(mean) + (f"±{number(deviation)}" if deviation == deviation else "")


def interval(low: float, high: float) -> str:
    """`-.010 to +.032`"""
    return f"{number(low, '+')} to {number(high, '+')}"

"""Drawing: one panel of a figure as SVG, in the colours and type of the page.

Lines, dots and bands are given in the units of the data, and their colours by what they are: ``method`` (what the panel
is about), ``other`` (all the other methods, behind it), or a reference. The page's style sheet says what these look
like, in light and in dark.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from mer_lightning.numerals import interval, number

WIDTH, HEIGHT = 290, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 10, 8, 30
LETTER = 5.8  # mean width of a letter of the panel's type


@dataclass(frozen=True)
class Panel:
    """One small picture with its name above it."""

    name: str
    svg: str


@dataclass(frozen=True)
class SmallMultiples:
    """Panels that are read in the same way, with a title, a sentence on how, and what their lines mean."""

    title: str
    how: str
    panels: list[Panel]
    key: dict[str, str] = field(default_factory=dict)  # {kind of mark: what it stands for}
    wide: bool = False

    @property
    def roomy(self) -> bool:
        """Three panels in a row instead of four, where they are few or the last row would be nearly empty."""
        return len(self.panels) in (1, 2, 3, 5, 6, 9)


@dataclass(frozen=True)
class Scale:
    """From the units of the data to places in the panel."""

    low: float
    high: float
    begin: float
    end: float

    def __call__(self, value: float) -> float:
        return self.begin + (value - self.low) / (self.high - self.low) * (self.end - self.begin)

    def ticks(self, about: int = 5) -> list[float]:
        """Round numbers within the scale: multiples of 1, 2 or 5 times a power of ten."""
        rough = (self.high - self.low) / about
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * (1 - 1e-9))
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [each * step for each in range(first, last + 1)]


def span(values: Sequence[float], least: float) -> tuple[float, float]:
    """The lowest and the highest of some values with a little room; at least ``least`` apart around their middle.

    Values that print alike must look alike: without a least span, a difference in the sixth digit would fill the panel.
    """
    finite = [value for value in values if math.isfinite(value)] or [0.0]
    low, high = min(finite), max(finite)
    room = max(0.06 * (high - low), (least - (high - low)) / 2)
    return low - room, high + room


class Drawing:
    """A panel while it is drawn. What is drawn later lies above."""

    def __init__(
        self,
        x: tuple[float, float],
        y: tuple[float, float],
        *,
        width: float = WIDTH,
        height: float = HEIGHT,
        left: float = _LEFT,
        bottom: float = _BOTTOM,
    ) -> None:
        self.width, self.height = width, height
        self.x = Scale(*x, left, width - _RIGHT)
        self.y = Scale(*y, height - bottom, _TOP)
        self._elements: list[str] = []

    def x_axis(self, title: str = "", labels: dict[float, str] | None = None) -> None:
        base = self.y.begin
        ticks = labels or {value: short(value) for value in self.x.ticks(5)}
        for value, label in ticks.items():
            self._text(self.x(value), base + 13, label, "middle")
        self._elements.append(f'<path class="axis" d="M{self.x.begin:.1f} {base:.1f}H{self.x.end:.1f}"/>')
        if title:
            self._text(self.x.end, self.height - 4, title, "end", "title")

    def y_axis(self, labels: dict[float, str] | None = None) -> None:
        for value, label in (labels or {value: short(value) for value in self.y.ticks()}).items():
            place = self.y(value)
            self._elements.append(f'<path class="grid" d="M{self.x.begin:.1f} {place:.1f}H{self.x.end:.1f}"/>')
            self._text(self.x.begin - 5, place + 3.5, label, "end")

    def line(self, xs: Sequence[float], ys: Sequence[float], kind: str) -> None:
        """Broken where a value is not known."""
        path, pen_is_down = [], False
        for x, y in zip(xs, ys, strict=True):
            known = math.isfinite(x) and math.isfinite(y)
            if known:
                path.append(f"{'L' if pen_is_down else 'M'}{self.x(x):.1f} {self.y(y):.1f}")
            pen_is_down = known
        if path:
            self._elements.append(f'<path class="line {kind}" d="{"".join(path)}"/>')

    def band(self, xs: Sequence[float], low: Sequence[float], high: Sequence[float], kind: str = "method") -> None:
        known = [each for each in zip(xs, low, high, strict=True) if all(map(math.isfinite, each))]
        if len(known) > 1:
            there = [f"{self.x(x):.1f} {self.y(bottom):.1f}" for x, bottom, _ in known]
            back = [f"{self.x(x):.1f} {self.y(top):.1f}" for x, _, top in reversed(known)]
            self._elements.append(f'<path class="band {kind}" d="M{"L".join([*there, *back])}Z"/>')

    def dot(self, x: float, y: float, kind: str, tip: str = "", radius: float = 3.2) -> None:
        if math.isfinite(x) and math.isfinite(y):
            title = f"<title>{escape(tip)}</title>" if tip else ""
            place = f'cx="{self.x(x):.1f}" cy="{self.y(y):.1f}" r="{radius:g}"'
            self._elements.append(f'<circle class="dot {kind}" {place}>{title}</circle>')

    def stroke(self, x: tuple[float, float], y: tuple[float, float], kind: str) -> None:
        """A straight piece of a line: a deviation, a reference within one column."""
        if all(map(math.isfinite, (*x, *y))):
            ends = f"M{self.x(x[0]):.1f} {self.y(y[0]):.1f}L{self.x(x[1]):.1f} {self.y(y[1]):.1f}"
            self._elements.append(f'<path class="line {kind}" d="{ends}"/>')

    def lead(self, x: float, y: float, right: float, down: float) -> None:
        """A thin line from a place to what stands ``right`` and ``down`` of it."""
        begin = f"{self.x(x):.1f} {self.y(y):.1f}"
        self._elements.append(f'<path class="axis" d="M{begin}l{right:.1f} {down:.1f}"/>')

    def box(self, x: tuple[float, float], y: tuple[float, float], kind: str, strength: float = 1.0) -> None:
        left, right = sorted(map(self.x, x))
        top, bottom = sorted(map(self.y, y))
        place = f'x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" height="{bottom - top:.1f}"'
        self._elements.append(f'<rect class="box {kind}" {place} fill-opacity="{strength:.2f}"/>')

    def label(
        self, x: float, y: float, text: str, anchor: str = "middle", kind: str = "", down: float = 3.5, right: float = 0
    ) -> None:
        self._text(self.x(x) + right, self.y(y) + down, text, anchor, kind)

    def panel(self, name: str, says: str) -> Panel:
        """``says`` is for those who cannot see it."""
        box = f"0 0 {self.width:g} {self.height:g}"
        opening = f'<svg viewBox="{box}" role="img" aria-label="{escape(f"{name}: {says}")}">'
        return Panel(name, opening + "".join(self._elements) + "</svg>")

    def _text(self, x: float, y: float, text: str, anchor: str, kind: str = "") -> None:
        named = f' class="{kind}"' if kind else ""
        self._elements.append(f'<text{named} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>')


_FOREST = (208.0, 20.0)


def forest_line(value: float, low: float, high: float, scale: tuple[float, float]) -> str:
    """A row of a forest plot: a difference with its interval, and where 0 is."""
    x = Scale(*scale, 4, _FOREST[0] - 4)
    begin, end = (x(min(max(each, scale[0]), scale[1])) for each in (low, high))
    kind = "sure" if low > 0 or high < 0 else "unsure"
    opening = _forest_opening(f"{number(value, '+')}, {interval(low, high)}")
    zero = f'<path class="line zero" d="M{x(0):.1f} -3V23"/>'
    line = f'<path class="line {kind}" d="M{begin:.1f} 10H{end:.1f}"/>'
    return f'{opening}{zero}{line}<circle class="dot {kind}" cx="{x(value):.1f}" cy="10" r="4"/></svg>'


def forest_axis(scale: tuple[float, float]) -> str:
    """The foot of a forest plot: what its places mean."""
    x = Scale(*scale, 4, _FOREST[0] - 4)
    parts = [f'<path class="axis" d="M4 0H{_FOREST[0] - 4:.0f}"/>']
    for value in x.ticks(4):
        label = ("+" if value > 1e-9 else "") + short(value)
        parts.append(f'<path class="axis" d="M{x(value):.1f} 0V4"/>')
        parts.append(f'<text x="{x(value):.1f}" y="16" text-anchor="middle">{label}</text>')
    return f"{_forest_opening('scale')}{''.join(parts)}</svg>"


def _forest_opening(says: str) -> str:
    return f'<svg viewBox="0 0 {_FOREST[0]:.0f} {_FOREST[1]:.0f}" role="img" aria-label="{escape(says)}">'


def short(value: float) -> str:
    """A number on an axis: `.5`, `-1`, `20`."""
    written = number(round(value, 6) + 0.0)  # no minus zero
    written = written.rstrip("0").rstrip(".") if "." in written else written
    return written or "0"


def fitting(text: str, width: float) -> str:
    """The text, or as much of it as ``width`` has room for."""
    room = max(int(width / LETTER), 2)
    return text if len(text) <= room else f"{text[: room - 1]}…"

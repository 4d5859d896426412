"""Reads a panel of a report as a person does: places beside the numbers at the axes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from xml.etree import ElementTree

import numpy as np

from mer_lightning.studies.report.charts import Panel

_SVG = re.compile(r"-?[\d.]+")


class Read:
    """``x`` and ``y``: what the labels of an axis stand for, where they are no numbers."""

    def __init__(
        self, panel: Panel, x: Mapping[str, float] | None = None, y: Mapping[str, float] | None = None
    ) -> None:
        self.root = ElementTree.fromstring(panel.svg)
        texts = [each for each in self.root if each.tag == "text" and not each.get("class")]
        across = [(each.text, float(each.get("x", ""))) for each in texts if each.get("text-anchor") == "middle"]
        up = [(each.text, float(each.get("y", "")) - 3.5) for each in texts if each.get("text-anchor") == "end"]
        self.x_labels, self.y_labels = [text for text, _ in across], [text for text, _ in up]
        self._x, self._y = _scale(across, x), _scale(up, y)

    @property
    def says(self) -> str:
        return self.root.get("aria-label", "")

    def tips(self) -> list[str]:
        return [title.text or "" for title in self.root.iter("title")]

    def dots(self, kind: str = "method") -> list[tuple[float, float]]:
        found = [each for each in self.root.iter("circle") if each.get("class") == f"dot {kind}"]
        return [self._place(float(each.get("cx", "")), float(each.get("cy", ""))) for each in found]

    def lines(self, kind: str) -> list[list[tuple[float, float]]]:
        return [self._path(each) for each in self.root.iter("path") if each.get("class") == f"line {kind}"]

    def bands(self) -> list[list[tuple[float, float]]]:
        return [self._path(each) for each in self.root.iter("path") if str(each.get("class")).startswith("band")]

    def boxes(self, kind: str) -> list[tuple[float, float, float, float]]:
        """(left, bottom, right, top) of each."""
        found = []
        for each in self.root.iter("rect"):
            if each.get("class") == f"box {kind}":
                left, top, width, height = (float(each.get(name, "")) for name in ("x", "y", "width", "height"))
                found.append((*self._place(left, top + height), *self._place(left + width, top)))
        return found

    def _path(self, element: ElementTree.Element) -> list[tuple[float, float]]:
        numbers = [float(each) for each in _SVG.findall(element.get("d", ""))]
        return [self._place(*each) for each in zip(numbers[::2], numbers[1::2], strict=True)]

    def _place(self, x: float, y: float) -> tuple[float, float]:
        return float(np.polyval(self._x, x)), float(np.polyval(self._y, y))


def _scale(labels: list[tuple[str | None, float]], means: Mapping[str, float] | None) -> np.ndarray:
    values = [means[str(text)] if means else float(str(text)) for text, _ in labels]
    return np.polyfit([place for _, place in labels], values, 1)

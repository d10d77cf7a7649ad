"""A small drawing board for inline SVG: elements, a linear scale, round tick values. Knows nothing of training.

Colours come from the page's style sheet through class names, so that a picture follows light and dark. The tree
is built by `xml.etree`, which escapes every text.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

__all__ = ["Drawing", "Scale", "ticks"]


@dataclass(frozen=True)
class Scale:
    """Maps the values `low` to `high` linearly onto the pixels `start` to `end`, and no further."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The pixel of `value`; a value outside is drawn at the edge."""
        span = self.high - self.low
        part = (value - self.low) / span if span > 0 else 0.5
        return self.start + min(1.0, max(0.0, part)) * (self.end - self.start)


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round values (1, 2 or 5 times a power of ten apart) between `low` and `high`, at most `most` of them."""
    span = high - low
    if not (span > 0 and math.isfinite(span)):
        return [low] if math.isfinite(low) else []
    power = 10.0 ** math.floor(math.log10(span / most))
    for step in (power, 2 * power, 5 * power, 10 * power, 20 * power):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first + 1 <= most:
            break
    # A product may be rounded to the far side of an end that it stands for.
    return [min(max(number * step, low), high) for number in range(first, last + 1)]


class Drawing:
    """One picture; `title` and `description` are what a screen reader says of it."""

    def __init__(self, width: float, height: float, title: str, description: str, name: str) -> None:
        self.width, self.height = width, height
        self._root = ElementTree.Element("svg", {
            "viewBox": f"0 0 {_round(width)} {_round(height)}", "width": _round(width), "height": _round(height),
            "role": "img", "aria-labelledby": f"{name}-title {name}-text",
        })  # fmt: skip
        ElementTree.SubElement(self._root, "title", {"id": f"{name}-title"}).text = title
        ElementTree.SubElement(self._root, "desc", {"id": f"{name}-text"}).text = description

    def line(self, x1: float, y1: float, x2: float, y2: float, style: str) -> None:
        """A straight line."""
        self._add("line", style, x1=x1, y1=y1, x2=x2, y2=y2)

    def path(self, points: Iterable[tuple[float, float]], style: str) -> None:
        """An open line through `points`."""
        corners = " L".join(f"{_round(x)},{_round(y)}" for x, y in points)
        if corners:
            ElementTree.SubElement(self._root, "path", {"d": f"M{corners}", "class": style})

    def bar(self, x: float, y: float, width: float, height: float, style: str, told: str = "") -> None:
        """A rectangle; `told` is shown under the pointer."""
        element = self._add("rect", style, x=x, y=y, width=width, height=height)
        if told:
            ElementTree.SubElement(element, "title").text = told

    def dot(self, x: float, y: float, radius: float, style: str) -> None:
        """A filled circle."""
        self._add("circle", style, cx=x, cy=y, r=radius)

    def text(self, x: float, y: float, text: str, style: str = "", anchor: str = "start") -> None:
        """A line of text; `anchor` is start, middle or end."""
        element = self._add("text", style, x=x, y=y)
        element.set("text-anchor", anchor)
        element.text = text

    def x_axis(
        self,
        scale: Scale,
        y: float,
        values: Sequence[tuple[float, str]],
        label: str,
        top: float | None = None,
    ) -> None:
        """Ticks with their texts under `y`, the label with its unit below them; grid lines up to `top`."""
        for value, text in values:
            if top is not None:
                self.line(scale(value), top, scale(value), y, "grid")
            self.text(scale(value), y + 18, text, "tick", "middle")
        self.text((scale.start + scale.end) / 2, y + 38, label, "label", "middle")

    def y_axis(self, scale: Scale, left: float, right: float, values: Sequence[tuple[float, str]]) -> None:
        """Grid lines from `left` to `right` with their texts before them."""
        for value, text in values:
            self.line(left, scale(value), right, scale(value), "grid")
            self.text(left - 8, scale(value) + 4, text, "tick", "end")

    def render(self) -> str:
        """The picture as an SVG element for an HTML page."""
        return ElementTree.tostring(self._root, encoding="unicode")

    def _add(self, tag: str, style: str, **numbers: float) -> ElementTree.Element:
        attributes = {name: _round(value) for name, value in numbers.items()}
        if style:
            attributes["class"] = style
        return ElementTree.SubElement(self._root, tag, attributes)


def _round(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")

"""The pictures of a report: rows of dots with whiskers, and a scatter with its front. Each for a given width."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import nomoat.tune
from nomoat.tune.report_svg import Drawing, Scale, ticks

__all__ = ["TEMPLATES", "Axis", "Mark", "Point", "Row", "rows_chart", "scatter", "standalone"]

TEMPLATES = (Path(__file__).parent / "report_templates", Path(nomoat.tune.__path__[0]) / "report_templates")
"""Where pages and style sheets lie: measuring's own, then those of the training report, for one look."""
_CHARACTER = 7.2  # pixels of an average character at 13 px
_BOLD = 8.0  # and of a bold one
_NARROW = 500.0  # a picture up to this width is for a phone


@dataclass(frozen=True)
class Axis:
    """What runs along an axis: its label with the unit, the texts of values and ticks, fixed ends if any."""

    label: str
    show: Callable[[float], str]
    tick: Callable[[float], str]
    low: float | None = 0.0
    high: float | None = None


@dataclass(frozen=True)
class Mark:
    """A value with the ends of its whisker; `style` is before or after."""

    value: float
    interval: tuple[float, float] | None
    style: str


@dataclass(frozen=True)
class Row:
    """One thing measured: its marks one under the other, and a line at `reference` (chance)."""

    label: str
    marks: tuple[Mark, ...]
    reference: float | None = None


@dataclass(frozen=True)
class Point:
    """A place in a scatter; `best` where nothing dominates it."""

    label: str
    x: float
    y: float
    interval: tuple[float, float] | None
    best: bool


def rows_chart(rows: Sequence[Row], axis: Axis, title: str, name: str, width: float) -> str:
    """Rows with their label above, whiskers on one common axis, and the values at the right."""
    tell = _told if width > _NARROW else _told_briefly
    right = width - max(len(tell(mark, axis)) for row in rows for mark in row.marks) * _BOLD - 12
    height = sum(26 + 22 * len(row.marks) for row in rows)
    description = "; ".join(
        f"{row.label}: {', '.join(_told(mark, axis) for mark in row.marks)}" for row in rows
    )
    drawing = Drawing(width, height + 52, title, description, name)
    most = max(mark.interval[1] if mark.interval else mark.value for row in rows for mark in row.marks)
    scale = Scale(axis.low or 0.0, axis.high or most * 1.05 or 1.0, 10, right)
    marks = [(value, axis.tick(value)) for value in ticks(scale.low, scale.high, 6 if width > _NARROW else 4)]
    drawing.x_axis(scale, height + 4, marks, "", 0)
    drawing.text(0, height + 42, axis.label, "label")
    y = 0.0
    for row in rows:
        drawing.text(0, y + 16, row.label, "row")
        if row.reference is not None:
            x = scale(row.reference)
            drawing.line(x, y + 22, x, y + 24 + 22 * len(row.marks), "chance")
        for number, mark in enumerate(row.marks):
            line = y + 34 + 22 * number
            _mark(drawing, scale, line, mark)
            drawing.text(width, line + 4, tell(mark, axis), f"told {mark.style}", "end")
        y += 26 + 22 * len(row.marks)
    return drawing.render()


def scatter(points: Sequence[Point], x_axis: Axis, y_axis: Axis, title: str, name: str, width: float) -> str:
    """Points with whiskers upright; a line joins those that nothing dominates."""
    left, top, bottom, right = 52.0, 30.0, 330.0, width - 16.0
    told = "; ".join(f"{p.label}: {x_axis.show(p.x)}, {y_axis.show(p.y)}{', not dominated' if p.best else ''}"
                     for p in points)  # fmt: skip
    drawing = Drawing(width, bottom + 48, title, told, name)
    xs = [point.x for point in points]
    ys = [value for point in points for value in (point.y, *(point.interval or ()))]
    x, y = Scale(0.0, max(xs) * 1.12 or 1.0, left, right), Scale(*_room(ys), bottom, top)
    drawing.text(0, 13, y_axis.label, "label")
    drawing.y_axis(y, left, right, [(value, y_axis.tick(value)) for value in ticks(y.low, y.high, 6)])
    drawing.x_axis(
        x, bottom, [(v, x_axis.tick(v)) for v in ticks(0, x.high, 6 if width > _NARROW else 4)], x_axis.label
    )
    best = sorted((point for point in points if point.best), key=lambda point: point.x)
    drawing.path([(x(point.x), y(point.y)) for point in best], "front")
    for point in points:
        style = "after" if point.best else "before"
        if point.interval is not None:
            drawing.line(
                x(point.x), y(point.interval[0]), x(point.x), y(point.interval[1]), f"whisker thin {style}"
            )
        drawing.dot(x(point.x), y(point.y), 6, f"dot {style}")
    taken: list[tuple[float, float]] = []
    for point in points:  # after all dots, which would cover them
        _label(drawing, (x(point.x), y(point.y)), point, width, taken)
    return drawing.render()


def standalone(svg: str) -> str:
    """The picture as a file of its own: with its name space and the style that the page would give it."""
    style = "\n".join(_picture_style())
    opening, rest = svg.split(">", 1)
    opening = opening.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    paper = '<rect width="100%" height="100%" class="paper"/>'
    return f"{opening}><style>\n{style}\n</style>{paper}{rest}\n"


def _mark(drawing: Drawing, scale: Scale, y: float, mark: Mark) -> None:
    if mark.interval is not None:
        low, high = map(scale, mark.interval)
        drawing.line(low, y, high, y, f"whisker {mark.style}")
        for end in (low, high):
            drawing.line(end, y - 5, end, y + 5, f"whisker {mark.style}")
    drawing.dot(scale(mark.value), y, 5, f"dot {mark.style}")


def _told(mark: Mark, axis: Axis) -> str:
    if mark.interval is None:
        return axis.show(mark.value)
    return f"{axis.show(mark.value)} ({axis.show(mark.interval[0])} to {axis.show(mark.interval[1])})"


def _told_briefly(mark: Mark, axis: Axis) -> str:
    return axis.show(mark.value)


def _room(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = 0.12 * (high - low) or 0.1 * abs(high) or 1.0
    return low - room, high + room


def _label(
    drawing: Drawing, place: tuple[float, float], point: Point, width: float, taken: list[tuple[float, float]]
) -> None:
    """The name beside its point, on the side with room, and below a label that is there already."""
    x, y = place
    end = x + 12 + len(point.label) * _CHARACTER > width
    line = y - 10
    while any(abs(line - other_y) < 15 and abs(x - other_x) < 160 for other_x, other_y in taken):
        line += 15
    taken.append((x, line))
    drawing.text(x - 10 if end else x + 10, line, point.label, f"name {'after' if point.best else 'before'}",
                 "end" if end else "start")  # fmt: skip


def _picture_style() -> list[str]:
    """The colours, and the rules that begin with svg, of the pages' style sheets."""
    lines = []
    for folder, name in zip(TEMPLATES, ("measure.css", "report.css"), strict=True):
        text = (folder / name).read_text(encoding="utf-8")
        colours, _, rules = text.partition("* {") if "* {" in text else ("", "", text)
        lines += [colours.strip(), *(line for line in rules.splitlines() if line.startswith("svg "))]
    return [line for line in lines if line]

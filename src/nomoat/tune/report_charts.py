"""The pictures of a report, each for a given width in pixels: a wide page and a phone get one each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nomoat.tune.figures import bits, interval_text, share, signed_bits
from nomoat.tune.intervals import Interval
from nomoat.tune.report_facts import Curve
from nomoat.tune.report_svg import Drawing, Scale, ticks

__all__ = ["BITS", "SHARE", "Units", "change_chart", "interval_chart", "loss_chart"]

_RIGHT = 14.0  # room for half of the last tick's text
_MOST_BARS = 220


@dataclass(frozen=True)
class Units:
    """How an axis speaks: its label with the unit, the texts of values and ticks, its end if that is fixed."""

    label: str
    show: Callable[[float], str]
    tick: Callable[[float], str]
    end: float | None = None


def interval_chart(
    before: Interval, after: Interval, units: Units, title: str, name: str, width: float
) -> str:
    """Two dots with whiskers on one axis from 0: the value before and after, each with its 95 % interval."""
    left, top, row = 62.0, 34.0, 58.0
    bottom = top + 2 * row - 14
    told = [f"{when}: {units.show(part.estimate)}, 95 % interval {interval_text(part, units.show)}"
            for when, part in (("Before", before), ("After", after))]  # fmt: skip
    drawing = Drawing(width, bottom + 46, title, "; ".join(told), name)
    highest = max(value for part in (before, after) for value in (part.estimate, part.high or 0.0))
    scale = Scale(0.0, units.end or highest * 1.08 or 1.0, left, width - _RIGHT - 6)
    marks = [(value, units.tick(value)) for value in ticks(0.0, scale.high, 6 if width > 500 else 5)]
    drawing.x_axis(scale, bottom, marks, units.label, top - 16)
    for number, (word, style, part) in enumerate((("before", "before", before), ("after", "after", after))):
        y = top + number * row + 10
        drawing.text(0, y + 5, word, f"row {style}")
        _whisker(drawing, scale, y, part, style)
        middle = min(max(scale(part.estimate), left + 16), scale.end - 16)
        drawing.text(middle, y - 15, units.show(part.estimate), f"value {style}", "middle")
    return drawing.render()


def change_chart(before: np.ndarray, after: np.ndarray, unit: str, name: str, width: float) -> str:
    """Every held-out document's change in bits per byte, sorted: what hangs down is predicted better."""
    order = np.argsort(after - before, kind="stable")
    shown = order[np.unique(np.linspace(0, len(order) - 1, min(len(order), _MOST_BARS)).round().astype(int))]
    changes = (after - before)[shown]
    left, right, top, height = 46.0, width - 6.0, 34.0, 180.0
    better, worse = int((after < before).sum()), int((after > before).sum())
    told = f"{better} of {len(order)} {unit} are predicted better than before, {worse} worse."
    drawing = Drawing(width, top + height + 30, f"Change of the {unit}", told, name)
    low, high = min(0.0, float(changes.min())), max(0.0, float(changes.max()))
    room = 0.06 * (high - low) or 0.5
    y = Scale(low - room * (low < 0), high + room * (high > 0), top + height, top)
    drawing.text(0, 13, "change in bits per byte", "label")
    drawing.y_axis(y, left, right, [(v, _signed(v)) for v in ticks(y.low, y.high, 5)])
    slot = (right - left) / len(shown)
    for place, index in enumerate(shown):
        _change(drawing, y, left + place * slot, slot, (float(before[index]), float(after[index])))
    drawing.line(left, y(0), right, y(0), "axis")
    drawing.text((left + right) / 2, top + height + 22, f"{unit}, sorted", "label", "middle")
    return drawing.render()


def loss_chart(curve: Curve, before: Interval, after: Interval, name: str, width: float) -> str:
    """Loss on the training text over the run, held-out loss at both ends, and the learning rate below."""
    left, right, top, height, strip = 46.0, width - 16.0, 34.0, 220.0, 34.0
    bottom = top + height + 26 + strip
    told = (f"Training loss from {bits(float(curve.smoothed[0]))} to {bits(float(curve.smoothed[-1]))} nats per token; "
            f"held-out loss from {bits(before.estimate)} to {bits(after.estimate)}.")  # fmt: skip
    drawing = Drawing(width, bottom + 48, "Loss during training", told, name)
    x = Scale(0.0, float(curve.tokens[-1]), left, right)
    ends = [part.estimate if part.high is None else part.high for part in (before, after)]
    # One wild step must not press the rest of the picture flat.
    y = Scale(0.0, max(float(np.quantile(curve.loss, 0.99)), *ends) * 1.06 or 1.0, top + height, top)
    drawing.text(0, 13, "loss in nats per token", "label")
    drawing.y_axis(y, left, right, [(v, _plain(v)) for v in ticks(0.0, y.high, 5)])
    drawing.path(zip(map(x, curve.tokens), map(y, curve.loss), strict=True), "raw")
    drawing.path(zip(map(x, curve.tokens), map(y, curve.smoothed), strict=True), "smooth")
    for place, part, style in ((0.0, before, "before"), (x.high, after, "after")):
        _upright(drawing, x(place), y, part, style)
    _rate_strip(drawing, curve, x, bottom - strip, strip)
    marks = [(value, _thousands(value)) for value in ticks(0.0, x.high, 6 if width > 500 else 4)]
    drawing.x_axis(x, bottom, marks, "tokens trained on")
    return drawing.render()


def _change(drawing: Drawing, y: Scale, left: float, slot: float, bits_of: tuple[float, float]) -> None:
    """One document: a pale bar from no change to its change, with a firm end."""
    change = bits_of[1] - bits_of[0]
    style, thick = "rise" if change > 0 else "fall", slot if slot < 8 else min(slot - 3, 36.0)
    x = left + (slot - thick) / 2
    told = f"{bits(bits_of[0])} before, {bits(bits_of[1])} after: {signed_bits(change)}"
    drawing.bar(x, min(y(0), y(change)), thick, abs(y(change) - y(0)), style, told)
    drawing.line(x, y(change), x + thick, y(change), f"edge {style}")


def _rate_strip(drawing: Drawing, curve: Curve, x: Scale, top: float, height: float) -> None:
    """The learning rate has no axis of its own: its shape and its peak are all one needs."""
    peak = float(curve.learning_rate.max())
    y = Scale(0.0, peak or 1.0, top + height, top + 4)
    drawing.line(x.start, top + height, x.end, top + height, "axis")
    drawing.path(zip(map(x, curve.tokens), map(y, curve.learning_rate), strict=True), "rate")
    drawing.text(x.end, top - 4, f"learning rate, at most {peak:.2g}", "tick", "end")


def _whisker(drawing: Drawing, scale: Scale, y: float, part: Interval, style: str) -> None:
    if part.low is not None and part.high is not None:
        low, high = scale(part.low), scale(part.high)
        drawing.line(low, y, high, y, f"whisker {style}")
        for end in (low, high):
            drawing.line(end, y - 7, end, y + 7, f"whisker {style}")
    drawing.dot(scale(part.estimate), y, 5, f"dot {style}")


def _upright(drawing: Drawing, x: float, scale: Scale, part: Interval, style: str) -> None:
    if part.low is not None and part.high is not None:
        drawing.line(x, scale(part.low), x, scale(part.high), f"whisker {style}")
    drawing.dot(x, scale(part.estimate), 5, f"dot {style}")


def _plain(value: float) -> str:
    """Ticks are round: `1.5` and `2`, not `1.50` and `2.00`."""
    return f"{value:.6g}"


def _signed(value: float) -> str:
    return f"{value:+.6g}".replace("-", "\u2212") if abs(value) > 1e-9 else "0"


def _thousands(value: float) -> str:
    if value >= 10_000_000:
        return f"{value / 1_000_000:.3g}M"
    return f"{value / 1000:.4g}k" if value >= 10_000 else f"{value:,.0f}"


BITS = Units("bits per byte (fewer is better)", bits, _plain)
SHARE = Units("right answers (more is better)", share, share, 1.0)

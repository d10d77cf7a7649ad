"""Numbers as people read them: a real minus sign, units that stay on the line of their number."""

from __future__ import annotations

from collections.abc import Callable

from nomoat.tune.intervals import Interval

__all__ = ["bits", "bytes_text", "duration", "interval_text", "share", "signed_bits"]

_MINUS = "\u2212"
_SPACE = "\u00a0"


def bits(value: float) -> str:
    """Bits per byte, or nats: two decimals, three where it is small."""
    return f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.3f}"


def signed_bits(value: float) -> str:
    """A change, with a real minus sign."""
    text = bits(abs(value))
    if float(text) == 0:
        return text
    return ("+" if value > 0 else _MINUS) + text


def share(value: float) -> str:
    """0.754 -> `75 %`."""
    return f"{100 * value:.0f}{_SPACE}%"


def interval_text(interval: Interval, show: Callable[[float], str] = bits) -> str:
    """`0.70 to 0.88`, or a dash where too little was measured."""
    if interval.low is None or interval.high is None:
        return "\u2013"
    return f"{show(interval.low)} to {show(interval.high)}"


def duration(seconds: float) -> str:
    """`48 s`, `3 min 12 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}{_SPACE}s"
    if whole < 3600:
        return f"{whole // 60}{_SPACE}min {whole % 60}{_SPACE}s"
    return f"{whole // 3600}{_SPACE}h {whole % 3600 // 60:02d}{_SPACE}min"


def bytes_text(n_bytes: int) -> str:
    """`9.8 MB`, `1.36 GB`; powers of 1000."""
    if n_bytes >= 10**9:
        return f"{n_bytes / 10**9:.2f}{_SPACE}GB"
    return f"{n_bytes / 10**6:.1f}{_SPACE}MB" if n_bytes < 10**8 else f"{n_bytes / 10**6:.0f}{_SPACE}MB"

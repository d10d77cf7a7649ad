"""A QR code made of half-block characters, readable on dark terminals and on light ones."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["qr_lines"]

_QUIET_ZONE = 2
# Black on white from the fixed part of the palette: a theme does not change it, and no reader needs to invert it.
_BLACK_ON_WHITE, _RESET = "\x1b[38;5;16;48;5;231m", "\x1b[0m"
_HALVES = {(False, False): " ", (True, False): "▀", (False, True): "▄", (True, True): "█"}


def qr_lines(text: str, colours: bool) -> list[str]:
    """The lines that show `text`. Without colours, light is drawn: right where letters are light on dark."""
    import segno

    rows = [list(map(bool, row)) for row in segno.make(text, micro=False, error="l").matrix]
    width = len(rows) + 2 * _QUIET_ZONE
    empty = [[False] * width for _ in range(_QUIET_ZONE)]
    rows = [*empty, *([False] * _QUIET_ZONE + row + [False] * _QUIET_ZONE for row in rows), *empty]
    if len(rows) % 2:
        rows.append([False] * width)
    pairs = zip(rows[::2], rows[1::2], strict=True)
    if colours:
        return [f"{_BLACK_ON_WHITE}{_line(upper, lower)}{_RESET}" for upper, lower in pairs]
    return [_line([not dark for dark in upper], [not dark for dark in lower]) for upper, lower in pairs]


def _line(upper: Sequence[bool], lower: Sequence[bool]) -> str:
    return "".join(_HALVES[pair] for pair in zip(upper, lower, strict=True))

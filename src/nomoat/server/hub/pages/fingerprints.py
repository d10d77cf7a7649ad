"""A pattern for each thing without a picture, woven from a digest: the same bytes always look the same."""

from __future__ import annotations

import hashlib

from markupsafe import Markup

__all__ = ["fingerprint"]

_COLUMNS, _ROWS, _TILE = 8, 5, 20
_HUES = 12


def fingerprint(text: str) -> Markup:
    """An SVG of quarter circles (after Truchet). Colours come from the style sheet, by class."""
    seed = hashlib.sha256(text.encode()).digest()
    bits = int.from_bytes(hashlib.sha512(seed).digest(), "big")
    first, second = seed[0] % _HUES, (seed[0] + 3 + seed[1] % 4) % _HUES
    tiles = []
    for index in range(_COLUMNS * _ROWS):
        kind = bits & 7
        bits >>= 3
        tiles.append(_tile(index % _COLUMNS * _TILE, index // _COLUMNS * _TILE, kind))
    width, height = _COLUMNS * _TILE, _ROWS * _TILE
    return Markup(
        f'<svg class="weave hue{first}" viewBox="0 0 {width} {height}" preserveAspectRatio="xMidYMid slice" '
        f'aria-hidden="true" focusable="false"><rect class="weave-ground" width="{width}" height="{height}"/>'
        f'<g class="hue{second}">{"".join(tiles)}</g></svg>'
    )


def _tile(x: int, y: int, kind: int) -> str:
    t = _TILE
    corner = ((x, y), (x + t, y), (x + t, y + t), (x, y + t))[kind & 3]
    if kind < 4:
        cx, cy = corner
        # A quarter disc: from the corner along one edge, round, and back along the other.
        dx, dy = (t if cx == x else -t), (t if cy == y else -t)
        sweep = 1 if dx * dy > 0 else 0
        return f'<path class="weave-a" d="M{cx} {cy}h{dx}A{t} {t} 0 0 {sweep} {cx} {cy + dy}z"/>'
    if kind == 4:
        return f'<circle class="weave-b" cx="{x + t // 2}" cy="{y + t // 2}" r="{t // 4}"/>'
    if kind == 5:
        return f'<path class="weave-b" d="M{x} {y}h{t}v{t}z"/>'
    if kind == 6:
        return f'<path class="weave-c" d="M{x} {y + t // 2}h{t}v{t // 2}h{-t}z"/>'
    return ""

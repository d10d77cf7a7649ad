"""Numbers, sizes and times as people read them. Template filters."""

from __future__ import annotations

import time
from datetime import UTC, datetime

__all__ = ["FILTERS", "ago", "count", "day", "parameters", "plural", "relation", "size"]

_STEPS = ((1 << 40, "TB"), (1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "KB"))
_AGES = ((365 * 86400, "year"), (30 * 86400, "month"), (7 * 86400, "week"), (86400, "day"),
         (3600, "hour"), (60, "minute"))  # fmt: skip
_RELATIONS = {
    "quantized": "quantised from",
    "finetune": "made from",
    "merge": "merged from",
    "dataset": "trained on",
}


def size(n_bytes: int | None) -> str:
    """`1536` -> `1.5 KB`."""
    if n_bytes is None:
        return ""
    for step, unit in _STEPS:
        if n_bytes >= step:
            value = n_bytes / step
            return f"{value:.1f} {unit}" if value < 10 else f"{value:,.0f} {unit}"
    return f"{n_bytes} B"


def count(number: int | None) -> str:
    """`1234` -> `1.2k`."""
    if number is None:
        return ""
    for step, unit in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if number >= step:
            value = number / step
            return f"{value:.1f}{unit}" if value < 10 else f"{value:,.0f}{unit}"
    return str(number)


def parameters(number: int | None) -> str:
    """`134515008` -> `135M`."""
    return count(number).replace("k", "K")


def ago(ms: int | None) -> str:
    """A moment, seen from now: `3 days ago`."""
    if not ms:
        return "never"
    seconds = time.time() - ms / 1000
    for step, unit in _AGES:
        if seconds >= step:
            number = int(seconds // step)
            return f"{number} {unit}{'s' if number > 1 else ''} ago"
    return "just now"


def day(ms: int | None) -> str:
    """A moment as a date and time of UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC") if ms else "never"


def plural(number: int, one: str, many: str = "") -> str:
    """`3` and `file` -> `3 files`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def relation(name: str) -> str:
    """How one thing relates to what it was made from, as a sentence goes on."""
    return _RELATIONS.get(name, f"{name} of")


FILTERS = {
    "size": size,
    "count": count,
    "parameters": parameters,
    "ago": ago,
    "day": day,
    "plural": plural,
    "relation": relation,
}

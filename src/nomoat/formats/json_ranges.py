"""Ranges of numbers as GBNF: which digits may follow which, so that a model cannot write a number outside."""

from __future__ import annotations

import math
from typing import Any

from nomoat.base.errors import InputError

__all__ = ["integers_between", "numbers_between"]

_MOST_DIGITS = 16
_LARGEST = 10**_MOST_DIGITS - 1
_FRACTION = '("." [0-9]{1,15})?'


def integers_between(least: Any, most: Any, above: Any = None, below: Any = None) -> str:
    """GBNF for the integers in a range; None leaves a side open (16 digits). Raises `InputError` for an empty one."""
    low = max([-_LARGEST, *(math.ceil(_number(x)) for x in [least] if x is not None)])
    high = min([_LARGEST, *(math.floor(_number(x)) for x in [most] if x is not None)])
    if above is not None:
        low = max(low, math.floor(_number(above)) + 1)
    if below is not None:
        high = min(high, math.ceil(_number(below)) - 1)
    return _integers(low, high)


def numbers_between(least: Any, most: Any, above: Any = None, below: Any = None) -> str:
    """GBNF for decimal numbers in a range with whole limits, as `integers_between`; limits of 0.5, say, are refused."""
    low = max([-_LARGEST, *(_whole(x) for x in (least, above) if x is not None)])
    high = min([_LARGEST, *(_whole(x) for x in (most, below) if x is not None)])
    if low > high or (low == high and (low == above or high == below)):
        raise _empty()
    parts = []
    if high > 0 and low < high:  # [floor .. floor + 1) for each floor
        parts += _open_steps(max(low, 0), high, above)
    if low < 0 and low < high:
        parts += [
            '"-" ' + part
            for part in _open_steps(max(-high, 0), -low, None if below is None else -_whole(below))
        ]
    parts += [f'"{end}"' for end in {low, high} if end not in (above, below)]
    return " | ".join(parts)


def _open_steps(low: int, high: int, excluded: Any) -> list[str]:
    """Decimals from `low` to just below `high` (both at least 0), without `excluded` itself."""
    parts = [f"({_integers(low, high - 1)}) {_FRACTION}"]
    if excluded is not None and low == excluded:
        parts = [f'"{low}." [0-9]{{0,14}} [1-9]']
        if low + 1 < high:
            parts.append(f"({_integers(low + 1, high - 1)}) {_FRACTION}")
    return parts


def _integers(low: int, high: int) -> str:
    if low > high:
        raise _empty()
    parts = []
    if low < 0:
        parts.append(f'"-" ({_digits(max(1, -high), -low)})')
    if high >= 0:
        parts.append(_digits(max(0, low), high))
    return " | ".join(parts)


def _digits(low: int, high: int) -> str:
    """The integers from `low` to `high`, both at least 0, by number of digits."""
    parts = []
    for length in range(len(str(low)), len(str(high)) + 1):
        start = max(low, 10 ** (length - 1) if length > 1 else 0)
        parts.append(_same_length(str(start), str(min(high, 10**length - 1))))
    return " | ".join(parts)


def _same_length(low: str, high: str) -> str:
    """Numerals between two of the same length."""
    if low == high:
        return f'"{low}"'
    rest = len(low) - 1
    if low[0] == high[0]:
        return f'"{low[0]}" ({_same_length(low[1:], high[1:])})'
    if rest == 0:
        return f"[{low}-{high}]"
    first, last = int(low[0]), int(high[0])
    parts = []
    if low[1:] != "0" * rest:
        parts.append(f'"{first}" ({_same_length(low[1:], "9" * rest)})')
        first += 1
    tail = None
    if high[1:] != "9" * rest:
        tail = f'"{last}" ({_same_length("0" * rest, high[1:])})'
        last -= 1
    if first <= last:
        parts.append(f"[{first}-{last}] [0-9]{{{rest}}}")
    return " | ".join([*parts, *([tail] if tail else [])])


def _number(value: Any) -> float | int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise InputError(f"the JSON schema limits a number by {value!r}", "use a finite number")
    return value


def _whole(value: Any) -> int:
    number = _number(value)
    if number != int(number):
        raise InputError(f"the JSON schema limits a number by {value!r}, which a grammar cannot enforce",
                         "use whole limits")  # fmt: skip
    return int(number)


def _empty() -> InputError:
    return InputError("the JSON schema has an empty range of numbers", "let the minimum be below the maximum")

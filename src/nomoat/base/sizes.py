"""Sizes as people write them: `500000`, `2GB`, `1.5 GiB`. What else is allowed (`off`, no zero), callers say."""

from __future__ import annotations

import re

from nomoat.base.errors import InputError

__all__ = ["MOST_BYTES", "parse_bytes"]

MOST_BYTES = (1 << 63) - 1
"""The largest size that a file system, or a database, can tell."""

_FORM = re.compile(r"([0-9]{1,19})(?:\.([0-9]{1,19}))?\s*(?:([kmgt])(i?))?b?", re.IGNORECASE)


def parse_bytes(text: str) -> int:
    """The whole bytes that `text` says: K, KB to TB are powers of 1000, Ki, KiB to TiB of 1024, in any case.

    Raises `InputError` for what is no size, and above `MOST_BYTES`.
    """
    found = _FORM.fullmatch(text.strip())
    if found is None:
        raise InputError(f"{text!r} is no size", "write a number of bytes, or 500MB, 2GB, 1.5GiB")
    whole, part, letter, binary = found.groups(default="")
    factor = (1024 if binary else 1000) ** " kmgt".index(letter.lower() or " ")
    size: int = int(whole + part) * factor // 10 ** len(part)  # no float: a byte counts
    if size > MOST_BYTES:
        raise InputError(f"{text!r} is more than {MOST_BYTES:,} bytes", "write a smaller size, such as 500GB")
    return size

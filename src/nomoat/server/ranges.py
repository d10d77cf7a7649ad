"""One range of bytes as a client asks for it (RFC 9110, section 14): for files of a hub and of a share alike."""

from __future__ import annotations

import re

__all__ = ["asked_bytes"]

_RANGE = re.compile(r"bytes=([0-9]{0,19})-([0-9]{0,19})")


def asked_bytes(header: str, size_bytes: int) -> tuple[int, int] | None:
    """Start and end (exclusive) of the range in a Range header; None where the whole file is due.

    That is so without a range, with several at once, and with what is none, as HTTP allows. Where there are no such
    bytes, the end is not behind the start: the answer is 416.
    """
    match = _RANGE.fullmatch(header.replace(" ", ""))
    if match is None or match.group(1, 2) == ("", ""):
        return None
    if not match[1]:
        return max(0, size_bytes - int(match[2])), size_bytes
    last = int(match[2]) if match[2] else size_bytes - 1
    return int(match[1]), min(last + 1, size_bytes)

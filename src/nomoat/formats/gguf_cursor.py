"""A cursor over the bytes of a GGUF file that never runs past the end. Knows values, not what they mean."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import Any, NoReturn

from nomoat.base.errors import BadFileError

__all__ = ["CUT_SHORT", "DAMAGED", "MOST_ELEMENTS", "Cursor"]

DAMAGED = "the file is damaged: download or copy it again, and compare its size or digest with the source"
CUT_SHORT = "the file was cut short: download or copy it again until its size agrees with the source"
# Elements of all arrays together. Far above any real model (vocabularies end at 300,000 tokens), low
# enough that a damaged count cannot fill the memory.
MOST_ELEMENTS = 1 << 23


class Cursor:
    """Reads little-endian values from a buffer and refuses to run over its end."""

    def __init__(self, buffer: mmap.mmap | bytes, size: int, path: Path) -> None:
        self.buffer, self.size, self.path = buffer, size, path
        self.at = 0
        self.elements_left = MOST_ELEMENTS
        self.place = "header"

    def fail(self, problem: str, hint: str = DAMAGED, at: int | None = None) -> NoReturn:
        """Refuse the file, naming the place and the byte `at` (the cursor's own by default)."""
        where = self.at if at is None else at
        raise BadFileError(self.path, f"{self.place}, byte {where}", problem, hint)

    def need(self, count: int, what: str) -> None:
        """Refuse when fewer than `count` bytes are left."""
        if count > self.size - self.at:
            self.fail(f"{what} needs {count:,} bytes, but {self.size - self.at:,} are left", CUT_SHORT)

    def scalar(self, code: str, what: str) -> Any:
        """One value of a struct code."""
        width = struct.calcsize("<" + code)
        self.need(width, what)
        value = struct.unpack_from("<" + code, self.buffer, self.at)[0]
        self.at += width
        return value

    def string(self, what: str) -> str:
        """A length and that many bytes of UTF-8."""
        length = self.scalar("Q", f"the length of {what}")
        self.need(length, what)
        start, self.at = self.at, self.at + length
        try:
            return self.buffer[start : self.at].decode("utf-8")
        except UnicodeDecodeError:
            self.fail(f"{what} is not UTF-8 text", at=start)

    def strings(self, count: int) -> list[str]:
        """`count` strings, in one tight loop: a vocabulary has hundreds of thousands."""
        unpack, buffer, size, at = struct.Struct("<Q").unpack_from, self.buffer, self.size, self.at
        values: list[str] = []
        try:
            for _ in range(count):
                start = at + 8
                end = start + unpack(buffer, at)[0]
                if end > size:
                    break
                values.append(buffer[start:end].decode("utf-8"))
                at = end
        except UnicodeDecodeError:
            self.fail(f"element {len(values)} is not UTF-8 text", at=at)
        except struct.error:
            pass  # ran over the end: reported below, like a string that does
        self.at = at
        if len(values) < count:
            self.fail(f"element {len(values)} of {count:,} runs over the end of the file", CUT_SHORT)
        return values

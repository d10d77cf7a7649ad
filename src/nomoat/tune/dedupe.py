"""Exact duplicates, whatever their spacing, case or Unicode form. Near-duplicates are not looked for."""

from __future__ import annotations

import hashlib
import unicodedata

from nomoat.tune.rows import Row

__all__ = ["Seen", "content_key", "normalised"]


def normalised(text: str) -> str:
    """`text` in one Unicode form (NFKC), without case, its white space reduced to single spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def content_key(row: Row) -> int:
    """64 bits that agree for rows of the same content: the text, or every role and turn of the chat.

    Two different rows of a million share a key with probability 3e-8.
    """
    if row.messages is None:
        content = f"text\0{normalised(row.text or '')}"
    else:
        content = "\0".join(f"{message.role}\1{normalised(message.content)}" for message in row.messages)
    return int.from_bytes(hashlib.blake2b(content.encode(), digest_size=8).digest())


class Seen:
    """Keys met so far: about 100 bytes for each row, whatever its length."""

    def __init__(self) -> None:
        self._keys: set[int] = set()

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def __len__(self) -> int:
        return len(self._keys)

    def is_new(self, key: int) -> bool:
        """Whether `key` comes for the first time; remembers it."""
        if key in self._keys:
            return False
        self._keys.add(key)
        return True

"""Words out of a stranger's file or answer, for a terminal or a page: nothing in them may steer that."""

from __future__ import annotations

__all__ = ["one_line", "printable"]


def printable(text: str) -> str:
    """`text` without what cannot be printed: control characters, line ends, halves of characters."""
    return "".join(letter for letter in text if letter.isprintable())


def one_line(text: str) -> str:
    """`text` in one line, its words parted by single spaces; what cannot be printed parts words, too."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())

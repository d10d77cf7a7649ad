"""Marks in what a model writes, such as `<think>` and `<tool_call>`, which may come in parts."""

from __future__ import annotations

__all__ = ["possible_start"]


def possible_start(text: str, tag: str) -> int:
    """Length of the longest end of `text` with which `tag` begins, the whole tag left out."""
    lengths = range(min(len(text), len(tag) - 1), 0, -1)
    return next((length for length in lengths if tag.startswith(text[-length:])), 0)

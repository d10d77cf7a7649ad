"""Bytes to text: encodings by their byte order mark, UTF-8 otherwise, and plain words where neither fits."""

from __future__ import annotations

import codecs
from pathlib import Path

from nomoat.base.errors import BadFileError
from nomoat.tune.importers.document import BAD_HINT

__all__ = ["decode", "encoding_of", "read_bytes", "unreadable"]

# Longest first: the mark of UTF-32 LE begins with that of UTF-16 LE.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Real text files do hold tab, line feed, vertical tab, form feed, carriage return and escape.
_BINARY_CONTROLS = bytes(sorted(set(range(32)) - {9, 10, 11, 12, 13, 27}))


def encoding_of(head: bytes) -> str:
    """The encoding that the first bytes of a file announce; UTF-8 where they announce none."""
    return next((name for mark, name in _MARKS if head.startswith(mark)), "utf-8")


def read_bytes(path: Path) -> bytes:
    """A file's content. Raises BadFileError where the system refuses it."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: OSError) -> BadFileError:
    """The operating system's refusal as an error with a remedy."""
    return BadFileError(path, "", f"cannot be read ({error.strerror or error})", BAD_HINT)


def decode(path: Path, content: bytes, legacy: bool = False) -> tuple[str, bool]:
    """Text of `content`, and whether it had to be read as Windows-1252 (only with `legacy`).

    Line ends become `\\n`. Raises BadFileError with the place of the first byte that is no text.
    """
    encoding = encoding_of(content)
    if not encoding.startswith(("utf-16", "utf-32")):
        _refuse_nul(path, content)
    try:
        return _unify_lines(content.decode(encoding)), False
    except UnicodeDecodeError as error:
        if legacy and encoding == "utf-8" and not content.translate(None, _BINARY_CONTROLS) != content:
            return _decode_legacy(path, content, error), True
        raise _not_text(path, encoding, content, error) from error


def _refuse_nul(path: Path, content: bytes) -> None:
    place = content.find(b"\0")
    if place >= 0:
        problem = "NUL byte: a binary file, or UTF-16 without a byte order mark"
        raise BadFileError(path, f"byte {place}", problem, f"save it as UTF-8; or {BAD_HINT}")


def _decode_legacy(path: Path, content: bytes, cause: UnicodeDecodeError) -> str:
    try:
        return _unify_lines(content.decode("cp1252"))
    except UnicodeDecodeError as error:
        raise _not_text(path, "utf-8", content, cause) from error


def _not_text(path: Path, encoding: str, content: bytes, error: UnicodeDecodeError) -> BadFileError:
    name = {"utf-8": "UTF-8", "utf-8-sig": "UTF-8", "utf-16": "UTF-16", "utf-32": "UTF-32"}[encoding]
    start = min(error.start, len(content) - 1)
    line = content.count(b"\n", 0, start) + 1
    problem = f"not {name} text (byte 0x{content[start]:02x})"
    return BadFileError(path, f"byte {error.start}, line {line}", problem, f"save it as UTF-8; or {BAD_HINT}")


def _unify_lines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")

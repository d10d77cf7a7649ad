"""The values of a .json file, one after the other, without holding the file: a list, or values in a row."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from nomoat.base.errors import BadFileError
from nomoat.tune.importers.document import BAD_HINT
from nomoat.tune.importers.reading import encoding_of, unreadable

__all__ = ["json_values"]

_CHUNK_BYTES = 1 << 20
_SPACE = re.compile(r"[ \t\n\r]*")


def json_values(path: Path) -> Iterator[Any]:
    """Items of the list that `path` holds, or its values where it holds several (JSON lines named .json).

    Memory: the largest single value. Raises BadFileError with the line at which the JSON is broken.
    """
    try:
        with path.open("rb") as handle:
            yield from _Values(path, handle)
    except OSError as error:
        raise unreadable(path, error) from error


class _Values:
    """A window over the decoded file: `_text` from `_at` on is not parsed yet; each read drops what is."""

    def __init__(self, path: Path, handle: BinaryIO) -> None:
        self._path, self._handle = path, handle
        head = handle.read(4)
        handle.seek(0)
        self._decoder = codecs.getincrementaldecoder(encoding_of(head))()
        self._parser = json.JSONDecoder()
        self._text, self._at, self._ended = "", 0, False
        self._lines_dropped = 0

    def __iter__(self) -> Iterator[Any]:
        if self._next_character() == "[":
            self._at += 1
            yield from self._list_items()
            if self._next_character():
                raise self._broken("more text after the end of the list", self._at)
        while self._next_character():
            yield self._value()

    def _list_items(self) -> Iterator[Any]:
        while (character := self._next_character()) != "]":
            if not character:
                raise self._broken("the list does not end: the file is cut short", self._at)
            yield self._value()
            if self._next_character() == ",":
                self._at += 1
            elif self._next_character() not in ("]", ""):
                raise self._broken("a comma or the end of the list is missing", self._at)
        self._at += 1

    def _value(self) -> Any:
        wanted = _CHUNK_BYTES
        while True:
            try:
                value, end = self._parser.raw_decode(self._text, self._at)
            except RecursionError as error:
                raise self._broken("nested too deep", self._at) from error
            except json.JSONDecodeError as error:
                if self._ended or not self._may_be_cut(error):
                    raise self._broken(error.msg, error.pos) from error
            except ValueError as error:  # an integer of thousands of digits
                raise self._broken(str(error).split(":")[0], self._at) from error
            else:
                # A number that ends with the window may go on in the file.
                if end < len(self._text) or self._ended:
                    self._at = end
                    return value
            self._read(wanted)
            wanted *= 2

    def _may_be_cut(self, error: json.JSONDecodeError) -> bool:
        """Whether more of the file could cure `error`; 16 characters hold any cut literal or escape."""
        return error.msg.startswith("Unterminated string") or error.pos >= len(self._text) - 16

    def _next_character(self) -> str:
        """The next character that is no space, not taken; empty at the end of the file."""
        while True:
            space = _SPACE.match(self._text, self._at)
            self._at = space.end() if space else self._at
            if self._at < len(self._text) or self._ended:
                return self._text[self._at : self._at + 1]
            self._read(_CHUNK_BYTES)

    def _read(self, n_bytes: int) -> None:
        chunk = self._handle.read(n_bytes)
        self._ended = not chunk
        try:
            more = self._decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            raise self._broken(f"not UTF-8 text ({error.reason})", len(self._text)) from error
        self._lines_dropped += self._text.count("\n", 0, self._at)
        self._text = self._text[self._at :] + more
        self._at = 0

    def _broken(self, problem: str, position: int) -> BadFileError:
        line = self._lines_dropped + self._text.count("\n", 0, position) + 1
        return BadFileError(self._path, f"line {line}", f"not valid JSON: {problem}", BAD_HINT)

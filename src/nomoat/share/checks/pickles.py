"""Whether bytes are a pickle: a walk along its opcodes as the unpickler would take it, without loading anything.

The table of opcodes is that of the standard library. Where the walk cannot go on, an unpickler stops as well; what it
was made to call before that, it has called. So a call is looked for in every step, and an end only for plain values.
"""

from __future__ import annotations

import io
import pickletools
import re
from typing import BinaryIO

__all__ = ["is_pickle"]

_WINDOW_BYTES = 1 << 20
# What can be walked so far, opcode by opcode, is nothing else.
_MOST_STEPS, _MOST_IN_RUNS = 500_000, 256 << 20
_LONGEST_LINE = 300  # as much as is kept of one
_OPCODES = {ord(each.code): each for each in pickletools.opcodes}
# Values of one byte, or of two: a run of them is one step.
_RUN = re.compile(rb"([N\x88\x89)\]}\x8f]++)|((?:K.)++)", re.DOTALL)
_TEXTS = {
    "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE", "STRING", "BINSTRING", "SHORT_BINSTRING",
}  # fmt: skip
_CALLING = {"REDUCE", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "BUILD"}
_NAME = re.compile(r"[\w.]+")
_LENGTHS = {
    pickletools.TAKEN_FROM_ARGUMENT1: (1, False), pickletools.TAKEN_FROM_ARGUMENT4: (4, True),
    pickletools.TAKEN_FROM_ARGUMENT4U: (4, False), pickletools.TAKEN_FROM_ARGUMENT8U: (8, False),
}  # fmt: skip
_TWO_LINES = {"GLOBAL", "INST"}
_HIGHEST_PROTOCOL = 5


def is_pickle(reader: BinaryIO) -> bool:
    """Whether what begins here names something and calls it, or is a whole pickle of protocol 2 to 5."""
    return _Walk(reader).finds_one()


class _Stopped(Exception):
    """Here an unpickler fails, if it comes so far."""


class _Walk:
    """A walk through one or several pickles, one behind the other as old files of PyTorch have them."""

    def __init__(self, reader: BinaryIO) -> None:
        self._bytes = _Window(reader)
        self._depth, self._marks = 0, [0]
        self._has_text = self._has_name = False

    def finds_one(self) -> bool:
        """See `is_pickle`."""
        says_so, in_runs = self._bytes.peek(1) == b"\x80", 0
        try:
            for _ in range(_MOST_STEPS):
                run = self._bytes.skip_run()
                self._depth, in_runs = self._depth + run, in_runs + run
                if in_runs > _MOST_IN_RUNS:
                    break
                code = self._bytes.take(1)[0]
                if code not in _OPCODES:
                    return False
                opcode = _OPCODES[code]
                self._argument(opcode)
                self._move(opcode)
                if self._has_name and opcode.name in _CALLING:
                    return True
                if opcode.name == "STOP":
                    if says_so:
                        return True
                    self._depth, self._marks = 0, [0]
        except _Stopped:
            return False
        return True

    def _argument(self, opcode: pickletools.OpcodeInfo) -> None:
        size = opcode.arg.n if opcode.arg else 0
        name = opcode.name
        if name in _TWO_LINES:
            if not all(_NAME.fullmatch(self._bytes.line().decode("utf-8", "replace")) for _ in range(2)):
                raise _Stopped
            self._has_name = True
        elif size == pickletools.UP_TO_NEWLINE:
            self._has_text |= bool(self._bytes.line().strip()) and name in _TEXTS
        elif size < 0:
            width, signed = _LENGTHS[size]
            length = int.from_bytes(self._bytes.take(width), "little", signed=signed)
            self._bytes.skip(length)
            self._has_text |= length > 0 and name in _TEXTS
        elif name == "PROTO":
            if self._bytes.take(1)[0] > _HIGHEST_PROTOCOL:
                raise _Stopped
        else:
            self._bytes.skip(size)

    def _move(self, opcode: pickletools.OpcodeInfo) -> None:
        """What the opcode does to the stack."""
        name, before, after = opcode.name, opcode.stack_before, opcode.stack_after
        if name == "MARK":
            self._marks.append(self._depth)
            return
        if name == "POP" and len(self._marks) > 1 and self._depth <= self._marks[-1]:
            self._depth = self._marks.pop()
            return
        taken = len(before)
        if pickletools.markobject in before:
            if len(self._marks) == 1:
                raise _Stopped
            self._depth = self._marks.pop()
            taken = before.index(pickletools.markobject)
        if self._depth - taken < self._marks[-1]:
            raise _Stopped
        self._depth += len(after) - taken
        # Its two texts may come from anywhere, so long as there were any: without, random bytes look like one.
        self._has_name |= name == "STACK_GLOBAL" and self._has_text


class _Window:
    """The bytes from here on, a megabyte at a time. Raises `_Stopped` where they end."""

    def __init__(self, reader: BinaryIO) -> None:
        self._reader = reader
        self._buffer, self._at = b"", 0

    def peek(self, size: int) -> bytes:
        """The next bytes; fewer where the file ends."""
        self._fill(size)
        return self._buffer[self._at : self._at + size]

    def take(self, size: int) -> bytes:
        """The next bytes."""
        found = self.peek(size)
        if len(found) < size:
            raise _Stopped
        self._at += size
        return found

    def skip_run(self) -> int:
        """Go past a run of short values; returns how many."""
        self._fill(2)
        match = _RUN.match(self._buffer, self._at)
        if match is None:
            return 0
        self._at = match.end()
        return (match.end() - match.start()) // (2 if match[2] else 1)

    def skip(self, size: int) -> None:
        """Go past so many bytes without reading them."""
        if size < 0:
            raise _Stopped
        ahead = size - (len(self._buffer) - self._at)
        if ahead <= 0:
            self._at += size
            return
        self._buffer, self._at = b"", 0
        here = self._reader.tell()
        if self._reader.seek(0, io.SEEK_END) < here + ahead:
            raise _Stopped
        self._reader.seek(here + ahead)

    def line(self) -> bytes:
        """Up to the next end of a line, which is left out; of a long one the beginning."""
        kept = b""
        while (end := self._buffer.find(b"\n", self._at)) < 0:
            kept = (kept + self._buffer[self._at : self._at + _LONGEST_LINE])[:_LONGEST_LINE]
            self._buffer, self._at = self._reader.read(_WINDOW_BYTES), 0
            if not self._buffer:
                raise _Stopped
        kept = (kept + self._buffer[self._at : min(end, self._at + _LONGEST_LINE)])[:_LONGEST_LINE]
        self._at = end + 1
        return kept

    def _fill(self, size: int) -> None:
        if len(self._buffer) - self._at < size:
            self._buffer, self._at = self._buffer[self._at :] + self._reader.read(_WINDOW_BYTES), 0

"""Finds tool calls in an answer while it is written: text before and between them passes at once."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from nomoat.server.tags import possible_start
from nomoat.server.tools import CALL_END, CALL_START, Tool

__all__ = ["ToolCallParser", "ToolPiece"]

_HEAD = re.compile(r'\s*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)')


@dataclass(frozen=True, slots=True)
class ToolPiece:
    """`kind` is "text", "call" (then `text` is the tool's name) or "arguments" (a part of their JSON)."""

    kind: str
    text: str
    index: int = 0
    id: str = ""


class ToolCallParser:
    """Turns pieces of text into pieces of text and calls.

    What looks like a call but names no known tool, or is no JSON up to its arguments, stays text. Arguments
    pass as they come, so a client that checks them sees what the model wrote.
    """

    def __init__(self, tools: Sequence[Tool], parallel: bool = True) -> None:
        self._names = {tool.name for tool in tools}
        self._parallel = parallel
        self._held = ""
        self._state = self._in_text
        self._object = _ObjectEnd()
        self.calls = 0

    def push(self, text: str) -> list[ToolPiece]:
        """More of the answer."""
        self._held += text
        pieces: list[ToolPiece] = []
        while self._state(pieces):
            pass
        return pieces

    def finish(self) -> list[ToolPiece]:
        """The answer has ended: what was held back was no call after all."""
        pieces: list[ToolPiece] = []
        if self._state == self._in_text:
            _text(pieces, self._held if self.calls == 0 or self._held.strip() else "")
        elif self._state == self._in_call and not self._whole_call(pieces, self._held):
            _text(pieces, CALL_START + self._held)
        self._held = ""
        return pieces

    # Each state takes what it can from `_held` and says whether the next one should look at the rest.

    def _in_text(self, pieces: list[ToolPiece]) -> bool:
        before, tag, after = self._held.partition(CALL_START)
        if tag:
            _text(pieces, before.rstrip() if self.calls == 0 else before.strip())
            self._held, self._state = after, self._in_call
            return True
        keep = possible_start(before, CALL_START)
        text = before[: len(before) - keep]
        if self.calls == 0 or text.strip():
            # White space before a call belongs to the call; nobody shows it.
            shown = text.rstrip()
            _text(pieces, shown)
            self._held = before[len(shown) :]
        return False

    def _in_call(self, pieces: list[ToolPiece]) -> bool:
        head = _HEAD.match(self._held)
        name = _loads(head[1]) if head else None
        if head and name in self._names and (self._parallel or self.calls == 0):
            self._begin(pieces, str(name))
            self._held = self._held[head.end() :]
            self._object, self._state = _ObjectEnd(), self._in_arguments
            return True
        inside, tag, after = self._held.partition(CALL_END)
        if not tag:
            return False
        if not self._whole_call(pieces, inside):
            _text(pieces, CALL_START + inside + CALL_END)
        self._held, self._state = after, self._in_text
        return True

    def _in_arguments(self, pieces: list[ToolPiece]) -> bool:
        end = self._object.find(self._held)
        part = self._held if end is None else self._held[:end]
        if part:
            pieces.append(ToolPiece("arguments", part, self.calls - 1))
        if end is None:
            self._held = ""
            return False
        self._held, self._state = self._held[end:], self._after_arguments
        return True

    def _after_arguments(self, pieces: list[ToolPiece]) -> bool:
        _, tag, after = self._held.partition(CALL_END)
        if not tag:
            return False
        self._held, self._state = after, self._in_text
        return True

    def _whole_call(self, pieces: list[ToolPiece], text: str) -> bool:
        """Take a call whose members come in another order."""
        call = _loads(text)
        if not isinstance(call, dict) or call.get("name") not in self._names:
            return False
        arguments = call.get("arguments", call.get("parameters", {}))
        if self._parallel or self.calls == 0:
            self._begin(pieces, call["name"])
            text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
            pieces.append(ToolPiece("arguments", text, self.calls - 1))
        return True

    def _begin(self, pieces: list[ToolPiece], name: str) -> None:
        pieces.append(ToolPiece("call", name, self.calls, "call_" + secrets.token_hex(12)))
        self.calls += 1


class _ObjectEnd:
    """Finds the end of a JSON object that comes in parts."""

    def __init__(self) -> None:
        self._depth, self._quoted, self._escaped = 0, False, False

    def find(self, text: str) -> int | None:
        """Where in `text` the object ends; None while it goes on."""
        for place, letter in enumerate(text):
            if self._escaped:
                self._escaped = False
            elif self._quoted:
                self._quoted, self._escaped = letter != '"', letter == "\\"
            elif letter == '"':
                self._quoted = True
            elif letter in "{[":
                self._depth += 1
            elif letter in "}]":
                self._depth -= 1
                if self._depth == 0:
                    return place + 1
        return None


def _text(pieces: list[ToolPiece], text: str) -> None:
    if text:
        pieces.append(ToolPiece("text", text))


def _loads(text: str) -> object:
    try:
        value: object = json.loads(text)
    except ValueError:
        return None
    return value

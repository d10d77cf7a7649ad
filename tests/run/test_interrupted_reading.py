"""Ctrl-C strikes between any two steps of the program. Whoever goes on reading then still comes to the end."""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest

from nomoat.run import client
from nomoat.run.client import Exchange
from nomoat.run.protocol import Done, Piece, Request, Tokenize


class _Link:
    """A worker that has answered already."""

    def open(self, request: Request) -> client._Mailbox:
        mailbox = client._Mailbox()
        mailbox.put(Piece(request.id, "a word", (7,)))
        mailbox.put(Done(request.id, "the result"))
        return mailbox

    def send(self, message: Request) -> None:
        """Nothing is left to cancel."""


class _CtrlC:
    """Raises `KeyboardInterrupt` before the n-th instruction of the code that reads answers."""

    def __init__(self, instruction: int) -> None:
        self._left, self.struck = instruction, False

    def __call__(self, frame: FrameType, event: str, _argument: object) -> Any:
        if frame.f_code.co_filename != client.__file__:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode" and not self.struck:
            self._left -= 1
            if self._left < 0:
                self.struck = True
                raise KeyboardInterrupt
        return self

    def __enter__(self) -> _CtrlC:
        self._before = sys.gettrace()
        sys.settrace(self)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)


def _interrupted() -> Iterator[Exchange]:
    """An exchange interrupted at every instruction that reading it takes, one after the other."""
    for instruction in itertools.count():
        exchange = Exchange(_Link(), Tokenize(1, "text", True, True))  # type: ignore[arg-type]
        try:
            with _CtrlC(instruction) as ctrl_c:
                for _ in exchange:
                    pass
        except KeyboardInterrupt:
            yield exchange
        if not ctrl_c.struck:
            return


def test_an_interrupted_reader_still_comes_to_the_end() -> None:
    number = 0
    for exchange in _interrupted():
        reader = threading.Thread(target=lambda answers=exchange: list(answers), daemon=True)
        reader.start()
        reader.join(10)
        if reader.is_alive():
            pytest.fail(f"Ctrl-C before instruction {number} lost the end of the answer")
        assert exchange.finished and exchange.value == "the result"
        number += 1
    assert number > 50

"""A bound for what cannot be interrupted: llama.cpp's grammars can take for ever over one token."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from nomoat.base.errors import InputError
from nomoat.run.protocol import failure

__all__ = ["Overtime"]

_TICK_SECONDS = 0.5
_MOST_TICKS = 10  # counted, not timed, so that a process that was suspended is not taken for a stuck one
_PROBLEM = "the grammar can be read in too many ways"


class Overtime:
    """Ends the process where one call takes longer than 5 seconds: nothing else stops it, and every client waits.

    Who asked for the call is told why. The others learn from the exit status that it was not their fault: what has not
    been answered yet can be asked of the next worker.
    """

    def __init__(self, send: Callable[[Any], None]) -> None:
        """`send` takes the answer to a request, from any thread."""
        self._send = send
        self._lock = threading.Lock()
        self._calls, self._request_id, self._watched = 0, 0, False

    @contextlib.contextmanager
    def limits(self, request_id: int) -> Iterator[None]:
        """A call for this request runs inside."""
        with self._lock:
            self._calls, self._request_id = self._calls + 1, request_id
            if not self._watched:
                self._watched = True
                threading.Thread(target=self._watch, name="overtime", daemon=True).start()
        try:
            yield
        finally:
            with self._lock:
                self._request_id = 0

    def _watch(self) -> None:
        """Look at each tick whether the call is still the same; end where there was none since the last."""
        seen = ticks = 0
        while ticks < _MOST_TICKS:
            time.sleep(_TICK_SECONDS)
            with self._lock:
                same, request_id = self._calls == seen, self._request_id
                if same and not request_id:
                    self._watched = False
                    return
                seen = self._calls
            ticks = ticks + 1 if same else 0
        self._end(request_id)

    def _end(self, request_id: int) -> None:
        print("Error: a grammar can be read in too many ways", file=sys.stderr, flush=True)
        self._send(failure(request_id, InputError(_PROBLEM, "make it less ambiguous")))
        os._exit(os.EX_TEMPFAIL)

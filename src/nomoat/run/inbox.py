"""What has arrived for the worker: requests in order, and which are cancelled."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator

from nomoat.run.channel import Channel
from nomoat.run.llama import AbortFlag
from nomoat.run.protocol import Cancel, Request

__all__ = ["CLOSING_SECONDS", "Inbox"]

CLOSING_SECONDS = 2.5
"""How long the process goes on at most when its parent is gone."""


class Inbox:
    """A thread reads messages; the main thread takes them between evaluations.

    A cancelled request stops the evaluation that runs, where that works for no other request.
    """

    def __init__(self, channel: Channel, abort: AbortFlag, answer_at_once: Callable[[Request], bool]) -> None:
        """`answer_at_once` is asked for every request, from the reading thread; where it says True, that was all."""
        self._channel, self._abort, self._answer_at_once = channel, abort, answer_at_once
        self._arrived = threading.Condition()
        self._requests: list[Request] = []
        self._cancelled: set[int] = set()
        self._evaluating: set[int] = set()
        self.closed = False

    def start(self) -> None:
        """Begin to read."""
        threading.Thread(target=self._read_forever, name="inbox", daemon=True).start()

    @property
    def has_news(self) -> bool:
        """Whether `take` would return something at once, or the parent is gone."""
        return bool(self._requests or self._cancelled or self.closed)

    def take(self, wait: bool) -> tuple[list[Request], set[int]]:
        """All that has arrived since: requests in order, ids of cancelled ones. With `wait`, something, or `closed`."""
        if not wait and not self.has_news:
            return [], set()
        with self._arrived:
            while wait and not self._requests and not self._cancelled and not self.closed:
                self._arrived.wait()
            requests, cancelled = self._requests, self._cancelled
            self._requests, self._cancelled = [], set()
        return requests, cancelled

    @contextlib.contextmanager
    def evaluating(self, ids: set[int]) -> Iterator[None]:
        """An evaluation for these requests runs inside; it may be stopped where they all are cancelled."""
        with self._arrived:
            self._evaluating = ids
            self._stop_if_unwanted()
        try:
            yield
        finally:
            with self._arrived:
                self._evaluating = set()
                if not self.closed:
                    self._abort.clear()

    def _read_forever(self) -> None:
        """Receive messages until the parent is gone, then end the process, whatever it does."""
        while True:
            try:
                message = self._channel.receive()
                answered = not isinstance(message, Cancel) and self._answer_at_once(message)
            except (EOFError, OSError):
                self._close()
                return
            if answered:
                continue
            with self._arrived:
                if isinstance(message, Cancel):
                    self._cancelled.add(message.id)
                    self._stop_if_unwanted()
                else:
                    self._requests.append(message)
                self._arrived.notify()

    def _close(self) -> None:
        """Let the main thread tidy up, for a moment."""
        with self._arrived:
            self.closed = True
            self._abort.set()
            self._arrived.notify()
        time.sleep(CLOSING_SECONDS)
        os._exit(0)

    def _stop_if_unwanted(self) -> None:
        if self._evaluating and self._evaluating <= self._cancelled:
            self._abort.set()

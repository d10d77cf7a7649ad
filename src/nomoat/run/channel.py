"""One end of the socket pair between the engine and its worker: whole messages, from any thread."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections import deque
from multiprocessing.connection import Connection
from typing import Any

__all__ = ["Channel"]


class Channel:
    """Sends and receives pickled messages. One thread receives; any thread may send."""

    def __init__(self, descriptor: int) -> None:
        """Take over the socket `descriptor`."""
        self._connection: Connection[Any, Any] = Connection(descriptor)
        self._sending = threading.Lock()
        self._outgoing: deque[object] = deque()

    def send(self, message: object) -> None:
        """Send one message. Raises `OSError` where the other end is gone.

        Never waits for a lock: the garbage collector may call this while the very thread is sending. A message that
        comes then is sent by whoever sends already.
        """
        self._outgoing.append(message)
        while self._outgoing and self._sending.acquire(blocking=False):
            try:
                while self._outgoing:
                    self._connection.send(self._outgoing.popleft())
            finally:
                self._sending.release()

    def receive(self) -> Any:
        """The next message. Raises `EOFError` or `OSError` where the other end is gone."""
        return self._connection.recv()

    def shut_down(self) -> None:
        """End the conversation for both sides; a thread that waits in `receive` wakes up."""
        # Closing alone would leave that thread asleep in the kernel.
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(self._connection.fileno())) as end:
            end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Free this end, once no thread uses it any more."""
        self._connection.close()

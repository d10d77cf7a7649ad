"""A thread that does one kind of work after the other, for a caller that must not wait for it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["BackgroundWriter"]

_Job = TypeVar("_Job")


class BackgroundWriter(Generic[_Job]):
    """Hands jobs to `write`, in order, in a thread of its own that starts with the first job."""

    def __init__(self, write: Callable[[_Job], None], most_bytes: int) -> None:
        """`most_bytes` bounds what waits; a single job of any size is taken when nothing waits.

        `write` must not raise.
        """
        self._write, self._most_bytes = write, most_bytes
        self._jobs: deque[tuple[_Job, int]] = deque()  # the first one is being written
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def has_room(self, n_bytes: int) -> bool:
        """Whether a job that holds so much memory would be taken."""
        with self._changed:
            return self._has_room(n_bytes)

    def waiting(self) -> list[_Job]:
        """The jobs that are not finished."""
        with self._changed:
            return [job for job, _ in self._jobs]

    def offer(self, job: _Job, n_bytes: int) -> bool:
        """Take a job that holds `n_bytes` of memory; False where too much waits already."""
        with self._changed:
            if not self._has_room(n_bytes):
                return False
            self._jobs.append((job, n_bytes))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="kv-writer", daemon=True)
                self._thread.start()
            self._changed.notify_all()
            return True

    def flush(self, timeout_seconds: float) -> bool:
        """Wait until nothing is left to write; False when that took too long."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._jobs, timeout_seconds)

    def close(self, timeout_seconds: float) -> None:
        """Take no more jobs, and give those that wait so much time."""
        end = time.monotonic() + timeout_seconds
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._jobs, timeout_seconds)
            while len(self._jobs) > 1:
                self._jobs.pop()
            thread = self._thread
        if thread is not None:
            thread.join(max(0.0, end - time.monotonic()))

    def _has_room(self, n_bytes: int) -> bool:
        held = sum(size for _, size in self._jobs)
        return not self._closed and (not held or held + n_bytes <= self._most_bytes)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs or self._closed)
                if not self._jobs:
                    return
                job, _ = self._jobs[0]
            self._write(job)
            del job  # its memory goes now, not when the next one comes
            with self._changed:
                self._jobs.popleft()
                self._changed.notify_all()

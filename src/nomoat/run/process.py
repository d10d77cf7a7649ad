"""Starting the worker process and learning why it ended."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
from typing import IO

from nomoat.base.settings import child_environment
from nomoat.run.barriers import SPIN_COUNT
from nomoat.run.channel import Channel

__all__ = ["WorkerProcess"]

# Without this a failed assertion starts a debugger to print a stack of the interpreter's own functions.
_ENVIRONMENT = {"GOMP_SPINCOUNT": SPIN_COUNT, "GGML_NO_BACKTRACE": "1"}

_LAST_WORDS_BYTES = 4000
_TELLING = ("GGML_ASSERT", "Fatal Python error", "what():", "MemoryError", "Error: ")
_EXIT_SECONDS = 3.0


class WorkerProcess:
    """A running worker and the channel to it."""

    def __init__(self) -> None:
        """Start a worker in a session of its own: the terminal's Ctrl-C does not reach it."""
        ours, theirs = socket.socketpair()
        self._errors: IO[bytes] = tempfile.TemporaryFile()
        with theirs:
            self._process = subprocess.Popen(
                # -P: a file named like a standard module in the user's folder must not be imported.
                [sys.executable, "-P", "-m", "nomoat.run.worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=self._errors, start_new_session=True,
                env=child_environment(unless_set=_ENVIRONMENT),
            )  # fmt: skip
        self.channel = Channel(ours.detach())

    @property
    def pid(self) -> int:
        """The worker's process id."""
        return self._process.pid

    def runs(self) -> bool:
        """Whether the process is alive."""
        return self._process.poll() is None

    def reason(self) -> str:
        """Why the worker ended: its signal or status, and its last words. Waits for the end."""
        status = self._wait()
        if status < 0:
            with contextlib.suppress(ValueError):
                return self._with_last_words(f"killed by {signal.Signals(-status).name}")
        return self._with_last_words(f"exit status {status}")

    def invites_retry(self) -> bool:
        """Whether the worker ended itself because of one request, through no fault of the others. Waits for the end."""
        return self._wait() == os.EX_TEMPFAIL

    def end(self) -> None:
        """End the worker and wait until it is gone."""
        self.channel.shut_down()
        self._wait()

    def kill(self) -> None:
        """End the worker at once, whatever it does; from any thread."""
        self._process.kill()

    def release(self) -> None:
        """Free what the parent holds of an ended worker."""
        self.channel.close()
        self._errors.close()

    def _wait(self) -> int:
        try:
            return self._process.wait(_EXIT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def _with_last_words(self, reason: str) -> str:
        size = self._errors.seek(0, 2)
        self._errors.seek(max(0, size - _LAST_WORDS_BYTES))
        lines = self._errors.read().decode("utf-8", "replace").splitlines()
        words = next((line.strip() for line in lines if any(mark in line for mark in _TELLING)), "")
        return f"{reason}; its last words: {words}" if words else reason

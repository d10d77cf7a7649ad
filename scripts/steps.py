"""Run a long command and show that it lives: elapsed time, progress where it tells any, the log on failure.

Standard library only: this runs before anything is installed.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["Steps", "clock"]

_NINJA = re.compile(rb"\[(\d+)/(\d+)\] ")
_SECONDS_BETWEEN_LINES = 20.0
_LINES_SHOWN_ON_FAILURE = 30


def clock(seconds: float) -> str:
    """Minutes and seconds, such as 4:07."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


class Steps:
    """Prints what is being done to standard error, with the time since `started` (Unix seconds)."""

    def __init__(self, started: float, log: Path) -> None:
        self._started = started
        self._log = log
        self._live = sys.stderr.isatty()
        log.write_bytes(b"")

    def say(self, text: str) -> None:
        """One line that stays."""
        sys.stderr.write(f"[{clock(time.time() - self._started)}] {text}\n")

    def run(self, label: str, argv: list[str], env: dict[str, str] | None = None) -> None:
        """Run `argv`; its output goes to the log. Exits with the log's last lines when it fails."""
        self.say(label)
        if self.try_run(argv, env) == 0:
            return
        lines = self._log.read_text(errors="replace").splitlines()[-_LINES_SHOWN_ON_FAILURE:]
        sys.stderr.write("\n".join([*lines, ""]))
        sys.stderr.write(f"error: failed: {label}\nhint:  the whole log is in {self._log}; ")
        sys.stderr.write("the next scripts/setup continues here\n")
        sys.exit(1)

    def try_run(self, argv: list[str], env: dict[str, str] | None = None) -> int:
        """Run `argv` with a heartbeat and return its exit status."""
        with self._log.open("ab") as log, self._log.open("rb") as reader:
            log.write(f"\n$ {' '.join(argv)}\n".encode())
            log.flush()
            reader.seek(0, 2)
            process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, start_new_session=True
            )
            try:
                self._watch(process, reader.read)
            except BaseException:
                os.killpg(process.pid, signal.SIGTERM)  # the compilers too
                process.wait()
                raise
        return process.returncode

    def _watch(self, process: subprocess.Popen[bytes], read_more: Callable[[], bytes]) -> None:
        begun = shown = counted_since = time.monotonic()
        progress: tuple[int, int] | None = None
        while process.poll() is None:
            time.sleep(0.1 if time.monotonic() - begun < 2 else 1.0)
            now = time.monotonic()
            found = _NINJA.findall(read_more())
            if found:
                counted_since = counted_since if progress else now
                progress = (int(found[-1][0]), int(found[-1][1]))
            line = _line(now - begun, now - counted_since, progress)
            if self._live:
                sys.stderr.write(f"\r\033[K       {line}")
                sys.stderr.flush()
            elif now - shown > _SECONDS_BETWEEN_LINES:
                shown = now
                self.say(f"  {line}")
        if self._live:
            sys.stderr.write("\r\033[K")


def _line(elapsed: float, counting: float, progress: tuple[int, int] | None) -> str:
    if not progress or counting < 5:
        return f"still at it, {clock(elapsed)}"
    done, total = progress
    return f"{done} of {total} files, about {clock(counting / done * (total - done))} left"

"""llama.cpp's log inside the worker: nothing on the terminal, the last errors kept for whoever asks why."""

from __future__ import annotations

from collections import deque

import llama_cpp

__all__ = ["ErrorLog"]

_WARNING, _ERROR, _CONTINUED = 3, 4, 5  # enum ggml_log_level
_MOST_LINES = 50


class ErrorLog:
    """Takes over llama.cpp's log of this process. Keep the object: llama.cpp calls back into it."""

    def __init__(self) -> None:
        self._lines: deque[tuple[int, str]] = deque(maxlen=_MOST_LINES)
        self._level = 0
        self._callback = llama_cpp.llama_log_callback(self._collect)
        llama_cpp.llama_log_set(self._callback, None)

    def clear(self) -> None:
        """Forget the lines: what comes now belongs to the next call."""
        self._lines.clear()

    def reason(self) -> str:
        """The first error since `clear`, which names the cause; the later ones only say that it failed."""
        for wanted in (_ERROR, _WARNING):
            for level, line in self._lines:
                if level == wanted and line.strip():
                    return line.strip()
        return "no reason given"

    def _collect(self, level: int, text: bytes, user_data: object) -> None:
        self._level = self._level if level == _CONTINUED else level
        if self._level not in (_WARNING, _ERROR):
            return
        line = text.decode("utf-8", "replace")
        if level == _CONTINUED and self._lines:
            line = self._lines.pop()[1] + line
        self._lines.append((self._level, line))

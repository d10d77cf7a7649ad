"""llama.cpp's log, kept off the terminal. The only place that sets its process-wide callback."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import llama_cpp

__all__ = ["captured_log", "silence_log"]

_WARNING, _ERROR = 2, 3  # ggml_log_level


# At module level because llama.cpp keeps the pointer for as long as the process lives.
_DISCARD = llama_cpp.llama_log_callback(lambda level, text, user_data: None)


def silence_log() -> None:
    """Let llama.cpp write nothing to standard error from now on."""
    llama_cpp.llama_log_set(_DISCARD, None)


@contextlib.contextmanager
def captured_log() -> Iterator[list[str]]:
    """Collect llama.cpp's warnings and errors while the block runs, and silence it afterwards."""
    lines: list[str] = []

    def collect(level: int, text: bytes, user_data: object) -> None:
        if level in (_WARNING, _ERROR):
            lines.append(text.decode("utf-8", "replace").strip())

    callback = llama_cpp.llama_log_callback(collect)
    llama_cpp.llama_log_set(callback, None)
    try:
        yield lines
    finally:
        silence_log()

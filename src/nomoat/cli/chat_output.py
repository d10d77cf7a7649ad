"""An answer on its way to a terminal or a pipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from nomoat.run.protocol import GenerateResult

__all__ = ["Writer", "figures"]

# What a model writes is not to move the cursor, rename the window or ring the bell of a terminal.
_HARMLESS = {code: None for code in (*range(32), 127, *range(128, 160)) if chr(code) not in "\n\t"}


class Writer:
    """Writes pieces of text at once; to a terminal without control characters, to a pipe as they are."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._terminal = stream, stream.isatty()
        self._last = "\n"

    def write(self, text: str) -> None:
        """Write a piece."""
        if self._terminal:
            text = text.translate(_HARMLESS)
        if text:
            self._stream.write(text)
            self._stream.flush()
            self._last = text[-1]

    def end_line(self) -> None:
        """End the line, unless the answer did it."""
        if self._last != "\n":
            self.write("\n")


def figures(result: GenerateResult) -> str:
    """Speed and counts of an answer in one line."""
    parts = [f"{result.tokens_per_second:.1f} tok/s", f"{result.completion_tokens} tokens"]
    prompt = f"prompt {result.prompt_tokens}"
    if result.cached_tokens:
        prompt += f", {result.cached_tokens} of them remembered"
    parts.append(f"{prompt}, {result.prompt_tokens_per_second:.0f} tok/s")
    if result.finish_reason == "length":
        parts.append("cut: the limit is reached")
    return " · ".join(parts)
